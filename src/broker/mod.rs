//! The order of each channel's messages, and their delivery to every shard of every process.
//!
//! A broker takes a message, gives it an offset, and sees that every shard of every process gets
//! it through its [`Sink`]. It never hears of shards, hubs or sockets. Two implementations:
//! `embedded` (this process alone) and `redis` (a cluster of processes).
//!
//! | module | what it is |
//! |---|---|
//! | `handle`, `message`, `settings` | the contract: a handle's operations, messages, settings |
//! | `announcement`, `announcer` | what all shards of the cluster are to do; the way to them |
//! | `shared` | the broker of a process, of either kind, and its handles |
//! | `embedded`, `redis` | the two brokers |
//! | `join` | how a client joins a channel |
//! | `history`, `fanout` | the channels' recent messages; delivery to the shards of this process |
//! | `principal`, `quota`, `idempotency` | publishers: identity, shares, repetitions |
//! | `record` | what a process hands over of its broker to another process |
//! | `epoch` | random names of histories |
//! | `authorities` | the certificate authorities by which a Redis is trusted |
//! | `health`, `refusals`, `outage_log` | whether messages get through, and what is told of it |

mod announcement;
mod announcer;
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
mod record;
mod redis;
mod refusals;
mod settings;
mod shared;

#[cfg(any(test, fuzzing))]
pub(crate) use self::redis::fuzzing;
pub use self::{
    announcement::{AnnounceError, Announced, Announcement, Disconnection, Selector},
    announcer::Announcer,
    handle::{Broker, BrokerFactory, History, Sink},
    health::{Health, Reach},
    history::{Evicted, HistorySettings},
    idempotency::{IdempotencyKey, InvalidIdempotencyKey},
    join::{Behind, JoinedLog, Joins, Start},
    message::{Message, PeriodicSlot, Publication, PublishError, Receipt, SlotOutcome},
    principal::{Principal, PublisherClass},
    record::TakeError,
    redis::{NotLevel, NotSubscribed},
    refusals::RefusalExtent,
    settings::{
        BrokerSettings, HandleOwner, InvalidSettings, OnLoss, RedisSettings, RedisTls, Subscribers,
    },
    shared::{BrokerGiving, BrokerTaking, HaltedBroker, Shared, check_redis_url, connect},
};
pub use crate::position::{Missed, Position, Recovery, Since};
