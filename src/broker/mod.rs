//! The order of each channel's messages, and their delivery to every shard of every process.
//!
//! A broker takes a message, gives it an offset, and sees that every shard of every process gets
//! it through its [`Sink`]. It never hears of shards, hubs or sockets. Two implementations:
//! `embedded` (this process alone) and `redis` (a cluster of processes).

mod authorities;
mod embedded;
mod epoch;
mod fanout;
mod handle;
mod health;
mod history;
mod idempotency;
mod join;
mod message;
mod outage_log;
mod principal;
mod quota;
mod redis;
mod refusals;
mod settings;
mod shared;

pub use self::{
    handle::{Broker, BrokerFactory, History, Sink},
    health::{Health, Reach},
    history::{Evicted, HistorySettings},
    idempotency::{IdempotencyKey, InvalidIdempotencyKey},
    join::{Behind, JoinedLog, Joins, Start},
    message::{Message, PeriodicSlot, Publication, PublishError, Receipt, SlotOutcome},
    principal::Principal,
    refusals::RefusalExtent,
    settings::{BrokerSettings, HandleOwner, InvalidSettings, OnLoss, RedisSettings, Subscribers},
    shared::{Shared, check_redis_url, connect},
};
pub use crate::position::{Missed, Position, Recovery, Since};
