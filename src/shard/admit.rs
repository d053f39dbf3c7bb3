//! The admission of a client: into the hub, joined at the broker, told where it begins.
//!
//! The hub first, so that nothing is missed that comes once the broker has subscribed; what that
//! takes, and in which order, is [`crate::broker::Joins::join`]'s matter.

use std::rc::Rc;

use futures_util::future::join_all;

use super::{core::Core, join_limiter::Busy};
use crate::{
    broker::{Behind, JoinedLog, Position, Start},
    channel::ChannelName,
    clock::Millis,
    conn::{Connected, Credential, Endpoint, Joined, SubscribeRequest},
    http,
    hub::{Encoding, Key},
    ws::close::CloseReason,
};

/// A client in the table that is waiting for its 101 to go out; withdrawn if dropped.
struct Admitted {
    core: Rc<Core>,
    key: Key,
    is_connected: bool,
}

impl http::Ticket for Admitted {
    fn connect(mut self: Box<Self>, connected: Connected, now: Millis) -> Key {
        self.is_connected = true;
        // Disconnected since its token was verified, before the table knew whose it is.
        let is_kept_out = match &connected.arrival.credential {
            Some(Credential::Token(token)) => self.core.verifier.keeps_out(&token.rights),
            Some(Credential::Api) | None => false,
        };
        let key = self.key;
        self.core.with(|clients| match is_kept_out {
            true => clients.connect_to_close(key, connected, CloseReason::Disconnected, now),
            false => clients.connect(key, connected, now),
        });
        self.key
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if !self.is_connected {
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
    wanted: Vec<SubscribeRequest>,
    encoding: Encoding,
) -> Result<http::Admission, http::NotAdmitted> {
    // Before anything is held for it.
    let _permit =
        core.join_limiter.acquire(&wanted).await.map_err(|Busy| http::NotAdmitted::Busy)?;
    let channels: Vec<_> = wanted.iter().map(|one| one.channel.clone()).collect();
    let resumes = wanted.iter().any(|one| one.since.is_some());
    let admitted = core.with_open(|clients| {
        if !clients.make_room(&channels, encoding, channels.len()) {
            return Err(http::NotAdmitted::TooManyChannels);
        }
        let key = clients.admit(Endpoint::Ws, encoding, &channels);
        if resumes {
            clients.hold(key);
        }
        let joined: Vec<_> = channels.iter().map(|channel| clients.position(channel)).collect();
        Ok((key, joined))
    });
    let (key, joined) = admitted.await?;
    let ticket = Box::new(Admitted { core: core.clone(), key, is_connected: false });
    // All at once: many channels must not take many round trips, or deadlines.
    let joining = wanted.into_iter().zip(joined).map(|(one, at)| join(core, key, one, at));
    let starts: Result<Vec<_>, Behind> = join_all(joining).await.into_iter().collect();
    let starts = starts.map_err(|Behind| http::NotAdmitted::Behind)?;
    let position = |start: &Start| Some((start.channel.clone(), start.from.clone()?));
    let positions = starts.iter().filter_map(position).collect();
    core.with_open(|clients| clients.welcome(key, starts)).await;
    Ok(http::Admission { ticket, positions })
}

/// Lets a client that is here join one more channel, and tells it where it begins there.
pub(super) async fn subscribe(core: &Rc<Core>, key: Key, wanted: SubscribeRequest) {
    let Ok(_permit) = core.join_limiter.acquire(std::slice::from_ref(&wanted)).await else {
        return core.with_open(|clients| clients.too_busy(key, &wanted.channel)).await;
    };
    let joined = core.with_open(|clients| clients.join(key, &wanted)).await;
    let Some(Joined { at }) = joined else { return };
    let channel = wanted.channel.clone();
    let start = join(core, key, wanted, at).await;
    core.with_open(|clients| match start {
        Ok(start) => clients.subscribed(key, start),
        Err(Behind) => clients.not_subscribed(key, &channel),
    })
    .await;
}

/// Finds out where a client begins on a channel that it has joined in the hub, where its log
/// stood at `joined`.
async fn join(
    core: &Rc<Core>,
    key: Key,
    wanted: SubscribeRequest,
    joined: Option<Position>,
) -> Result<Start, Behind> {
    let SubscribeRequest { channel, since } = wanted;
    let log = ClientLog { core, key, channel: &channel, joined };
    let start = core.joins.join(&log, channel.clone(), since).await;
    if !core.clients.borrow().has_channel(channel.as_str()) {
        // All have left meanwhile.
        core.joins.forget(&channel);
    }
    start
}

/// The log of a channel in this shard, for a client that has joined it.
struct ClientLog<'a> {
    core: &'a Rc<Core>,
    key: Key,
    channel: &'a ChannelName,
    /// Where it stood then.
    joined: Option<Position>,
}

impl JoinedLog for ClientLog<'_> {
    fn start(&self, baseline: Option<&Position>) -> Option<Position> {
        let start = || self.core.with(|clients| clients.start(self.key, self.channel, baseline));
        self.joined.clone().or_else(start)
    }

    async fn settled(&self) {
        self.core.mailbox.taken().await;
    }

    async fn catch_up(&self, to: &Position) -> Option<Position> {
        loop {
            let at = self.core.with(|clients| clients.catch_up(self.key, self.channel, to));
            if at.is_some() {
                return at;
            }
            self.core.ahead.wait(self.channel, to)?.reached().await;
        }
    }
}
