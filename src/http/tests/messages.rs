//! Requests as text, and answers taken apart.

use tokio::io::{AsyncReadExt, DuplexStream};

/// A request with `Host: localhost:8000` and these further header lines.
pub(super) fn request(line: &str, headers: &[&str], body: &str) -> String {
    let mut text = format!("{line} HTTP/1.1\r\nHost: localhost:8000\r\n");
    for header in headers {
        text += &format!("{header}\r\n");
    }
    if !body.is_empty() {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    text + "\r\n" + body
}

/// A handshake for `target`, with RFC 6455's own example key.
pub(super) fn handshake(target: &str, headers: &[&str]) -> String {
    let mut all = vec![
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    all.extend(headers);
    request(&format!("GET {target}"), &all, "")
}

pub(super) fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_default()
}

/// The value of the first answer's header; empty if it has none.
pub(super) fn header(answer: &str, name: &str) -> String {
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.to_string()).unwrap_or_default()
}

/// The first answer's body as JSON.
pub(super) fn body(answer: &str) -> serde_json::Value {
    let text = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    serde_json::Deserializer::from_str(text).into_iter().next().unwrap().unwrap()
}

/// Reads one answer with a body of known length off `stream`.
pub(super) async fn read_answer(stream: &mut DuplexStream) -> String {
    let mut text = Vec::new();
    loop {
        text.push(stream.read_u8().await.unwrap());
        let Some(head) = text.strip_suffix(b"\r\n\r\n") else { continue };
        let head = String::from_utf8(head.to_vec()).unwrap();
        let length = header(&head, "content-length").parse().unwrap_or(0);
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        text.extend(body);
        return String::from_utf8(text).unwrap();
    }
}
