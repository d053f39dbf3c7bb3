//! Whether some other process on this Redis takes clients: a key that each of them writes anew
//! every second, and that is gone when none is left.
//!
//! The last writer is named in it. A process that drains writes no more and reads: any name but its
//! own is another process's. If Redis does not answer in time, that counts as "no other process",
//! since a client must be able to rely on the answer.

use tokio::time::timeout;

use crate::{
    broker::redis::{
        commands::router::{CallOrder, CommandRouter},
        protocol::arguments::millis,
    },
    channel::ChannelName,
    limits::{PRESENCE_TTL, PUBLISH_CONFIRM_DEADLINE},
};

/// Tells the other processes that this one `takes_clients`; else, whether another one has said so.
pub(in crate::broker::redis) async fn tell(router: &CommandRouter, takes_clients: bool) -> bool {
    let settings = &router.settings;
    // Any channel's place in a cluster would do, as long as it is the same for all.
    let channel = ChannelName::default_channel();
    let keys = vec![settings.names.presence(&channel)];
    let mut args = vec![settings.names.process().into()];
    if takes_clients {
        args.push(millis(PRESENCE_TTL));
    }
    let asked =
        router.call(&channel, CallOrder::Unordered, &settings.scripts.presence, &keys, &args);
    match timeout(PUBLISH_CONFIRM_DEADLINE, asked).await {
        Ok(Ok(answer)) => answer.as_u64() == Some(1),
        Ok(Err(_)) | Err(_) => false,
    }
}
