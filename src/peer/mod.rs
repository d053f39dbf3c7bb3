//! Identity of the other end: addresses of clients, and the networks that they are in.
//!
//! An address here is what rules, limits and logs count by; it need not be the one of the
//! connection, which may be a proxy's. Nothing here reads a socket or knows HTTP's types.

mod client_address;
mod far_end;
mod forwarded;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod networks;
mod peer_address;
pub mod proxy_header;
mod trusted_proxies;

pub use client_address::ClientAddress;
pub use far_end::{Announced, FarEnd};
pub use networks::{InvalidNetwork, Networks};
pub use peer_address::PeerAddress;
pub use trusted_proxies::TrustedProxies;
