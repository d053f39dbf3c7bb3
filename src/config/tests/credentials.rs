//! The places where tokens count, and the channels that need none.

use super::{bad, good};
use crate::channel::ChannelPatterns;

/// Options that `option` is refused without.
pub(super) fn beside(option: &str) -> &'static [&'static str] {
    match option {
        "jwt-cookie" => &["--allowed-origins=https://app.example"],
        _ => &[],
    }
}

/// Cookies come with every page's requests, so they need a list of pages.
#[test]
fn a_cookie_needs_a_list_of_origins() {
    let cookie = "--jwt-cookie=session";
    for line in [&[cookie][..], &[cookie, "--allowed-origins=*"]] {
        let bad = bad(line, &[]);
        assert_eq!((bad.len(), bad[0].option.as_str()), (1, "jwt-cookie"), "{line:?}");
        assert!(bad[0].reason.contains("--allowed-origins"), "{}", bad[0].reason);
    }
    let config = good(&[cookie, "--allowed-origins=https://app.example"], &[]);
    assert_eq!(config.token_cookie.as_deref(), Some("session"));
}

#[test]
fn without_options_every_channel_is_public() {
    let config = good(&[], &[]);
    assert_eq!(config.public_channels, ChannelPatterns::all());
    assert!(config.query_tokens && config.token_cookie.is_none());
    let some = good(&["--public-channels=news", "--public-channels=open.*"], &[]);
    let covers = ["news", "news2", "open.a", "open"].map(|name| some.public_channels.covers(name));
    assert_eq!(covers, [true, false, true, false]);
}
