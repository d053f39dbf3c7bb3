//! Key sets from a URL: rotation, outages, and issuers that are slow or hostile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::runtime::Builder;

use super::{
    fake_issuer::{Answer, FakeIssuer},
    signer::{Signer, good_claims},
    verifying::{SECRET, assert_counts, with_secrets},
};
use crate::{
    clock::Clock,
    limits::TOKEN_JWKS_KEYS_MAX,
    metrics::TokenResult,
    token::{
        JwksUrl, Rights, TokenError, TokenSettings, Verifier, WaitingRoom,
        issuer::{FetchError, Fetched, Pace, fetch},
    },
};

/// Much longer than anything takes here.
const LONG: Duration = Duration::from_secs(60);

/// A pace at which a test never waits for the next fetch, and a failing issuer is soon given up.
const PACE: Pace = Pace {
    max_age: LONG,
    pause: Duration::ZERO,
    deadline: Duration::from_millis(500),
    wait: LONG,
    fetch,
};

struct World {
    issuer: FakeIssuer,
    verifier: Arc<Verifier>,
    runtime: tokio::runtime::Runtime,
}

impl World {
    fn new(answer: Answer, pace: Pace) -> Self {
        Self::with(answer, pace, TokenSettings::default())
    }

    /// A world whose issuer answers only when it is opened.
    fn gated(answer: Answer) -> Self {
        let pace = Pace { deadline: LONG, ..PACE };
        Self::of(FakeIssuer::gated(answer), pace, TokenSettings::default())
    }

    fn with(answer: Answer, pace: Pace, settings: TokenSettings) -> Self {
        Self::of(FakeIssuer::new(answer), pace, settings)
    }

    fn of(issuer: FakeIssuer, pace: Pace, settings: TokenSettings) -> Self {
        let settings = TokenSettings { key_set: Some(issuer.source()), ..settings };
        let verifier = Arc::new(Verifier::paced(Clock::start(), &settings, pace).unwrap());
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { issuer, verifier, runtime }
    }

    /// Shows `token` again and again until `is_over` of its outcome, or fails as `what` says.
    fn show_until(
        &self,
        what: &str,
        token: &str,
        mut is_over: impl FnMut(Result<Arc<Rights>, TokenError>) -> bool,
    ) {
        self.runtime.block_on(async {
            let showing = async {
                while !is_over(self.verifier.verify(token).await) {
                    tokio::time::sleep(BEAT).await;
                }
            };
            tokio::time::timeout(LONG, showing).await.expect(what);
        });
    }

    fn verify(&self, token: &str) -> Result<Arc<Rights>, TokenError> {
        self.runtime.block_on(self.verifier.verify(token))
    }
}

/// How often a token is shown in a wait for what happens by itself.
const BEAT: Duration = Duration::from_millis(10);

fn set(keys: &[Value]) -> Answer {
    Answer::json(&json!({ "keys": keys }).to_string())
}

fn named(signer: &Signer, kid: &str) -> String {
    signer.token(&json!({"alg": "ES256", "kid": kid}), &good_claims())
}

#[test]
fn the_first_token_waits_for_the_first_set() {
    let signer = Signer::p256();
    let world = World::new(set(&[signer.jwk("1")]), PACE);
    assert!(world.verify(&named(&signer, "1")).is_ok());
    assert!(world.verify(&signer.good("ES256")).is_ok());
    let refused = world.verify(&named(&Signer::p256(), "1"));
    assert_eq!(refused, Err(TokenError::Signature));
}

/// A token of a key that is newer than the set has that fetched again, and is good.
#[test]
fn a_new_key_is_fetched_when_a_token_names_it() {
    let (old, new) = (Signer::p256(), Signer::p256());
    let world = World::new(set(&[old.jwk("1")]), PACE);
    let first = named(&old, "1");
    assert!(world.verify(&first).is_ok());
    world.issuer.answer(set(&[new.jwk("2")]));
    assert!(world.verify(&named(&new, "2")).is_ok());
    // Its key is withdrawn, and what was remembered of it with it.
    assert_eq!(world.verify(&first).unwrap_err().hint(), "unknown key id \"1\"");
}

/// However many unknown keys are named, the issuer is asked once in a pause, and nobody waits.
#[test]
fn unknown_keys_cause_few_fetches() {
    let signer = Signer::p256();
    let world = World::new(set(&[signer.jwk("1")]), Pace { pause: LONG, ..PACE });
    assert!(world.verify(&named(&signer, "1")).is_ok());
    for number in 0..50 {
        let refused = world.verify(&named(&signer, &format!("unknown-{number}")));
        assert!(matches!(refused, Err(TokenError::UnknownKey(_))), "{refused:?}");
    }
    assert_eq!(world.issuer.requests(), 1);
}

/// While the issuer is out of reach the last good set serves; a key that this lacks may be good.
#[test]
fn an_outage_keeps_the_last_good_set() {
    let (signer, newer) = (Signer::p256(), Signer::p256());
    let world = World::new(set(&[signer.jwk("1")]), PACE);
    assert!(world.verify(&named(&signer, "1")).is_ok());
    world.issuer.answer(Answer::with("503 Service Unavailable", "", ""));
    let refused = world.verify(&named(&newer, "2")).unwrap_err();
    assert_eq!(refused, TokenError::KeyUnavailable);
    assert!(refused.is_unavailable() && refused.is_charged(), "it may be a forged one");
    // A new token of the known key.
    assert!(world.verify(&signer.token(&json!({"alg": "ES256"}), &good_claims())).is_ok());
    world.issuer.answer(set(&[newer.jwk("2")]));
    assert!(world.verify(&named(&newer, "2")).is_ok());
}

#[test]
fn a_set_that_is_too_old_is_given_up() {
    let signer = Signer::p256();
    let pace = Pace { max_age: Duration::from_millis(300), pause: LONG, ..PACE };
    let world = World::new(set(&[signer.jwk("1")]), pace);
    let token = named(&signer, "1");
    assert!(world.verify(&token).is_ok());
    world.issuer.answer(Answer::with("503 Service Unavailable", "", ""));
    let mut end = None;
    world.show_until("the set is given up", &token, |outcome| {
        end = outcome.err();
        end.is_some()
    });
    assert_eq!(end, Some(TokenError::KeysUnavailable), "a client must not throw its token away");
    assert!(!TokenError::KeysUnavailable.is_charged(), "no client is at fault");
}

/// The set of an issuer that answers never gets too old, however short it may serve.
#[test]
fn a_healthy_issuers_set_is_never_too_old() {
    let signer = Signer::p256();
    let pace = Pace { max_age: Duration::from_millis(1500), pause: LONG, ..PACE };
    let world = World::new(set(&[signer.jwk("1")]), pace);
    let token = named(&signer, "1");
    world.show_until("it is asked again and again", &token, |outcome| {
        assert!(outcome.is_ok());
        world.issuer.requests() >= 5
    });
}

/// No answer, or none that is a set, is no reason to refuse a token for good, to wait for long, or
/// to lose the set that there is.
#[test]
fn hostile_issuers_are_survived() {
    let signer = Signer::p256();
    let key = signer.jwk("1");
    let many = vec![key.clone(); TOKEN_JWKS_KEYS_MAX * 100];
    let answers = [
        ("slow", Answer::Drip),
        ("silent", Answer::Silence),
        ("endless", Answer::Endless),
        ("none", Answer::Raw(Vec::new())),
        ("no HTTP", Answer::Raw(b"SSH-2.0\r\n".to_vec())),
        ("no JSON", Answer::json("<html>")),
        ("deep", Answer::json(&"[".repeat(100_000))),
        ("no set", Answer::json("{}")),
        ("no keys", set(&[])),
        ("too many", set(&many)),
        ("useless", set(&[json!({"kty": "oct", "k": "AAAA"})])),
        ("huge head", Answer::with("200 OK", &format!("X: {}\r\n", "x".repeat(100_000)), "{}")),
        ("elsewhere", Answer::with("302 Found", "Location: http://127.0.0.1:1/\r\n", "")),
        ("away", Answer::with("302 Found", "Location: https://a.invalid/\r\n", "")),
        ("404", Answer::with("404 Not Found", "", "")),
        ("short", Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{".to_vec())),
    ];
    let world = World::new(set(&[key]), PACE);
    assert!(world.verify(&named(&signer, "1")).is_ok());
    for (name, answer) in answers {
        let fresh = World::new(answer.clone(), PACE);
        let refused = fresh.verify(&named(&signer, "1"));
        assert_eq!(refused, Err(TokenError::KeysUnavailable), "{name}");
        world.issuer.answer(answer);
        let refused = world.verify(&named(&signer, name));
        assert_eq!(refused, Err(TokenError::KeyUnavailable), "{name}");
        let mut claims = good_claims();
        claims["jti"] = name.into();
        let again = signer.token(&json!({"alg": "ES256", "kid": "1"}), &claims);
        assert!(world.verify(&again).is_ok(), "{name}");
    }
}

/// A wait for the issuer has an end of its own.
#[test]
fn a_slow_issuer_is_not_waited_for() {
    let world = World::new(Answer::Silence, Pace { deadline: LONG, wait: Duration::ZERO, ..PACE });
    let refused = world.verify(&Signer::p256().good("ES256"));
    assert_eq!(refused, Err(TokenError::KeysUnavailable));
}

/// Secrets are not the issuer's: their tokens never wait for it.
#[test]
fn a_secret_does_not_wait_for_the_issuer() {
    let settings = with_secrets(&[SECRET]);
    let world = World::with(Answer::Silence, Pace { deadline: LONG, ..PACE }, settings);
    assert!(world.verify(&Signer::hmac(SECRET).good("HS256")).is_ok());
    let refused = world.verify(&Signer::hmac(&"f".repeat(32)).good("HS256"));
    assert_eq!(refused, Err(TokenError::Signature));
}

/// Clients that come back all at once with one token cost one verification, also while that waits.
#[test]
fn equal_tokens_at_the_same_time_are_verified_once() {
    let signer = Signer::p256();
    let world = World::gated(set(&[signer.jwk("1")]));
    let token = named(&signer, "1");
    world.runtime.block_on(async {
        let mut storm: Vec<_> = (0..500).map(|_| Box::pin(world.verifier.verify(&token))).collect();
        for client in &mut storm {
            assert!(futures_util::poll!(client).is_pending());
        }
        world.issuer.open();
        for client in storm {
            assert!(client.await.is_ok());
        }
    });
    assert_counts(&world.verifier, &[(TokenResult::Ok, 1), (TokenResult::Cached, 499)]);
}

/// Tokens of unknown keys, also equal ones, wait in few places; those of further requests are
/// answered at once, and none is told that it is bad before that is known.
#[test]
fn few_requests_wait_for_the_issuer() {
    let signer = Signer::p256();
    let world = World::gated(set(&[signer.jwk("1")]));
    let room = WaitingRoom::among(20);
    let (same, known) = (named(&signer, "1"), Signer::hmac(SECRET).good("HS256"));
    world.runtime.block_on(async {
        let (mut waiting, mut refused) = (Vec::new(), 0);
        for number in 0..40 {
            let other = named(&signer, &format!("unknown-{number}"));
            let token = if number % 2 == 0 { same.clone() } else { other };
            let room = &room;
            let verifier = &world.verifier;
            let mut shown =
                Box::pin(async move { (number, verifier.verify_in(room, &token).await) });
            match futures_util::poll!(&mut shown) {
                Poll::Pending => waiting.push(shown),
                Poll::Ready((_, outcome)) => {
                    assert_eq!(outcome, Err(TokenError::KeysUnavailable));
                    refused += 1;
                }
            }
        }
        assert_eq!((waiting.len(), refused), (5, 35), "a quarter of the places");
        assert!(world.verifier.verify_in(&room, &known).await.is_err(), "it is judged at once");
        world.issuer.open();
        for shown in waiting {
            let (number, outcome) = shown.await;
            assert_eq!(outcome.is_ok(), number % 2 == 0, "{outcome:?}");
        }
        assert!(world.verifier.verify_in(&room, &same).await.is_ok());
    });
}

/// A fetch that panics is a failed one: the last good set serves on, and it is fetched again.
#[test]
fn a_panic_does_not_end_the_fetches() {
    static FETCHES: AtomicU64 = AtomicU64::new(0);
    fn panicking(url: &JwksUrl, deadline: Duration) -> Result<Fetched, FetchError> {
        match FETCHES.fetch_add(1, Ordering::SeqCst) {
            1 => panic!("on purpose"),
            _ => fetch(url, deadline),
        }
    }
    let (old, new) = (Signer::p256(), Signer::p256());
    let world = World::new(set(&[old.jwk("1")]), Pace { fetch: panicking, ..PACE });
    assert!(world.verify(&named(&old, "1")).is_ok());
    world.issuer.answer(set(&[old.jwk("1"), new.jwk("2")]));
    assert_eq!(world.verify(&named(&new, "2")), Err(TokenError::KeyUnavailable));
    assert!(world.verify(&named(&old, "1")).is_ok());
    assert!(world.verify(&named(&new, "2")).is_ok());
}

/// A set that is too old serves no longer, also while a fetch keeps its thread.
#[test]
fn a_thread_that_hangs_keeps_no_old_set() {
    static FETCHES: AtomicU64 = AtomicU64::new(0);
    fn hanging(url: &JwksUrl, deadline: Duration) -> Result<Fetched, FetchError> {
        while FETCHES.fetch_add(1, Ordering::SeqCst) > 0 {
            thread::park();
        }
        fetch(url, deadline)
    }
    let signer = Signer::p256();
    let max_age = Duration::from_millis(1500);
    let pace = Pace { max_age, fetch: hanging, wait: Duration::ZERO, ..PACE };
    let world = World::new(set(&[signer.jwk("1")]), pace);
    let token = named(&signer, "1");
    world.show_until("the set is had", &token, |outcome| outcome.is_ok());
    world.show_until("the set is given up", &token, |outcome| outcome.is_err());
}

/// A client that gives up while it waits for all leaves no trace, and the others are served.
#[test]
fn a_waiting_client_may_leave() {
    let signer = Signer::p256();
    let world = World::gated(set(&[signer.jwk("1")]));
    let token = named(&signer, "1");
    world.runtime.block_on(async {
        let mut first = Box::pin(world.verifier.verify(&token));
        let mut second = Box::pin(world.verifier.verify(&token));
        assert!(futures_util::poll!(&mut first).is_pending());
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        world.issuer.open();
        assert!(second.await.is_ok());
    });
}

/// The issuer says how long its set is fresh, within bounds: it can't have itself asked all the
/// time.
#[test]
fn a_fresh_set_is_not_fetched_again() {
    let signer = Signer::p256();
    let body = json!({ "keys": [signer.jwk("1")] }).to_string();
    let answer = Answer::with("200 OK", "Cache-Control: max-age=0\r\n", &body);
    let world = World::new(answer, Pace { pause: LONG, ..PACE });
    for _ in 0..20 {
        assert!(world.verify(&named(&signer, "1")).is_ok());
    }
    assert_eq!(world.issuer.requests(), 1);
}
