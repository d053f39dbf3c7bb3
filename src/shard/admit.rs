//! How a client gets in: into the hub, then to the broker, then told where it begins.
//!
//! The hub first, the broker second: from the broker's confirmation on nothing is missed. Then
//! the position is known after which everything comes by itself, and what was asked for of the
//! time before is found in the history. Subscribe, read, merge, in this order: any other loses or
//! repeats messages.

use std::{cell::Cell, rc::Rc};

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::{
    core::Core,
    settling::{Busy, Lookup},
};
use crate::{
    broker::{Missed, Position, Recovery, Since},
    channel::ChannelName,
    conn::{Endpoint, Joined, Start, Wanted},
    http,
    hub::{Encoding, Key},
    limits::{RESUME_RETRY, RESUME_WAIT},
};

/// A client in the table that is waiting for its 101 to go out; withdrawn if dropped.
pub(super) struct Admitted {
    core: Rc<Core>,
    pub(super) key: Key,
    pub(super) connected: Cell<bool>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if !self.connected.get() {
            self.core.with(|clients| clients.withdraw(self.key));
        }
    }
}

/// The way in for clients whose handshake is in order.
pub(super) fn admission(core: &Rc<Core>) -> Rc<http::Admit> {
    let core = core.clone();
    Rc::new(move |wanted, encoding| {
        let core = core.clone();
        Box::pin(async move { admit(&core, wanted, encoding).await })
    })
}

async fn admit(
    core: &Rc<Core>,
    wanted: Vec<Wanted>,
    encoding: Encoding,
) -> Result<http::Admission, http::NotAdmitted> {
    // Before anything is held for it.
    let _turn = core.settling.turn(&wanted).await.map_err(|Busy| http::NotAdmitted::Busy)?;
    let channels: Vec<_> = wanted.iter().map(|one| one.channel.clone()).collect();
    let resumes = wanted.iter().any(|one| one.since.is_some());
    let (key, joined) = core.with(|clients| {
        if !clients.make_room(&channels, encoding, channels.len()) {
            return Err(http::NotAdmitted::TooManyChannels);
        }
        let key = clients.admit(Endpoint::Ws, encoding, &channels);
        if resumes {
            clients.hold(key);
        }
        let joined: Vec<_> = channels.iter().map(|channel| clients.position(channel)).collect();
        Ok((key, joined))
    })?;
    let ticket = Box::new(Admitted { core: core.clone(), key, connected: Cell::new(false) });
    // All at once: many channels must not take many round trips, or deadlines.
    let settling = wanted.into_iter().zip(joined).map(|(one, at)| settle(core, key, one, at));
    let starts: Result<Vec<_>, Behind> = join_all(settling).await.into_iter().collect();
    let starts = starts.map_err(|Behind| http::NotAdmitted::Behind)?;
    let position = |start: &Start| Some((start.channel.clone(), start.from.clone()?));
    let positions = starts.iter().filter_map(position).collect();
    core.with(|clients| clients.welcome(key, starts));
    Ok(http::Admission { ticket, positions })
}

/// Lets a client that is here join one more channel, and tells it where it begins there.
pub(super) async fn subscribe(core: &Rc<Core>, key: Key, wanted: Wanted) {
    let Ok(_turn) = core.settling.turn(std::slice::from_ref(&wanted)).await else {
        return core.with(|clients| clients.too_busy(key, &wanted.channel));
    };
    let Some(Joined { at }) = core.with(|clients| clients.join(key, &wanted)) else { return };
    let channel = wanted.channel.clone();
    let start = settle(core, key, wanted, at).await;
    core.with(|clients| match start {
        Ok(start) => clients.subscribed(key, start),
        Err(Behind) => clients.not_subscribed(key, &channel),
    });
}

/// A client has got further elsewhere than this shard, and the shard does not catch up in time:
/// whatever the client was given here, it would get some of it again.
struct Behind;

/// Finds out where a client begins on a channel that it has joined in the hub, where its log
/// stood at `joined`.
async fn settle(
    core: &Rc<Core>,
    key: Key,
    wanted: Wanted,
    joined: Option<Position>,
) -> Result<Start, Behind> {
    let Wanted { channel, since } = wanted;
    let broker = core.broker();
    broker.subscribe(channel.clone()).await;
    let at = match joined {
        Some(at) => Some(at),
        None => begin(core, key, &channel, since.as_ref()).await,
    };
    let resumed = since.is_some();
    let Some(since) = since else {
        return Ok(Start { channel, from: at.clone(), to: None, resumed, missed: None });
    };
    let Some(mut to) = at else {
        let missed = unknown(&since);
        return Ok(Start { channel, from: None, to: None, resumed, missed });
    };
    if let Since::After(after) = &since
        && after.is_comparable(&to)
        && after.offset > to.offset
    {
        // Elsewhere it has got further than this shard: its log would repeat what it has. Or it
        // only says so: then there is nothing to wait for.
        if !is_unheard_of(core, &channel, after).await {
            match reach(core, key, &channel, after).await {
                Some(at) => to = at,
                None if is_unheard_of(core, &channel, after).await => {}
                None => return Err(Behind),
            }
        }
    }
    let question = core.settling.question().await;
    let Recovery { from, missed } = broker.recover(channel.clone(), since, to.clone()).await;
    drop(question);
    Ok(Start { channel, from: Some(from), to: Some(to), resumed, missed })
}

/// From where on a client hears everything on a channel of which nothing was known when it joined.
/// Who resumes is told of a hole if that does not come to be known: it waits for a moment.
async fn begin(
    core: &Rc<Core>,
    key: Key,
    channel: &ChannelName,
    since: Option<&Since>,
) -> Option<Position> {
    let at = ask(core, key, channel, since).await;
    if at.is_some() || since.is_none() {
        return at;
    }
    let again = async {
        loop {
            sleep(RESUME_RETRY).await;
            if let Some(at) = ask(core, key, channel, since).await {
                return at;
            }
        }
    };
    // Seldom: it need not take up room where nobody waits.
    Box::pin(timeout(RESUME_WAIT, again)).await.ok()
}

/// The same, asked once for all clients of the shard that want to know it now.
async fn ask(
    core: &Rc<Core>,
    key: Key,
    channel: &ChannelName,
    since: Option<&Since>,
) -> Option<Position> {
    loop {
        // Somebody else may have found out meanwhile.
        if let Some(at) = core.with(|clients| clients.start(key, channel, None)) {
            return Some(at);
        }
        match core.settling.lookup(channel) {
            Lookup::You(asking) => {
                let question = core.settling.question().await;
                let baseline = core.broker().position(channel.clone(), since).await;
                drop(question);
                let at = core.with(|clients| clients.start(key, channel, baseline.as_ref()));
                asking.answered();
                return at;
            }
            Lookup::Another(mut answer) => {
                if answer.changed().await.is_ok() {
                    return core.with(|clients| clients.start(key, channel, None));
                }
                // It has left before it knew.
            }
        }
    }
}

/// Whether the broker itself, asked now, has not got as far as `position`: then it is none of this
/// history, and only looks like one.
async fn is_unheard_of(core: &Rc<Core>, channel: &ChannelName, position: &Position) -> bool {
    let _question = core.settling.question().await;
    let since = Since::After(position.clone());
    let newest = core.broker().position(channel.clone(), Some(&since)).await;
    newest.is_some_and(|it| it.is_comparable(position) && it.offset < position.offset)
}

/// Waits until the client's log has got as far as `to`; its position there. None if it does not, or
/// too many wait.
async fn reach(
    core: &Rc<Core>,
    key: Key,
    channel: &ChannelName,
    to: &Position,
) -> Option<Position> {
    let reached = async {
        loop {
            if let Some(at) = core.with(|clients| clients.catch_up(key, channel, to)) {
                return Some(at);
            }
            core.ahead.wait(channel, to)?.reached().await;
        }
    };
    timeout(RESUME_WAIT, reached).await.ok().flatten()
}

/// What is missing when nobody knows where the channel stands.
fn unknown(since: &Since) -> Option<Missed> {
    match since {
        Since::After(after) => {
            Some(Missed { epoch: None, from: after.offset + 1, to: None, sure: false })
        }
        Since::Newest(0) => None,
        Since::Newest(_) => Some(Missed { epoch: None, from: 1, to: None, sure: false }),
    }
}
