//! Announcements on their way through Redis to all other processes.
//!
//! They go out at most once. If Redis is out of reach, refuses or does not answer in time, the
//! others were not surely told, and the caller learns that; nothing is repeated, since what is to
//! be done may have been overtaken by then. Bans are kept in Redis: a process that was away reads
//! them when it is subscribed again.

use fred::types::Value;
use tokio::time::timeout;

use super::{
    commands::router::{CallOrder, CommandRouter},
    protocol::{announcement, arguments::millis, replies, scripts::Script},
};
use crate::{
    bans::BansFull,
    broker::Announcement,
    channel::ChannelName,
    limits::{BANS_MAX, PUBLISH_CONFIRM_DEADLINE, TOKEN_TEXT_BYTES_MAX},
    metrics::Scope,
    telemetry::seldom,
};

/// Tells all other processes. The error: nobody was told, since no more can be kept out.
pub(super) async fn announce(
    router: &CommandRouter,
    announcement: &Announcement,
) -> Result<Scope, BansFull> {
    let names = &router.settings.names;
    let Announcement::Disconnect(disconnection) = announcement;
    let text = announcement::encode(names.process(), announcement);
    let mut args: Vec<Value> = vec![names.announcements().into(), text.into()];
    if let Some((bearer, time)) = disconnection.ban() {
        let banned = announcement::encode_ban(bearer).into();
        args.extend([banned, millis(time), BANS_MAX.to_string().into()]);
    }
    let answer = call(router, &router.settings.scripts.announce, args).await;
    let told =
        answer.and_then(|answer| replies::told(answer).map_err(|error| error.details().to_owned()));
    match told {
        Ok(true) => Ok(Scope::Cluster),
        Ok(false) => Err(BansFull),
        Err(error) => {
            seldom!(warn, "the other processes were not told of an announcement", error);
            Ok(Scope::Local)
        }
    }
}

/// The bans that last, as announcements; the error is a reason for people.
pub(super) async fn bans(router: &CommandRouter) -> Result<Vec<Announcement>, String> {
    let longest = TOKEN_TEXT_BYTES_MAX + "sub:".len();
    let args = vec![BANS_MAX.to_string().into(), longest.to_string().into()];
    let answer = call(router, &router.settings.scripts.bans, args).await?;
    let bans = replies::bans(answer).map_err(|error| error.details().to_owned())?;
    let read = |(banned, ms): &(String, String)| announcement::decode_ban(banned, ms);
    Ok(bans.iter().filter_map(read).collect())
}

/// Runs `script` where the bans are; the error is a reason for people.
async fn call(router: &CommandRouter, script: &Script, args: Vec<Value>) -> Result<Value, String> {
    // Any channel's place in a cluster will do, as long as it is the same for all.
    let channel = ChannelName::default_channel();
    let keys = vec![router.settings.names.bans(&channel)];
    let called = router.call(&channel, CallOrder::Unordered, script, keys, args);
    match timeout(PUBLISH_CONFIRM_DEADLINE, called).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("no answer within a second".to_owned()),
    }
}
