//! Keys that are given, and what is remembered of tokens.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::FutureExt as _;
use serde_json::{Value, json};

use super::signer::{Signer, good_claims};
use crate::{
    clock::Clock,
    limits::TOKEN_BYTES_MAX,
    metrics::TokenResult,
    token::{
        JwkSet, KeySetSource, Rights, Secret, TokenError, TokenSettings, Verifier, public_keys,
        verifier::NO_CLAIMS,
    },
};

pub(super) const SECRET: &str = "0123456789abcdef0123456789abcdef";

pub(super) fn with_secrets(secrets: &[&str]) -> TokenSettings {
    let secrets = secrets.iter().map(|text| Secret::new(text).unwrap()).collect();
    TokenSettings { secrets, ..TokenSettings::default() }
}

pub(super) fn verifier(settings: &TokenSettings) -> Verifier {
    Verifier::new(Clock::start(), settings).unwrap()
}

pub(super) fn verify(verifier: &Verifier, token: &str) -> Result<Arc<Rights>, TokenError> {
    verifier.verify(token).now_or_never().expect("there is nothing to wait for")
}

#[track_caller]
pub(super) fn assert_counts(verifier: &Verifier, expected: &[(TokenResult, u64)]) {
    let counts = verifier.counts();
    for (result, count) in expected {
        assert_eq!(counts[*result as usize], *count, "{result:?} {counts:?}");
    }
    assert_eq!(counts.iter().sum::<u64>(), expected.iter().map(|(_, count)| count).sum::<u64>());
}

#[test]
fn tokens_of_every_secret_are_good() {
    let long = SECRET.repeat(2);
    let verifier = verifier(&with_secrets(&[SECRET, &long]));
    assert!(verifier.is_on());
    for (algorithm, secret) in
        [("HS256", SECRET), ("HS256", &long), ("HS384", &long), ("HS512", &long)]
    {
        let rights = verify(&verifier, &Signer::hmac(secret).good(algorithm)).unwrap();
        assert!(rights.subscribe.covers("news.eu") && rights.publish.is_empty());
    }
    assert_counts(&verifier, &[(TokenResult::Ok, 4)]);
}

#[test]
fn a_secret_serves_no_longer_hash() {
    let secret = "s".repeat(47);
    let refused =
        verify(&verifier(&with_secrets(&[&secret])), &Signer::hmac(&secret).good("HS384"));
    assert!(matches!(refused, Err(TokenError::Algorithm(_))), "{refused:?}");
}

#[test]
fn a_changed_token_is_refused() {
    let verifier = verifier(&with_secrets(&[SECRET]));
    let foreign = Signer::hmac(&"f".repeat(32)).good("HS256");
    assert_eq!(verify(&verifier, &foreign), Err(TokenError::Signature));
    let own = Signer::hmac(SECRET).good("HS256");
    assert!(verify(&verifier, &own).is_ok());
    let (message, signed) = own.rsplit_once('.').unwrap();
    let (head, _) = message.split_once('.').unwrap();
    let claims = URL_SAFE_NO_PAD.encode(r#"{"exp":100000000001}"#);
    for changed in [
        format!("{head}.{claims}.{signed}"),
        format!("{message}."),
        format!("{message}.{}", &signed[1..]),
        format!("{message}.{signed}="),
    ] {
        assert_eq!(verify(&verifier, &changed), Err(TokenError::Signature), "{changed}");
    }
}

#[test]
fn a_token_without_signature_is_refused() {
    let verifier = verifier(&with_secrets(&[SECRET]));
    for algorithm in ["none", "None", "NONE"] {
        let head = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{algorithm}"}}"#));
        let claims = URL_SAFE_NO_PAD.encode(good_claims().to_string());
        let refused = verify(&verifier, &format!("{head}.{claims}."));
        assert!(matches!(refused, Err(TokenError::Algorithm(_))), "{algorithm}");
    }
    assert_counts(&verifier, &[(TokenResult::Algorithm, 3)]);
}

#[test]
fn claims_are_checked_after_the_signature() {
    let verifier = verifier(&with_secrets(&[SECRET]));
    let signer = Signer::hmac(SECRET);
    let token = |claims: &Value| signer.token(&json!({"alg": "HS256"}), claims);
    let expired = verify(&verifier, &token(&json!({"exp": 1})));
    assert!(matches!(expired, Err(TokenError::Expired(_))), "{expired:?}");
    for claims in [json!([]), json!("a"), Value::Null] {
        assert_eq!(verify(&verifier, &token(&claims)), Err(NO_CLAIMS));
    }
    let early = json!({"exp": 100_000_000_000_u64, "nbf": 90_000_000_000_u64});
    let early = verify(&verifier, &token(&early));
    assert!(matches!(early, Err(TokenError::NotYet(_))), "{early:?}");
}

#[test]
fn without_keys_no_token_is_good() {
    let verifier = verifier(&TokenSettings::default());
    assert!(!verifier.is_on());
    let refused = verify(&verifier, &Signer::hmac(SECRET).good("HS256"));
    assert!(matches!(refused, Err(TokenError::Algorithm(_))), "{refused:?}");
}

#[test]
fn keys_of_all_sources_count_together() {
    let (pem, listed) = (Signer::p384(), Signer::ed25519());
    let set = json!({"keys": [listed.jwk("a")]}).to_string();
    let verifier = verifier(&TokenSettings {
        public_keys: public_keys(&pem.pem()).unwrap(),
        key_set: Some(KeySetSource::File(JwkSet::parse(set.as_bytes()).unwrap())),
        ..with_secrets(&[SECRET])
    });
    assert!(verify(&verifier, &pem.good("ES384")).is_ok());
    assert!(verify(&verifier, &listed.good("EdDSA")).is_ok());
    assert!(verify(&verifier, &Signer::hmac(SECRET).good("HS256")).is_ok());
}

#[test]
fn a_known_token_costs_no_verification() {
    let verifier = verifier(&with_secrets(&[SECRET]));
    let token = Signer::hmac(SECRET).good("HS256");
    let first = verify(&verifier, &token).unwrap();
    for _ in 0..99 {
        assert!(Arc::ptr_eq(&first, &verify(&verifier, &token).unwrap()));
    }
    assert_counts(&verifier, &[(TokenResult::Ok, 1), (TokenResult::Cached, 99)]);
    let bad = Signer::hmac(&"f".repeat(32)).good("HS256");
    for _ in 0..3 {
        assert_eq!(verify(&verifier, &bad), Err(TokenError::Signature));
    }
    assert_eq!(verifier.counts()[TokenResult::Signature as usize], 3);
}

/// The outcome of old keys does not outlive them, in either direction.
#[test]
fn new_keys_judge_all_tokens_anew() {
    let (old, new) = (with_secrets(&[SECRET]), with_secrets(&[&SECRET.repeat(2)]));
    let verifier = verifier(&old);
    let token = Signer::hmac(SECRET).good("HS256");
    let next = Signer::hmac(&SECRET.repeat(2)).good("HS256");
    assert!(verify(&verifier, &token).is_ok());
    assert_eq!(verify(&verifier, &next), Err(TokenError::Signature));
    assert!(!verifier.replace_keys(&old));
    assert!(verifier.replace_keys(&new));
    assert_eq!(verify(&verifier, &token), Err(TokenError::Signature));
    assert!(verify(&verifier, &next).is_ok());
}

#[test]
fn a_token_may_be_8_kib_long() {
    let verifier = verifier(&with_secrets(&[SECRET]));
    let signer = Signer::hmac(SECRET);
    let with = |bytes: usize| {
        let mut claims = good_claims();
        claims["more"] = "x".repeat(bytes).into();
        signer.token(&json!({"alg": "HS256"}), &claims)
    };
    // Three bytes are four characters.
    let room = (TOKEN_BYTES_MAX - with(0).len()) / 4 * 3;
    let (longest, longer) = (with(room), with(room + 4));
    assert!(longest.len() <= TOKEN_BYTES_MAX && longer.len() > TOKEN_BYTES_MAX);
    assert!(verify(&verifier, &longest).is_ok());
    let refused = verify(&verifier, &longer);
    assert_eq!(refused, Err(TokenError::Malformed("is longer than 8 KiB")));
}

#[test]
fn nothing_prints_a_key() {
    let settings = with_secrets(&[SECRET]);
    let shown = format!("{settings:?} {:?}", verifier(&settings));
    assert!(!shown.contains(SECRET) && !shown.contains("0123"), "{shown}");
}
