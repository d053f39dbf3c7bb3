//! Input that silence would harm: a request that is misspelt, coded or empty by mistake is refused
//! and told its mistake, instead of reaching everybody or somebody else.

use std::{fs, process::Command};

use crate::support::{
    client::Client,
    events::Events,
    http::{Http, get, once, post, post_with},
    metrics::metric,
    server::{Launch, Server},
};

fn hint(response: &crate::support::http::Response) -> String {
    response.json()["hint"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn publishing_takes_no_parameter_but_the_channel() {
    let server = Server::start(&[]);
    let mut client = Client::connect(server.addr());
    for query in
        ["chan=x", "Channel=x", "channel[]=x", "channel=x&_=1", "room=x", "since=a:1", "=x"]
    {
        let refused = post(server.addr(), &format!("/broadcast?{query}"), "stray");
        refused.assert_status(400);
        assert_eq!(refused.json()["error"], "bad_request");
        assert!(hint(&refused).contains("is channel meant"), "{query}: {refused:?}");
    }
    post(server.addr(), "/broadcast?ch%61nnel=notifications", "sentinel").assert_status(202);
    client.assert_text("sentinel");
}

/// A parameter that is nearly one of ours is refused, and any other is ignored.
#[test]
fn listening_refuses_misspelt_parameters() {
    let server = Launch::on_a_free_port(&["--log-level", "debug"]).start();
    let addr = server.addr();
    for (name, meant) in [
        ("chanel", "channel"),
        ("Channel", "channel"),
        ("channel[]", "channel"),
        ("channels", "channel"),
        ("sinse", "since"),
        ("lsat", "last"),
        ("tokne", "token"),
    ] {
        let target = format!("/ws?{name}=1");
        let refused = once(addr, crate::support::client::upgrade_request(addr, &target, ""));
        refused.assert_status(400);
        assert!(hint(&refused).contains(&format!("is {meant} meant")), "{refused:?}");
        let refused = get(addr, &format!("/sse?{name}=1"));
        refused.assert_status(400);
        assert!(hint(&refused).contains(&format!("is {meant} meant")), "{refused:?}");
    }
    let others = "_=1733&v=2&cb=x&utm_source=y&EIO=4";
    let mut client = Client::open(addr, &format!("/ws?{others}&channel=a"));
    let mut stream = Events::open(addr, &format!("/sse?channel=a&{others}"));
    post(addr, "/broadcast?channel=a", "heard").assert_status(202);
    client.assert_text("heard");
    assert_eq!(stream.text(), "heard");
    server.wait_for_log(&["DEBUG", "unknown parameters ignored", "utm_source"]);
}

/// A line of a batch is the documented object and nothing else.
#[test]
fn a_line_of_a_batch_is_the_documented_object() {
    let server = Server::start(&[]);
    let mut client = Client::connect(server.addr());
    for (line, wrong) in [
        ("[\"notifications\",\"stray\"]", "no object"),
        ("{\"data\":\"stray\",\"chanel\":\"a\"}", "unknown field `chanel`"),
        ("{\"data\":\"stray\",\"channel\":null}", "null"),
        ("{\"data\":\"stray\",\"key\":null}", "null"),
        ("{\"data\":\"stray\",\"data\":\"stray\"}", "duplicate field"),
        ("{\"data\":\"stray\"}{\"data\":\"stray\"}", "trailing"),
        ("{\"channel\":\"a\"}", "missing field `data`"),
        ("\u{feff}{\"data\":\"stray\"}", "byte order mark"),
    ] {
        let body = format!("{{\"data\":\"stray\"}}\n{line}\n");
        let kind = "Content-Type: application/x-ndjson\r\n";
        let refused = post_with(server.addr(), "/broadcast", kind, body.as_bytes());
        refused.assert_status(400);
        let hint = hint(&refused);
        assert!(hint.starts_with("line 2: ") && hint.contains(wrong), "{line}: {hint}");
    }
    post(server.addr(), "/broadcast", "sentinel").assert_status(202);
    client.assert_text("sentinel");
}

#[test]
fn a_coded_body_is_415_and_says_what_is_taken() {
    let server = Server::start(&[]);
    let mut client = Client::connect(server.addr());
    for coding in ["gzip", "GZIP", "deflate", "br", "zstd", "identity, gzip", "x"] {
        let header = format!("Content-Encoding: {coding}\r\n");
        let refused = post_with(server.addr(), "/broadcast", &header, b"\x1f\x8b\x08");
        refused.assert_status(415);
        assert_eq!(refused.header("accept-encoding"), Some("identity"), "{coding}");
        assert_eq!(refused.json()["error"], "unsupported_encoding");
    }
    let twice = "Content-Encoding: identity\r\nContent-Encoding: gzip\r\n";
    post_with(server.addr(), "/broadcast", twice, b"stray").assert_status(415);
    let reason = ["reason=\"unsupported_encoding\""];
    assert_eq!(metric(server.addr(), "wsbcast_publish_failures_total", &reason), 8.0);
    for charset in ["utf-16", "UTF-16LE", "\"utf-32\"; x=y", "ucs-2"] {
        for kind in ["text/plain", "application/json", "application/x-ndjson"] {
            let header = format!("Content-Type: {kind}; charset={charset}\r\n");
            let refused = post_with(server.addr(), "/broadcast", &header, b"\0{\0}");
            refused.assert_status(415);
            assert!(refused.text().contains("UTF-8"), "{refused:?}");
        }
    }
    let binary = "Content-Type: application/octet-stream; charset=utf-16\r\n";
    post_with(server.addr(), "/broadcast?channel=other", binary, b"\0x").assert_status(202);
    for charset in ["utf-8", "UTF8", "us-ascii", "iso-8859-1"] {
        let header = format!("Content-Type: text/plain; charset={charset}\r\n");
        post_with(server.addr(), "/broadcast?channel=other", &header, b"x").assert_status(202);
    }
    let plain = "Content-Encoding: identity\r\n";
    post_with(server.addr(), "/broadcast", plain, b"sentinel").assert_status(202);
    client.assert_text("sentinel");
}

/// A body that is no message as it stands goes to nobody; a batch is known by any of its content
/// types.
#[test]
fn a_malformed_message_is_not_published() {
    let server = Server::start(&[]);
    let mut client = Client::connect(server.addr());
    let line = b"{\"data\":\"in a batch\"}";
    for kind in ["text/plain", "application/json"] {
        let header = format!("Content-Type: {kind}\r\n");
        post_with(server.addr(), "/broadcast?channel=other", &header, line).assert_status(202);
    }
    for kind in ["application/x-njson", "application/json-seq", "multipart/form-data; boundary=x"] {
        let header = format!("Content-Type: {kind}\r\n");
        let refused = post_with(server.addr(), "/broadcast", &header, line);
        refused.assert_status(415);
        assert_eq!(refused.json()["error"], "unsupported_type", "{kind}");
    }
    let reason = ["reason=\"unsupported_type\""];
    assert_eq!(metric(server.addr(), "wsbcast_publish_failures_total", &reason), 3.0);
    for kind in ["application/ndjson", "application/jsonl", "text/x-ndjson"] {
        let header = format!("Content-Type: {kind}\r\n");
        let answer = post_with(server.addr(), "/broadcast", &header, line);
        assert!(answer.json()["results"].is_array(), "{kind}: {answer:?}");
        client.assert_text("in a batch");
        post_with(server.addr(), "/broadcast", &header, b"").assert_status(400);
    }
}

/// Transfer codings other than chunked, once, are refused, and the connection ends.
#[test]
fn other_transfer_codings_are_refused() {
    let server = Server::start(&[]);
    let addr = server.addr();
    let mut client = Client::connect(addr);
    for coding in [
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: x, CHUNKED",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
    ] {
        for target in ["POST /broadcast", "GET /livez"] {
            let mut http = Http::connect(addr);
            http.try_send(format!(
                "{target} HTTP/1.1\r\nHost: {addr}\r\n{coding}\r\n\r\n5\r\nstray\r\n0\r\n\r\n\
                 GET /livez HTTP/1.1\r\nHost: {addr}\r\n\r\n"
            ));
            let refused = http.response();
            assert!(matches!(refused.status, 400 | 501), "{target} {coding}: {refused:?}");
            assert!(http.try_response().is_none(), "{target} {coding}");
        }
    }
    let raw = format!(
        "POST /broadcast HTTP/1.1\r\nHost: {addr}\r\nTransfer-Encoding: Chunked\r\n\
         Connection: close\r\n\r\n8\r\nsentinel\r\n0\r\n\r\n"
    );
    once(addr, raw).assert_status(202);
    client.assert_text("sentinel");
}

/// `curl -d @FILE` posts an empty form where the file is missing, with a warning that scripts hide.
#[test]
fn an_empty_form_is_no_message() {
    let server = Server::start(&[]);
    let mut client = Client::connect(server.addr());
    let url = format!("http://{}/broadcast", server.addr());
    let folder = tempfile::tempdir().unwrap();
    let missing = format!("@{}", folder.path().join("missing").display());
    for arguments in
        [["-d", &*missing], ["--data-binary", &missing], ["-d", ""], ["--json", &missing]]
    {
        let mut curl = Command::new("curl");
        let out = curl.args(["-s", &url]).args(arguments).output().expect("curl is installed");
        let answer = String::from_utf8(out.stdout).unwrap();
        assert!(answer.contains("bad_request") && answer.contains("empty"), "{answer}");
    }
    fs::write(&missing[1..], "there").unwrap();
    let mut curl = Command::new("curl");
    assert!(curl.args(["-s", &url, "-d", &missing]).output().unwrap().status.success());
    client.assert_text("there");
    for meant in ["Content-Type: text/plain\r\n", ""] {
        post_with(server.addr(), "/broadcast", meant, b"").assert_status(202);
        client.assert_text("");
    }
}

#[test]
fn quotes_in_hints_have_an_end() {
    let server = Server::start(&[]);
    let addr = server.addr();
    let long = "z".repeat(20_000);
    let line = format!("{{\"{long}\":1,\"data\":1}}");
    let batch =
        post_with(addr, "/broadcast", "Content-Type: application/x-ndjson\r\n", line.as_bytes());
    let publish = post(addr, &format!("/broadcast?{long}=1"), "x");
    let listen = get(addr, &format!("/sse?channel={long}"));
    for refused in [batch, publish, listen] {
        refused.assert_status(400);
        assert!(refused.body.len() < 1000, "{}", refused.body.len());
    }
}

/// A proxy in between may have gone by the other one (RFC 9112 §6.3).
#[test]
fn behind_a_body_of_two_lengths_nothing_is_a_request() {
    let server = Server::start(&[]);
    let addr = server.addr();
    let mut client = Client::connect(addr);
    let post = format!("POST /broadcast HTTP/1.1\r\nHost: {addr}\r\n");
    for length in [4, 26] {
        let mut http = Http::connect(addr);
        http.send(format!(
            "{post}Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n\r\n\
             5\r\nfirst\r\n0\r\n\r\n{post}Content-Length: 5\r\n\r\nstray"
        ));
        http.response().assert_status(202);
        http.finish();
        http.assert_end();
        client.assert_text("first");
    }
    once(addr, format!("{post}Content-Length: 8\r\nConnection: close\r\n\r\nsentinel"));
    client.assert_text("sentinel");
}
