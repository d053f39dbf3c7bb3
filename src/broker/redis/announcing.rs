//! Announcements on their way through Redis to all other processes.
//!
//! They go out at most once. If Redis is out of reach, refuses or does not answer in time, the
//! others were not surely told, and the caller learns that; nothing is repeated, since what is to
//! be done may have been overtaken by then.

use tokio::time::timeout;

use super::{
    commands::router::{CallOrder, CommandRouter},
    protocol::announcement,
};
use crate::{
    broker::Announcement, channel::ChannelName, limits::PUBLISH_CONFIRM_DEADLINE, metrics::Scope,
    telemetry::seldom,
};

/// Tells all other processes.
pub(super) async fn announce(router: &CommandRouter, announcement: &Announcement) -> Scope {
    let names = &router.settings.names;
    let text = announcement::encode(names.process(), announcement);
    let args = vec![names.announcements().into(), text.into()];
    // Any channel's place in a cluster will do: what is published there goes through all of it.
    let channel = ChannelName::default_channel();
    let script = &router.settings.scripts.announce;
    let told = router.call(&channel, CallOrder::Unordered, script, Vec::new(), args);
    let error = match timeout(PUBLISH_CONFIRM_DEADLINE, told).await {
        Ok(Ok(_)) => return Scope::Cluster,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer within a second".to_owned(),
    };
    seldom!(warn, "the other processes were not told of an announcement", error);
    Scope::Local
}
