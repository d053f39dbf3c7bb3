//! The keys and the rules for tokens (JWT).
//!
//! Files are read here, once, and again when they are to be read anew. Every error fails closed: a
//! key that can't be read is a bad value, not one key fewer. Error messages never show a secret.

use std::{ops::RangeInclusive, time::Duration};

use super::{BadValues, args, checker::Checker, secret_file};
use crate::{
    channel::{ChannelPattern, ChannelPatterns},
    limits::{TOKEN_KEYS_MAX, TOKEN_PATTERNS_MAX, TOKEN_TEXT_BYTES_MAX},
    token::{
        CheckToken, ClaimRules, CreateToken, JwkSet, JwksUrl, KeySetSource, PublicKey, Secret,
        ShownToken, TokenSettings, public_keys,
    },
};

/// The text in error messages instead of a secret.
const HIDDEN: &str = "(hidden)";
const MAX_AGE: RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(30 * 24 * 60 * 60);
/// A token for longer than ten years is a mistake.
const EXPIRES_IN: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(10 * 366 * 24 * 60 * 60);
const SOURCES: [&str; 4] = ["jwt-secret", "jwt-secret-file", "jwt-public-key", "jwt-jwks"];

/// Reads all keys.
pub(super) fn check(checker: &mut Checker, typed: &args::TokenOptions) -> TokenSettings {
    let settings = TokenSettings {
        secrets: secrets(checker, typed),
        public_keys: public(checker, &typed.jwt_public_key),
        key_set: typed.jwt_jwks.as_deref().and_then(|text| key_set(checker, text)),
        key_set_max_age: checker.duration("jwt-jwks-max-age", &typed.jwt_jwks_max_age, MAX_AGE),
        rules: ClaimRules {
            allow_no_exp: typed.jwt_allow_no_exp,
            issuer: typed.jwt_issuer.clone(),
            audience: typed.jwt_audience.clone(),
        },
    };
    let keys = settings.secrets.len() + settings.public_keys.len();
    if keys > TOKEN_KEYS_MAX {
        let option = if settings.secrets.is_empty() { "jwt-public-key" } else { "jwt-secret" };
        let reason = format!("at most {TOKEN_KEYS_MAX} secrets and public keys");
        checker.refuse(option, keys, reason);
    }
    let has_rules = settings.rules != ClaimRules::default();
    if has_rules && !settings.has_keys() && checker.are_good(&SOURCES) {
        checker.warn(
            "rules for tokens are set, but no key: no token is looked at without \
             --jwt-secret-file, --jwt-public-key or --jwt-jwks"
                .to_owned(),
        );
    }
    settings
}

fn secrets(checker: &mut Checker, typed: &args::TokenOptions) -> Vec<Secret> {
    let mut secrets = Vec::new();
    for text in &typed.jwt_secret {
        match Secret::new(text) {
            Ok(secret) => secrets.push(secret),
            Err(reason) => {
                let shown = if text.is_empty() { "" } else { HIDDEN };
                checker.refuse("jwt-secret", shown, reason);
            }
        }
    }
    for path in &typed.jwt_secret_file {
        let read = secret_file::read(checker, "jwt-secret-file", path);
        // The last line has an end that is no part of the secret.
        let secret = read.and_then(|text| {
            Secret::new(text.trim_end_matches(['\n', '\r'])).map_err(|reason| reason.to_string())
        });
        match secret {
            Ok(secret) => secrets.push(secret),
            Err(reason) => checker.refuse("jwt-secret-file", path, reason),
        }
    }
    secrets
}

fn public(checker: &mut Checker, paths: &[String]) -> Vec<PublicKey> {
    let mut keys = Vec::new();
    for path in paths {
        let read = secret_file::read_public(checker, path);
        match read.and_then(|text| public_keys(&text).map_err(|reason| reason.to_string())) {
            Ok(found) => keys.extend(found),
            Err(reason) => checker.refuse("jwt-public-key", path, reason),
        }
    }
    keys
}

fn key_set(checker: &mut Checker, text: &str) -> Option<KeySetSource> {
    let source = if text.contains("://") {
        JwksUrl::new(text).map(KeySetSource::Url).map_err(|reason| reason.to_string())
    } else {
        secret_file::read_public(checker, text).and_then(|json| {
            let set = JwkSet::parse(json.as_bytes()).map(KeySetSource::File);
            set.map_err(|reason| reason.to_string())
        })
    };
    match source {
        Ok(source) => Some(source),
        Err(reason) => {
            checker.refuse("jwt-jwks", super::secrets::without_credentials(text), reason);
            None
        }
    }
}

/// The arguments of `wsbcast token check`.
pub(super) fn to_check(
    checker: &mut Checker,
    typed: &args::CheckOptions,
) -> Result<CheckToken, BadValues> {
    let settings = check(checker, &typed.tokens);
    checker.finish()?;
    Ok(CheckToken { token: ShownToken(typed.token.clone()), settings })
}

/// The arguments of `wsbcast token create`.
pub(super) fn to_create(
    checker: &mut Checker,
    typed: &args::CreateOptions,
) -> Result<CreateToken, BadValues> {
    let settings = check(checker, &typed.tokens);
    let subscribe = patterns(checker, "subscribe", &typed.subscribe);
    let publish = patterns(checker, "publish", &typed.publish);
    let expires_in = checker.duration("expires-in", &typed.expires_in, EXPIRES_IN);
    if let Some(sub) = typed.sub.as_deref().filter(|sub| sub.len() > TOKEN_TEXT_BYTES_MAX) {
        checker.refuse("sub", sub, format!("at most {TOKEN_TEXT_BYTES_MAX} bytes"));
    }
    let secret = settings.secrets.first().cloned();
    if secret.is_none() && checker.are_good(&["jwt-secret", "jwt-secret-file"]) {
        checker.refuse("jwt-secret-file", "", "a token is signed with an HMAC secret: name one");
    }
    checker.finish()?;
    let secret = secret.expect("without one there is a bad value");
    let rules = settings.rules;
    Ok(CreateToken { secret, rules, sub: typed.sub.clone(), subscribe, publish, expires_in })
}

fn patterns(checker: &mut Checker, option: &str, texts: &[String]) -> ChannelPatterns {
    let mut patterns = Vec::new();
    for text in texts.iter().take(TOKEN_PATTERNS_MAX + 1) {
        match ChannelPattern::new(text) {
            Ok(pattern) => patterns.push(pattern),
            Err(reason) => checker.refuse(option, text, reason),
        }
    }
    if texts.len() > TOKEN_PATTERNS_MAX {
        checker.refuse(option, texts.len(), format!("at most {TOKEN_PATTERNS_MAX} patterns"));
    }
    patterns.into()
}
