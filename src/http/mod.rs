//! HTTP/1.1 on the listeners: the handshakes, the publishing API, the ops routes.
//!
//! One connection is one future on its shard's thread ([`serve`]). hyper reads requests and writes
//! answers; everything that it has no opinion on is here: rights, every deadline, lingering after a
//! refusal, the drain guards. After a 101, or the head of an event stream, the bare connection is
//! handed back and HTTP is over. Nothing here knows a hub, a log or Redis: channels are admitted
//! through a closure, messages leave through the `Broker` trait, and ops answers come from closures
//! of their owner.

pub mod access;
mod access_log;
mod answer;
mod api_tokens;
mod authority;
mod connection;
mod context;
mod credentials;
mod driver;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod ops_pacer;
pub mod origins;
pub mod owner;
mod routes;
mod serve;
pub mod sources;
#[cfg(any(test, fuzzing))]
#[allow(clippy::unwrap_used, reason = "these are tests")]
#[cfg_attr(fuzzing, allow(unused, reason = "fuzzing needs the fixture alone"))]
pub(crate) mod tests;
mod unreadable;

pub use self::{
    access_log::unreadable as log_unreadable,
    api_tokens::ApiTokens,
    connection::{
        places::{Place, Places, Room},
        record::ConnectionRecord,
        wire::Wire,
    },
    context::{Admission, Admit, Context, HttpSettings, NotAdmitted, Public, Purpose, Ticket},
    routes::pace::BatchRoom,
    serve::{Upgraded, serve, serve_on},
};
pub use crate::conn::SubscribeRequest;
