//! Announcements on their way through Redis to all other processes.
//!
//! They go out at most once. If Redis is out of reach, refuses or does not answer in time, the
//! others were not surely told, and the caller learns that; nothing is repeated, since what is to
//! be done may have been overtaken by then. Bans are kept in Redis: a process that was away reads
//! them when it is subscribed again. One that was given without Redis is told afterwards.

use std::time::Duration;

use fred::types::Value;
use tokio::time::timeout;

use super::{
    commands::router::{CallOrder, CommandRouter},
    protocol::{
        announcement,
        arguments::millis,
        replies::{self, Told},
        scripts::Script,
    },
};
use crate::{
    bans::{BansFull, Bearer, Given, OwnBan, SharedBan},
    broker::Announcement,
    channel::ChannelName,
    limits::{BAN_COMMANDS_MAX, BAN_MAX, BANS_MAX, PUBLISH_CONFIRM_DEADLINE, TOKEN_TEXT_BYTES_MAX},
    metrics::Scope,
    telemetry::seldom,
};

/// Tells all other processes; a ban that they were told of is entered in the table of this one.
/// The error: nobody was told, since no more can be kept out.
pub(super) async fn announce(
    router: &CommandRouter,
    announcement: &Announcement,
) -> Result<Scope, BansFull> {
    let Announcement::Disconnect(disconnection) = announcement;
    let ban = disconnection.ban();
    let args = arguments(router, announcement, ban.map(|(bearer, time)| (bearer, time, "now", 0)));
    match tell(router, args).await {
        Ok(Told::Sent(stamp)) => {
            if let (Some(bans), Some((bearer, time))) = (&router.settings.bans, ban) {
                bans.hear(bearer, time, stamp)?;
            }
            Ok(Scope::Cluster)
        }
        // A command of now is the last one.
        Ok(Told::Full | Told::Known(..)) => Err(BansFull),
        Err(error) => {
            seldom!(warn, "the other processes were not told of an announcement", error);
            Ok(Scope::Local)
        }
    }
}

/// Tells all other processes of a ban that this one has, unless Redis knows of it, or of a later
/// command about the same bearer; the error is a reason for people.
pub(super) async fn share(
    router: &CommandRouter,
    bearer: &Bearer,
    own: OwnBan,
) -> Result<Told, String> {
    // Others learn, too, of one that is over: they may keep the bearer out for longer.
    let time = own.time.max(Duration::from_millis(1));
    let (moment, ms) = match own.given {
        Given::Shared(stamp) => ("at", stamp),
        Given::Local(_) => ("ago", u64::try_from(own.age.as_millis()).unwrap_or(u64::MAX)),
    };
    let announcement = announcement::of_ban(bearer, time);
    tell(router, arguments(router, &announcement, Some((bearer, time, moment, ms)))).await
}

/// The parameters of `announce.lua`: `ban` is kept out for that time, by a command of that moment.
fn arguments(
    router: &CommandRouter,
    announcement: &Announcement,
    ban: Option<(&Bearer, Duration, &'static str, u64)>,
) -> Vec<Value> {
    let names = &router.settings.names;
    let [before, after] = announcement::encode(names.process(), announcement);
    let mut args: Vec<Value> = vec![names.announcements().into(), before.into(), after.into()];
    if let Some((bearer, time, moment, ms)) = ban {
        args.extend([announcement::encode_ban(bearer).into(), millis(time)]);
        args.extend([moment.into(), ms.to_string().into()]);
        args.extend([BANS_MAX, BAN_COMMANDS_MAX].map(|most| most.to_string().into()));
        args.push(millis(BAN_MAX));
    }
    args
}

async fn tell(router: &CommandRouter, args: Vec<Value>) -> Result<Told, String> {
    let answer = call(router, &router.settings.scripts.announce, args).await?;
    replies::told(answer).map_err(|error| error.details().to_owned())
}

/// The bans that last, and Redis' clock in milliseconds; the error is a reason for people.
pub(super) async fn bans(router: &CommandRouter) -> Result<(Vec<SharedBan>, u64), String> {
    let longest = TOKEN_TEXT_BYTES_MAX + "sub:".len();
    let args = vec![BANS_MAX.to_string().into(), longest.to_string().into()];
    let answer = call(router, &router.settings.scripts.bans, args).await?;
    let (read_at, bans) = replies::bans(answer).map_err(|error| error.details().to_owned())?;
    Ok((bans.iter().filter_map(announcement::decode_ban).collect(), read_at))
}

/// Runs `script` where the bans are; the error is a reason for people.
async fn call(router: &CommandRouter, script: &Script, args: Vec<Value>) -> Result<Value, String> {
    // Any channel's place in a cluster will do, as long as it is the same for all.
    let channel = ChannelName::default_channel();
    let names = &router.settings.names;
    let keys = vec![names.bans(&channel), names.ban_commands(&channel)];
    let called = router.call(&channel, CallOrder::Unordered, script, &keys, &args);
    match timeout(PUBLISH_CONFIRM_DEADLINE, called).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("no answer within a second".to_owned()),
    }
}
