//! An issuer that is out of reach from the start, and comes back: clients are asked to wait, and
//! not for another token.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::json;

use crate::{
    issuer::{IssuerKey, ok},
    support::{
        PATIENCE,
        client::Client,
        eventually,
        http::{Http, Response, get, post_with},
        metrics::metric,
        server::Server,
        tokens::{bearer, offer},
        v1::V1,
    },
};

/// An issuer at an address: it breaks each connection off until it has an answer.
fn issuer(answer: Arc<Mutex<Option<String>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && socket.read(&mut byte).is_ok_and(|n| n == 1) {
                request.push(byte[0]);
            }
            if let Some(answer) = &*answer.lock().unwrap() {
                let _ = socket.write_all(answer.as_bytes());
            }
        }
    });
    addr
}

#[track_caller]
fn assert_asks_to_wait(refused: &Response) {
    refused.assert_status(503);
    assert_eq!(refused.json()["error"], "keys_unavailable");
    assert_eq!(refused.header("www-authenticate"), None, "no other token would help");
    let retry_after = refused.header("retry-after").expect("it says when");
    assert!(retry_after.parse::<u32>().is_ok_and(|secs| secs > 0), "{retry_after}");
}

/// While no key was ever there each token is answered 503, and nobody else notices; when the issuer
/// is back, the same token is good.
#[test]
fn an_issuer_that_is_down_from_the_start_comes_back() {
    let (key, answer) = (IssuerKey::new(), Arc::new(Mutex::new(None)));
    let url = format!("http://{}/jwks", issuer(answer.clone()));
    let server = Server::start(&[
        "--jwt-jwks",
        &url,
        "--public-channels",
        "open",
        "--client-publish",
        "broadcast",
        "--handshakes-per-address",
        "2",
    ]);
    let addr = server.addr();
    let shown = bearer(&key.token());
    let connect = |target| Client::try_open(Http::connect(addr), addr, target, &shown);
    let stream = || {
        let mut http = Http::connect(addr);
        http.send(crate::support::events::stream_request(addr, "/sse?channel=news", &shown));
        http.try_head().expect("a head")
    };
    let publish = || post_with(addr, "/broadcast?channel=news", &shown, b"hello");
    assert_asks_to_wait(&connect("/ws?channel=news").unwrap_err());
    assert_asks_to_wait(&connect("/ws?channel=open").unwrap_err());
    assert_eq!(stream().status, 503);
    // None of it is a bad token, of which this address could show ten.
    for _ in 0..20 {
        assert_asks_to_wait(&publish());
    }
    get(addr, "/readyz").assert_status(200);
    let mut client = V1::open(addr, "/ws?channel=open");
    let refused = client.ask(&json!({"type": "token", "token": key.token()}));
    assert_eq!((&refused["type"], &refused["code"]), (&"error".into(), &"keys_unavailable".into()));
    let subscribe = json!({"type": "subscribe", "channel": "news"});
    assert_eq!(client.ask(&subscribe)["code"], "forbidden");
    for (family, count) in
        [("wsbcast_handshakes_rejected_total", 3.0), ("wsbcast_publish_failures_total", 20.0)]
    {
        assert_eq!(metric(addr, family, &["keys_unavailable"]), count, "{family}");
    }

    *answer.lock().unwrap() = Some(ok(&key.set()));
    eventually(PATIENCE, "the key is there", || publish().status == 202);
    assert_eq!(stream().status, 200);
    connect("/ws?channel=news").unwrap();
    let renewed = client.ask(&json!({"type": "token", "token": key.token()}));
    assert_eq!(renewed["type"], "token", "{renewed}");
    assert_eq!(client.ask(&subscribe)["type"], "subscribed");
    let opened =
        Client::try_open(Http::connect(addr), addr, "/ws?channel=news", &offer(&key.token()));
    V1::welcomed(opened.unwrap());
}
