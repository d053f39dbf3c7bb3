//! The rights of a shard's clients that have shown a credential: pure.
//!
//! A table beside the clients', since most servers have no such clients, and most clients of
//! others share one right: what is here is a reference to it, two deadlines, and the client's
//! places in the two lists by which an operator finds it. Channels are checked when they are joined
//! or published to, never at delivery.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use crate::{
    broker::Principal,
    clock::Millis,
    conn::token_deadlines::{DeadlinesRecord, TokenAction, TokenClock, TokenDeadlines},
    hub::Key,
    token::Rights,
};

/// The credential that a client has shown; a good one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A token of `--api-token`: it may listen to everything.
    Api,
    /// A token with rights of its own.
    Token(VerifiedToken),
}

/// A token that has been verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    /// The rights of its bearer.
    pub rights: Arc<Rights>,
    /// When it expires, on the monotonic clock.
    pub expires: Option<Millis>,
}

impl VerifiedToken {
    /// `rights` that are verified `now`, at `unix_time`.
    #[must_use]
    pub fn new(rights: Arc<Rights>, now: Millis, unix_time: Duration) -> Self {
        let expires =
            rights.expires_at.map(|secs| now + Duration::from_secs(secs).saturating_sub(unix_time));
        Self { rights, expires }
    }
}

/// The rights of one client.
#[derive(Debug)]
enum Held {
    Api,
    Token { rights: Arc<Rights>, deadlines: Option<TokenDeadlines> },
}

/// All clients of a shard that have shown a credential.
///
/// # Invariants
/// `subjects` and `ids` hold exactly the clients whose token has a `sub`, or a `jti`.
#[derive(Debug)]
pub(super) struct ClientRights {
    clients: HashMap<Key, Held>,
    /// By a hash of the name, which is with the client.
    subjects: BTreeSet<(u64, Key)>,
    ids: BTreeSet<(u64, Key)>,
    hashes: RandomState,
    clock: TokenClock,
}

impl ClientRights {
    pub(super) fn new() -> Self {
        Self {
            clients: HashMap::new(),
            subjects: BTreeSet::new(),
            ids: BTreeSet::new(),
            hashes: RandomState::new(),
            clock: TokenClock::new(),
        }
    }

    /// A client has shown a credential, in place of an earlier one. `is_told`: it can be told
    /// that its token expires. When something is due for the first time.
    pub(super) fn set(
        &mut self,
        key: Key,
        credential: Credential,
        now: Millis,
        is_told: bool,
    ) -> Option<Millis> {
        self.remove(key);
        let held = match credential {
            Credential::Api => Held::Api,
            Credential::Token(VerifiedToken { rights, expires }) => {
                self.list(key, &rights);
                let deadlines = expires.map(|expires| self.clock.draw(now, expires, is_told));
                Held::Token { rights, deadlines }
            }
        };
        let first = match &held {
            Held::Token { deadlines: Some(deadlines), .. } => Some(deadlines.first()),
            Held::Token { deadlines: None, .. } | Held::Api => None,
        };
        self.clients.insert(key, held);
        first
    }

    /// A client's credential at `now`: none for a token of `--api-token`, else the rights.
    pub(super) fn record(
        &self,
        key: Key,
        now: Millis,
    ) -> Option<(Option<&Arc<Rights>>, Option<DeadlinesRecord>)> {
        Some(match self.clients.get(&key)? {
            Held::Api => (None, None),
            Held::Token { rights, deadlines } => {
                (Some(rights), deadlines.map(|deadlines| deadlines.record(now)))
            }
        })
    }

    /// A client has shown a token of `--api-token` elsewhere.
    pub(super) fn restore_api(&mut self, key: Key) {
        self.clients.insert(key, Held::Api);
    }

    /// A client has shown a token elsewhere.
    pub(super) fn restore_token(
        &mut self,
        key: Key,
        rights: Arc<Rights>,
        deadlines: Option<DeadlinesRecord>,
        now: Millis,
    ) {
        self.list(key, &rights);
        let deadlines = deadlines.map(|record| TokenDeadlines::restore(record, now));
        self.clients.insert(key, Held::Token { rights, deadlines });
    }

    /// An operator finds a client by its token.
    fn list(&mut self, key: Key, rights: &Rights) {
        if let Some(sub) = &rights.sub {
            self.subjects.insert((self.hashes.hash_one(&**sub), key));
        }
        if let Some(jti) = &rights.jti {
            self.ids.insert((self.hashes.hash_one(&**jti), key));
        }
    }

    /// A client has left, and its commands are run.
    pub(super) fn remove(&mut self, key: Key) {
        let Some(Held::Token { rights, .. }) = self.clients.remove(&key) else { return };
        if let Some(sub) = &rights.sub {
            self.subjects.remove(&(self.hashes.hash_one(&**sub), key));
        }
        if let Some(jti) = &rights.jti {
            self.ids.remove(&(self.hashes.hash_one(&**jti), key));
        }
    }

    /// Whether a client's credential lets it listen to `channel`.
    pub(super) fn may_listen(&self, key: Key, channel: &str) -> bool {
        match self.clients.get(&key) {
            Some(Held::Api) => true,
            Some(Held::Token { rights, .. }) => rights.subscribe.covers(channel),
            None => false,
        }
    }

    /// The rights of a client's token.
    pub(super) fn of_token(&self, key: Key) -> Option<&Rights> {
        match self.clients.get(&key)? {
            Held::Token { rights, .. } => Some(rights),
            Held::Api => None,
        }
    }

    /// The principal of a client's publications by its token.
    pub(super) fn principal(&self, key: Key) -> Option<Principal> {
        self.of_token(key).map(|rights| Principal::of_subject(rights.sub.as_deref()))
    }

    /// The action due for a client's token `now`; None: nothing ever is.
    pub(super) fn on_deadline(&mut self, key: Key, now: Millis) -> Option<TokenAction> {
        match self.clients.get_mut(&key)? {
            Held::Token { deadlines, .. } => Some(deadlines.as_mut()?.on_deadline(now)),
            Held::Api => None,
        }
    }

    /// Puts the end of a client's token off until then, once. Whether it is.
    pub(super) fn postpone_end(&mut self, key: Key, until: Millis) -> bool {
        match self.clients.get_mut(&key) {
            Some(Held::Token { deadlines: Some(deadlines), .. }) => deadlines.postpone_end(until),
            _ => false,
        }
    }

    /// The clients whose tokens have this `sub`.
    pub(super) fn of_subject(&self, sub: &str) -> Vec<Key> {
        self.named(&self.subjects, sub, |rights| &rights.sub)
    }

    /// The clients whose tokens have this `jti`.
    pub(super) fn of_id(&self, jti: &str) -> Vec<Key> {
        self.named(&self.ids, jti, |rights| &rights.jti)
    }

    fn named(
        &self,
        list: &BTreeSet<(u64, Key)>,
        name: &str,
        of: fn(&Rights) -> &Option<Box<str>>,
    ) -> Vec<Key> {
        let hash = self.hashes.hash_one(name);
        let same_hash = list.range((hash, Key::from_u64(0))..);
        let keys = same_hash.take_while(|(other, _)| *other == hash).map(|(_, key)| *key);
        let is_named = |key: &Key| {
            self.of_token(*key).is_some_and(|rights| of(rights).as_deref() == Some(name))
        };
        keys.filter(is_named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{ChannelPattern, ChannelPatterns};

    fn rights(sub: Option<&str>, jti: Option<&str>) -> Rights {
        let patterns = |text| ChannelPatterns::from_iter([ChannelPattern::new(text).unwrap()]);
        Rights {
            subscribe: patterns("news.*"),
            publish: patterns("chat"),
            sub: sub.map(Into::into),
            jti: jti.map(Into::into),
            expires_at: Some(2_000),
            verified_at: 1_000,
        }
    }

    fn credential(rights: Rights) -> Credential {
        let unix_time = Duration::from_millis(1_500_500);
        Credential::Token(VerifiedToken::new(Arc::new(rights), Millis(7), unix_time))
    }

    fn key(index: usize) -> Key {
        Key::new(index, 1)
    }

    #[test]
    fn clients_are_found_by_subject_and_by_id() {
        let mut table = ClientRights::new();
        for (index, (sub, jti)) in
            [(Some("a"), Some("1")), (Some("a"), Some("2")), (None, Some("a")), (Some(""), None)]
                .into_iter()
                .enumerate()
        {
            table.set(key(index), credential(rights(sub, jti)), Millis(7), false);
        }
        table.set(key(9), Credential::Api, Millis(7), false);
        assert_eq!(table.of_subject("a"), [key(0), key(1)]);
        assert_eq!((table.of_subject(""), table.of_subject("b")), (vec![key(3)], vec![]));
        assert_eq!(table.of_id("a"), [key(2)]);
        table.set(key(0), credential(rights(Some("b"), None)), Millis(8), false);
        table.remove(key(1));
        assert_eq!((table.of_subject("a"), table.of_subject("b")), (vec![], vec![key(0)]));
        assert!(table.of_id("1").is_empty() && table.of_id("2").is_empty());
        for index in [0, 2, 3, 9] {
            table.remove(key(index));
        }
        assert!(table.clients.is_empty() && table.subjects.is_empty() && table.ids.is_empty());
    }

    #[test]
    fn a_credential_says_what_may_be_heard_and_published() {
        let mut table = ClientRights::new();
        let due = table.set(key(0), credential(rights(Some("a"), None)), Millis(7), false);
        // 499.5 seconds are left, and up to 10 more are drawn.
        assert!((499_507..=509_507).contains(&due.unwrap().0), "{due:?}");
        table.set(key(1), Credential::Api, Millis(7), false);
        let may = |client, channel| table.may_listen(key(client), channel);
        assert!(may(0, "news.eu") && !may(0, "chat") && may(1, "chat") && !may(2, "news.eu"));
        assert_eq!(table.principal(key(0)), Some(Principal::of_subject(Some("a"))));
        assert_eq!(table.principal(key(1)), None);
        assert!(table.of_token(key(0)).unwrap().publish.covers("chat"));
    }

    /// The wall clock is looked at once: what it says later does not matter.
    #[test]
    fn a_token_without_end_has_no_deadline() {
        let mut table = ClientRights::new();
        let endless = Rights { expires_at: None, ..rights(None, None) };
        assert_eq!(table.set(key(0), credential(endless), Millis(7), true), None);
        assert_eq!(table.on_deadline(key(0), Millis(u64::MAX)), None);
    }
}
