//! The common ground of tests and tools: processes that end with their owner, Redis, answers over
//! HTTP, the clock, what the kernel books on a process, and how a command line speaks.
//!
//! They know nothing of the server's inside, so checks with them are checks from outside. Every
//! wait has a deadline.

pub mod cli;
pub mod clock;
pub mod fake_redis;
pub mod http;
pub mod machine;
pub mod node;
pub mod output;
pub mod proxy;
pub mod redis;
pub mod redis_cluster;
pub mod resp;
pub mod slots;
pub mod wait;
