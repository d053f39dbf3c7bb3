//! What arrives on a subscription is put in its place: doubtful messages are compared with Redis,
//! and what is missing is fetched before anything newer is delivered.

mod doubt;
mod repair;
