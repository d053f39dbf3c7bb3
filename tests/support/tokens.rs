//! Tokens as a backend makes them: HS256 by a secret that the server has, too.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use serde_json::{Value, json};
use wsbcast::clock::Clock;

/// The secret.
const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// The option that gives it to a server.
pub(crate) const KEY: &str = "--jwt-secret=0123456789abcdef0123456789abcdef";

/// A token with these claims.
pub(crate) fn token(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&json!({"alg": "HS256", "typ": "JWT"})), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signed = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signed.as_ref()))
}

/// A token for `sub` that is good for so many seconds.
pub(crate) fn token_for(sub: &str, subscribe: &[&str], publish: &[&str], secs: u64) -> String {
    token(&json!({
        "sub": sub,
        "exp": Clock::start().unix_time().as_secs() + secs,
        "wsbcast": {"subscribe": subscribe, "publish": publish},
    }))
}

/// The header that shows it.
pub(crate) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// The header that offers `wsbcast.v1` and shows it.
pub(crate) fn offer(token: &str) -> String {
    format!("Sec-WebSocket-Protocol: wsbcast.v1, wsbcast.token.{token}\r\n")
}
