//! A request's headers: nothing that a stranger writes there is more than accepted or refused.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use libfuzzer_sys::fuzz_target;
use wsbcast::ws::{extension, handshake};

/// Those that are looked at.
const NAMES: [&str; 6] = [
    "connection",
    "upgrade",
    "sec-websocket-version",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
];

fuzz_target!(|headers: Vec<(u8, &[u8])>| {
    let mut map = HeaderMap::new();
    for (name, value) in headers.into_iter().take(100) {
        let name = NAMES[usize::from(name) % NAMES.len()];
        if let Ok(value) = HeaderValue::from_bytes(value) {
            map.append(HeaderName::from_static(name), value);
        }
    }
    let accepted = handshake::check(&Method::GET, Version::HTTP_11, &map).is_ok();
    assert!(!accepted || map.contains_key("sec-websocket-key"));
    let offers = handshake::offers_protocol(&map, "wsbcast.v1");
    assert!(!offers || map.contains_key("sec-websocket-protocol"));
    if let Some(agreement) = extension::negotiate(&map) {
        assert!(agreement.answer().to_str().is_ok_and(|text| text.starts_with("permessage-deflate")));
    }
});
