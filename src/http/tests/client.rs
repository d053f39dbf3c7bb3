//! The JavaScript client as it is served.

use super::{FOREIGN, Fixture, header, request, status};

fn get(target: &str, headers: &[&str]) -> String {
    request(&format!("GET {target}"), headers, "")
}

#[tokio::test]
async fn anyone_may_load_the_client_from_any_page() {
    let server = Fixture::new().start();
    for (target, content_type, word) in [
        ("/client.js", "text/javascript; charset=utf-8", "export class WsBcast"),
        ("/client.d.ts", "application/typescript; charset=utf-8", "export interface Options"),
    ] {
        let origin = "Origin: https://elsewhere.example";
        let answer = server.ask_as(FOREIGN, get(target, &[origin])).await;
        assert_eq!(status(&answer), 200);
        assert_eq!(header(&answer, "content-type"), content_type);
        assert_eq!(header(&answer, "access-control-allow-origin"), "*");
        assert!(answer.contains(word), "{target}");
        let head = server.ask(request(&format!("HEAD {target}"), &[], "")).await;
        assert_eq!((status(&head), head.ends_with("\r\n\r\n")), (200, true));
        assert_eq!(header(&head, "etag"), header(&answer, "etag"));
    }
}

#[tokio::test]
async fn a_copy_is_used_as_long_as_it_is_the_servers() {
    let server = Fixture::new().start();
    let first = server.ask(get("/client.js", &[])).await;
    assert_eq!(header(&first, "cache-control"), "no-cache");
    let tag = header(&first, "etag");
    for known in [tag.clone(), format!("\"another\", W/{tag}"), "*".to_owned()] {
        let answer = server.ask(get("/client.js", &[&format!("If-None-Match: {known}")])).await;
        assert_eq!(status(&answer), 304, "{known}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
        assert_eq!(header(&answer, "etag"), tag);
    }
    let other = server.ask(get("/client.js", &["If-None-Match: \"another\""])).await;
    assert_eq!(status(&other), 200);
}

#[tokio::test]
async fn gzip_is_sent_if_accepted_and_has_its_own_tag() {
    let server = Fixture::new().start();
    let plain = server.ask(get("/client.js", &[])).await;
    let asked = get("/client.js", &["Accept-Encoding: br, gzip"]);
    let head = server.ask(asked.replace("GET", "HEAD")).await;
    assert_eq!(header(&head, "content-encoding"), "gzip");
    let length = |answer: &str| header(answer, "content-length").parse::<usize>().unwrap();
    assert!(length(&head) < 5 * 1024 && length(&plain) > 2 * length(&head), "{head}");
    let tag = header(&head, "etag");
    assert_ne!(tag, header(&plain, "etag"));
    for answer in [&plain, &head] {
        assert_eq!(header(answer, "vary"), "Accept-Encoding");
    }
    for (accepted, known, expected) in
        [("gzip", tag.clone(), 304), ("identity", tag, 200), ("gzip", header(&plain, "etag"), 200)]
    {
        let headers = [&format!("Accept-Encoding: {accepted}"), &format!("If-None-Match: {known}")];
        let asked = get("/client.js", &headers.map(String::as_str)).replace("GET", "HEAD");
        assert_eq!(status(&server.ask(asked).await), expected, "{accepted} {known}");
    }
}

#[tokio::test]
async fn an_admin_listener_has_no_client() {
    let server = Fixture::with(|context| context.public = None).start();
    assert_eq!(status(&server.ask(get("/client.js", &[])).await), 404);
}
