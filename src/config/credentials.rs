//! The places where tokens count, and the channels that need none.

use super::{args, checker::Checker, values::Switch};
use crate::{
    channel::{ChannelPattern, ChannelPatterns},
    http::origins::Origins,
    limits::PUBLIC_CHANNELS_MAX,
};

pub(super) struct Credentials {
    pub(super) public_channels: ChannelPatterns,
    pub(super) query_tokens: bool,
    pub(super) token_cookie: Option<String>,
}

/// Checks them; `has_keys`: there are keys for tokens with rights.
pub(super) fn check(
    checker: &mut Checker,
    typed: &args::CredentialOptions,
    origins: &Origins,
    has_keys: bool,
) -> Credentials {
    Credentials {
        public_channels: public_channels(checker, &typed.public_channels, has_keys),
        query_tokens: checker.word::<Switch>("query-tokens", &typed.query_tokens) == Switch::On,
        token_cookie: cookie(checker, typed.jwt_cookie.clone(), origins),
    }
}

fn public_channels(checker: &mut Checker, typed: &[String], has_keys: bool) -> ChannelPatterns {
    const NAME: &str = "public-channels";
    if typed.len() > PUBLIC_CHANNELS_MAX {
        let reason = format!("at most {PUBLIC_CHANNELS_MAX} patterns");
        checker.refuse(NAME, typed.len(), reason);
    }
    let mut patterns = Vec::new();
    for text in typed {
        match ChannelPattern::new(text) {
            Ok(pattern) => patterns.push(pattern),
            Err(reason) => checker.refuse(NAME, text, reason),
        }
    }
    match (typed.is_empty(), has_keys) {
        (true, false) => ChannelPatterns::all(),
        _ => patterns.into_iter().collect(),
    }
}

/// A cookie is sent for every page that asks, so it counts for known ones only.
fn cookie(checker: &mut Checker, typed: Option<String>, origins: &Origins) -> Option<String> {
    const NAME: &str = "jwt-cookie";
    let name = typed?;
    // RFC 6265 §4.1.1: a token of RFC 2616.
    let is_name_byte =
        |byte: u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_name_byte) {
        checker.refuse(NAME, &name, "expected the name of a cookie");
    } else if origins.is_every() && checker.are_good(&["allowed-origins"]) {
        let reason = "needs --allowed-origins with the pages whose cookies count: browsers send \
                      cookies for every page that asks";
        checker.refuse(NAME, &name, reason);
    }
    Some(name)
}
