//! Heads that nobody can read are answered in words, like everything else.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Fixture, LOCAL, body, header, read_answer, request, status};
use crate::{
    http::origins::{Origin, Origins},
    limits,
};

/// A request that cannot be read is refused in words, and the connection ends.
#[tokio::test]
async fn an_unreadable_request_is_refused_in_words() {
    let server = Fixture::new().start();
    let line = |line: &str| request("POST /broadcast", &[line], "");
    let long = "x".repeat(limits::HTTP_HEAD_BYTES_MAX);
    let many = request("GET /livez", &vec!["X-Many: x"; limits::HTTP_HEADERS_MAX], "");
    let table = [
        (line("Transfer-Encoding: identity"), 400, "bad_request"),
        (line("Transfer-Encoding: chunked, gzip"), 400, "bad_request"),
        (line("Content-Length: -1"), 400, "bad_request"),
        (line("Content-Length: 1\r\nContent-Length: 2"), 400, "bad_request"),
        (line("No colon"), 400, "bad_request"),
        (line("Sp ace: x"), 400, "bad_request"),
        (line("Nul: \0"), 400, "bad_request"),
        ("NONSENSE\r\n\r\n".into(), 400, "bad_request"),
        ("\x16\x03\x01\x02\x00\x01\x00\x01".into(), 400, "bad_request"),
        ("GET / HTTP/9.9\r\n\r\n".into(), 400, "bad_request"),
        ("GET /\u{1}\u{2} HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400, "bad_request"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505, "unsupported_version"),
        (line(&format!("Long: {long}")), 431, "head_too_large"),
        (request(&format!("GET /{long}"), &[], ""), 431, "head_too_large"),
        (many, 431, "head_too_large"),
    ];
    for (raw, expected, word) in table {
        let shown = &raw[..raw.len().min(60)];
        let answer = server.ask(&raw).await;
        assert_eq!(status(&answer), expected, "{shown}: {answer}");
        assert_eq!(header(&answer, "connection"), "close", "{shown}");
        assert_eq!(header(&answer, "access-control-allow-origin"), "*", "{shown}");
        assert_eq!(header(&answer, "content-type"), "application/json", "{shown}");
        assert!(answer.contains("\r\ndate: "), "{shown}: {answer}");
        let said = body(&answer);
        assert_eq!(said["error"], word, "{shown}: {said}");
        assert!(said["hint"].as_str().unwrap().len() > 10, "{shown}: {said}");
        assert!(answer.ends_with("}\n"), "{shown}");
    }
    assert_eq!(server.control.barrier.requests(), 0);
}

/// A page of a listed origin may read it, where its origin can be found.
#[tokio::test]
async fn a_listed_page_reads_why_its_head_is_refused() {
    let listed = || ["https://app.example"].map(|origin| Origin::parse(origin).unwrap());
    let server = Fixture::with(|context| {
        context.settings.origins = Origins::listed(listed()).with_cookies();
    })
    .start();
    let shown = async |raw: String| {
        let answer = server.ask(&raw).await;
        assert!(status(&answer) >= 400, "{answer}");
        assert!(answer.to_ascii_lowercase().contains("\r\nvary: origin\r\n"), "{answer}");
        let allowed = header(&answer, "access-control-allow-origin");
        let readable = !header(&answer, "access-control-expose-headers").is_empty();
        assert_eq!(readable, !allowed.is_empty());
        assert_eq!(readable, header(&answer, "access-control-allow-credentials") == "true");
        allowed
    };
    let ours = "Origin: https://app.example";
    let long = format!("Long: {}", "x".repeat(limits::HTTP_HEAD_BYTES_MAX));
    let many: Vec<_> = std::iter::repeat_n("X-Many: x", limits::HTTP_HEADERS_MAX).collect();
    for raw in [
        request("GET /livez", &[&[ours], &many[..]].concat(), ""),
        request("GET /livez", &[&many[..], &["oRIGIN:https://app.example "]].concat(), ""),
        request("GET /livez", &[ours, &long], ""),
        request("GET /livez", &[ours, "No colon"], ""),
        format!("GET / HTTP/9.9\n{ours}\n\n"),
    ] {
        assert_eq!(shown(raw).await, "https://app.example");
    }
    let elsewhere = "Origin: https://evil.example";
    for raw in [
        request("GET /livez", &["No colon"], ""),
        request("GET /livez", &[elsewhere, "No colon"], ""),
        request("GET /livez", &[ours, elsewhere, "No colon"], ""),
        request("GET /livez", &["Origin: null", "No colon"], ""),
        // In the body, in the first line, in another field, behind the longest head, or cut off.
        request("GET /livez", &["No colon"], &format!("\r\n{ours}\r\n")),
        format!("{ours}\r\nNo colon\r\n\r\n"),
        request("GET /livez", &[&format!("X-{ours}"), "No colon"], ""),
        request("GET /livez", &[&long, ours], ""),
        format!("GET /livez HTTP/1.1\r\nNo colon\r\n{ours}"),
    ] {
        assert_eq!(shown(raw).await, "");
    }
}

/// Requests before an unreadable one are answered, and bytes behind it are nobody's request.
#[tokio::test]
async fn earlier_requests_are_answered_before_a_bad_one() {
    let server = Fixture::new().start();
    let publish = request("POST /broadcast", &[], "x");
    let answers = server.ask(format!("{publish}BAD\r\n\r\n{publish}")).await;
    assert_eq!(answers.matches("\r\ndate: ").count(), 2, "{answers}");
    assert!(answers.contains(" 202 ") && answers.contains(" 400 "), "{answers}");
    assert_eq!(server.broker.published.borrow().len(), 1);
}

#[tokio::test]
async fn peers_that_still_send_can_read_their_refusal() {
    let server = Fixture::new().start();
    let (serving, mut client) = server.connect_through(LOCAL, 512);
    let asking = async {
        let head = request("POST /broadcast", &["Transfer-Encoding: identity"], "");
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all("x".repeat(100_000).as_bytes()).await.unwrap();
        let answer = read_answer(&mut client).await;
        assert_eq!(body(&answer)["error"], "bad_request");
        client.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    };
    let (handed, ()) = tokio::join!(serving, asking);
    assert!(handed.is_none());
}
