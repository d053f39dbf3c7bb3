//! Properties of tokens: anybody may show any text as one.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{
    JwkSet, Rights, Secret, TokenError,
    claims::{ClaimRules, Claims},
    crypto,
    header::TokenHeader,
    keys::{Key, KeySet},
    verifier,
};
use crate::limits::TOKEN_TEXT_BYTES_MAX;

const SECRET: &str = "a secret of sixty-four bytes, as HS512 wants it, which all know.";
const NOW: Duration = Duration::from_secs(1_700_000_000);
/// Longest hint, in characters.
const HINT_CHARS_MAX: usize = 600;

/// A token is good only with a signature of the secret; claims give rights only within the bounds
/// and until they expire; and hints are short, in one line, and without the token. The first byte
/// of the input chooses: a whole token, the JSON of claims, of a header, or of a key set.
pub(crate) fn tokens(input: &[u8]) {
    let Some((&choice, bytes)) = input.split_first() else { return };
    let Ok(text) = str::from_utf8(bytes) else { return };
    match choice % 4 {
        0 => whole(text),
        1 => {
            if let Ok(claims) = serde_json::from_str::<Claims>(text) {
                judged(&claims);
            }
        }
        2 => header(text),
        _ => drop(JwkSet::parse(bytes)),
    }
}

fn whole(token: &str) {
    crypto::install();
    let secret = Secret::new(SECRET).expect("it is long enough");
    let keys = KeySet { given: vec![Key::hmac(&secret)], fetched: Vec::new() };
    let verified = TokenHeader::read(token).and_then(|header| keys.verify(token, &header));
    match verified {
        Ok(()) => {
            let (message, signature) = token.rsplit_once('.').expect("it has three parts");
            let signature = URL_SAFE_NO_PAD.decode(signature).expect("it was decoded");
            let hashes = [hmac::HMAC_SHA256, hmac::HMAC_SHA384, hmac::HMAC_SHA512];
            let is_signed = hashes.into_iter().any(|hash| {
                let key = hmac::Key::new(hash, SECRET.as_bytes());
                hmac::verify(&key, message.as_bytes(), &signature).is_ok()
            });
            assert!(is_signed, "a signature that is none");
            if let Ok(claims) = verifier::claims(token) {
                judged(&claims);
            }
        }
        Err(error) => {
            let hint = checked_hint(&error);
            // A text that is no token may well be a part of a hint.
            let is_token = token.len() >= 20 && token.split('.').count() == 3;
            assert!(!is_token || !hint.contains(token), "the token is told back");
        }
    }
}

fn judged(claims: &Claims) {
    match claims.check(&ClaimRules::default(), NOW) {
        Ok(rights) => {
            assert!(rights.expires_at.is_some_and(|at| at >= NOW.as_secs()), "{rights:?}");
            let texts = [&rights.sub, &rights.jti].into_iter().flatten();
            assert!({ texts }.all(|text| text.len() <= TOKEN_TEXT_BYTES_MAX));
            let written = serde_json::to_string(&rights).expect("rights are plain data");
            let again: Rights = serde_json::from_str(&written).expect("rights are restored");
            assert_eq!(again, rights);
        }
        Err(error) => drop(checked_hint(&error)),
    }
}

fn header(json: &str) {
    let token = format!("{}.e30.c2ln", URL_SAFE_NO_PAD.encode(json));
    match TokenHeader::read(&token) {
        Ok(TokenHeader { kid, .. }) => {
            let names: BTreeMap<String, IgnoredAny> =
                serde_json::from_str(json).expect("a header is an object");
            assert!(!names.contains_key("crit"), "a critical header");
            // Fields that are skipped may hold what no `Value` does: numbers beyond any float.
            let Ok(value) = serde_json::from_str::<Value>(json) else { return };
            assert_eq!(value["kid"].as_str(), kid.as_deref());
            assert_ne!(value["alg"], "none");
        }
        Err(error) => drop(checked_hint(&error)),
    }
}

fn checked_hint(error: &TokenError) -> String {
    let hint = error.hint();
    assert!(hint.chars().count() <= HINT_CHARS_MAX, "{hint}");
    assert!(!hint.contains(char::is_control), "{hint:?}");
    hint
}
