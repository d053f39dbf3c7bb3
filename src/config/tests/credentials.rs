//! The places where tokens count, and the channels that need none.

use super::{bad, good};
use crate::channel::ChannelPatterns;

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

/// With a key for tokens channels are private, and publishing by clients is closed to strangers.
#[test]
fn a_key_for_tokens_closes_what_was_open() {
    let key = "--jwt-secret=0123456789abcdef0123456789abcdef";
    let config = good(&[key, "--listen=0.0.0.0:1", "--client-publish=broadcast"], &[]);
    assert!(config.public_channels.is_empty());
    let open = good(&[key, "--public-channels=*"], &[]);
    assert_eq!(open.public_channels, ChannelPatterns::all());
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
