//! wsbcast: a WebSocket broadcast server.

pub mod broker;
pub mod channel;
pub mod clock;
pub mod drain;
pub mod hub;
pub mod limits;
pub mod metrics;
pub mod telemetry;
pub mod ws;
