//! The one place where a token becomes rights: shared by all threads of the process.

use std::{fmt, io, pin::pin, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::FutureExt as _;
use ring::digest;
use tokio::task::unconstrained;

use super::{
    cache::{Outcome, TokenHash},
    claims::{ClaimRules, Claims},
    crypto,
    error::TokenError,
    flights::Flights,
    header::TokenHeader,
    issuer::{Issuer, JwksUrl, Pace},
    keys::{InvalidJwks, Key, KeySet, PublicKey, Secret, jwks_keys},
    rights::Rights,
    store::KeyStore,
    waiting_room::WaitingRoom,
};
use crate::{
    bans::Bans,
    clock::Clock,
    limits::{TOKEN_BYTES_MAX, TOKEN_JWKS_MAX_AGE},
    metrics::{Counters, TokenResult},
};

/// The options about tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSettings {
    /// HMAC secrets; several while one replaces another.
    pub secrets: Vec<Secret>,
    /// Public keys.
    pub public_keys: Vec<PublicKey>,
    /// An issuer's key set.
    pub key_set: Option<KeySetSource>,
    /// How long the last good set serves while there is no newer one.
    pub key_set_max_age: Duration,
    /// The rules for claims.
    pub rules: ClaimRules,
}

/// Where an issuer's key set comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySetSource {
    /// A URL, which is asked again and again.
    Url(JwksUrl),
    /// A file, as it was when it was read.
    File(JwkSet),
}

/// A set of public keys that was read from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwkSet(Vec<Key>);

impl JwkSet {
    /// Reads a JSON Web Key Set (RFC 7517).
    ///
    /// # Errors
    /// When it is none, or holds no key that tokens can be verified with.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidJwks> {
        jwks_keys(json).map(Self)
    }
}

impl Default for TokenSettings {
    fn default() -> Self {
        Self {
            secrets: Vec::new(),
            public_keys: Vec::new(),
            key_set: None,
            key_set_max_age: TOKEN_JWKS_MAX_AGE,
            rules: ClaimRules::default(),
        }
    }
}

impl TokenSettings {
    /// Whether there is any source of keys: without one no token is looked at.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        !self.secrets.is_empty() || !self.public_keys.is_empty() || self.key_set.is_some()
    }

    /// The keys that are known from the start.
    fn given(&self) -> Vec<Key> {
        let public = self.public_keys.iter().map(|key| Key::public(key.clone(), None));
        let mut keys: Vec<_> = self.secrets.iter().map(Key::hmac).chain(public).collect();
        if let Some(KeySetSource::File(JwkSet(set))) = &self.key_set {
            keys.extend_from_slice(set);
        }
        keys
    }
}

/// Verifies tokens. Its `Debug` shows no key.
pub struct Verifier {
    clock: Clock,
    is_on: bool,
    rules: ClaimRules,
    store: Arc<KeyStore>,
    flights: Flights,
    issuer: Option<Issuer>,
    bans: Arc<Bans>,
    counts: Counters<{ TokenResult::WORDS.len() }>,
}

impl Verifier {
    /// A verifier with the keys and rules of `settings`. With a URL of a key set, a thread begins
    /// to fetch it.
    ///
    /// # Errors
    /// When the system refuses that thread.
    pub fn new(clock: Clock, settings: &TokenSettings) -> io::Result<Self> {
        Self::paced(clock, settings, Pace::new(settings.key_set_max_age))
    }

    /// The same, with another pace of the issuer's thread.
    pub(super) fn paced(clock: Clock, settings: &TokenSettings, pace: Pace) -> io::Result<Self> {
        crypto::install();
        let store = Arc::new(KeyStore::default());
        store.set_given(settings.given());
        let issuer = match &settings.key_set {
            Some(KeySetSource::Url(url)) => {
                Some(Issuer::start(clock, url.clone(), pace, store.clone())?)
            }
            Some(KeySetSource::File(_)) | None => None,
        };
        Ok(Self {
            clock,
            is_on: settings.has_keys(),
            rules: settings.rules.clone(),
            store,
            flights: Flights::default(),
            issuer,
            bans: Arc::new(Bans::new(clock)),
            counts: Counters::default(),
        })
    }

    /// Whether any source of keys is given. If not, [`Verifier::verify`] refuses every token.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// The rights that `token` gives now.
    ///
    /// An equal token that was shown before, or is being verified, costs no verification. A token
    /// whose key is unknown waits for the issuer's newer set, for at most
    /// [`crate::limits::TOKEN_JWKS_WAIT`].
    ///
    /// # Errors
    /// When it gives none; if [`TokenError::is_unavailable`], it may be as good as any other.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn verify(&self, token: &str) -> Result<Arc<Rights>, TokenError> {
        let (outcome, is_known) = self.look_up(token).await;
        let outcome = outcome.and_then(|rights| match self.keeps_out(&rights) {
            false => Ok(rights),
            true => Err(TokenError::KeptOut),
        });
        let result = match &outcome {
            Ok(_) if is_known => TokenResult::Cached,
            Ok(_) => TokenResult::Ok,
            Err(error) => error.result(),
        };
        self.counts.add(result as usize, 1);
        outcome
    }

    /// The same for one of many that come at once: only as long as there is room in `room` does
    /// it wait. Otherwise the token is as one whose key can't be known.
    ///
    /// # Errors
    /// As of [`Verifier::verify`].
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn verify_in(
        &self,
        room: &WaitingRoom,
        token: &str,
    ) -> Result<Arc<Rights>, TokenError> {
        // Without tokio's budget: what is pending then waits for the issuer, and for nothing else.
        let mut verifying = pin!(unconstrained(self.verify(token)));
        if let Some(outcome) = (&mut verifying).now_or_never() {
            return outcome;
        }
        let Some(_waits) = room.enter() else {
            let error = unknown_for_now(&self.store.keys().0);
            self.counts.add(error.result() as usize, 1);
            return Err(error);
        };
        verifying.await
    }

    /// Whether `token` was verified before, and was good: then it costs next to nothing.
    #[must_use]
    pub fn knows(&self, token: &str) -> bool {
        let now = self.clock.unix_time().as_secs();
        let known = || self.store.known(&hash(token), now);
        token.len() <= TOKEN_BYTES_MAX && known().is_some_and(|outcome| outcome.is_ok())
    }

    /// The bearers that are kept out, whatever their tokens say.
    #[must_use]
    pub fn bans(&self) -> &Arc<Bans> {
        &self.bans
    }

    /// Whether the bearer of a token with these rights is kept out now.
    #[must_use]
    pub fn keeps_out(&self, rights: &Rights) -> bool {
        self.bans.keep_out(rights.sub.as_deref(), rights.jti.as_deref())
    }

    /// How many tokens have had each result.
    #[must_use]
    pub fn counts(&self) -> [u64; TokenResult::WORDS.len()] {
        std::array::from_fn(|place| self.counts.get(place))
    }

    /// Takes the keys of `settings` in place of those that it had from the options, and has the
    /// issuer's set fetched. True: the keys are others, and every token is verified anew.
    pub fn replace_keys(&self, settings: &TokenSettings) -> bool {
        if let Some(issuer) = &self.issuer {
            issuer.want();
        }
        self.store.set_given(settings.given())
    }

    /// The outcome for `token`, and whether it was known.
    async fn look_up(&self, token: &str) -> (Outcome, bool) {
        if token.len() > TOKEN_BYTES_MAX {
            // Not even its hash is computed.
            return (TokenHeader::read(token).and(Err(TokenError::Signature)), false);
        }
        let hash = hash(token);
        if let Some(issuer) = &self.issuer {
            issuer.give_up_old_keys();
        }
        if let Some(known) = self.store.known(&hash, self.clock.unix_time().as_secs()) {
            return (known, true);
        }
        let mut is_known = true;
        let verify = async {
            is_known = false;
            let (outcome, generation) = self.verify_anew(token).await;
            let now = self.clock.unix_time().as_secs();
            self.store.remember(hash, &outcome, now, generation);
            outcome
        };
        let outcome = self.flights.join(hash, verify).await;
        (outcome, is_known)
    }

    /// The outcome for `token`, and the generation of the keys with which it was found.
    async fn verify_anew(&self, token: &str) -> (Outcome, u64) {
        let (mut keys, mut generation) = self.store.keys();
        let header = match TokenHeader::read(token) {
            Ok(header) => header,
            Err(error) => return (Err(error), generation),
        };
        let mut signed = keys.verify(token, &header);
        if let (Err(_), Some(issuer)) = (&signed, &self.issuer)
            && keys.may_lack(&header)
        {
            issuer.fetched_again().await;
            let tried = generation;
            (keys, generation) = self.store.keys();
            if generation != tried {
                signed = keys.verify(token, &header);
            }
            if signed.is_err() && keys.may_lack(&header) && issuer.is_failing() {
                signed = Err(unknown_for_now(&keys));
            }
        }
        let judge = || claims(token)?.check(&self.rules, self.clock.unix_time());
        (signed.and_then(|()| judge()).map(Arc::new), generation)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("is_on", &self.is_on).finish_non_exhaustive()
    }
}

/// Why a token gives no rights whose key is none of `keys`, but may be in a newer set.
fn unknown_for_now(keys: &KeySet) -> TokenError {
    match keys.fetched.is_empty() {
        true => TokenError::KeysUnavailable,
        false => TokenError::KeyUnavailable,
    }
}

fn hash(token: &str) -> TokenHash {
    let hash = digest::digest(&digest::SHA256, token.as_bytes());
    hash.as_ref().try_into().expect("the hash is that long")
}

/// The claims of `token`, whose signature is good.
pub(super) fn claims(token: &str) -> Result<Claims, TokenError> {
    let payload = token.split('.').nth(1).unwrap_or_default();
    let json = URL_SAFE_NO_PAD.decode(payload).map_err(|_| NO_CLAIMS)?;
    serde_json::from_slice(&json).map_err(|_| NO_CLAIMS)
}

pub(super) const NO_CLAIMS: TokenError =
    TokenError::Malformed("has no object of claims, each standing once");
