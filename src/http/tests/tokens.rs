//! Tokens with rights: where they are found, what they allow, and how a refusal is told.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use serde_json::{Value, json};

use super::{FOREIGN, Fixture, LOCAL, Server, body, handshake, header, request, status};
use crate::{
    bans::Bearer,
    channel::{ChannelPattern, ChannelPatterns},
    conn::{ClientPublish, Credential},
    http::access::Rules,
    metrics::{PublishFailure, Rejection},
    token::{Secret, TokenSettings, Verifier},
};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const API: &str = "an-api-token-of-ours";
/// No token that is made here expires before.
const FAR: u64 = 100_000_000_000;

/// A token as any backend makes it: HS256.
fn token(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&json!({"alg": "HS256", "typ": "JWT"})), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signed = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signed.as_ref()))
}

fn rights(subscribe: &[&str], publish: &[&str]) -> String {
    let wsbcast = json!({"subscribe": subscribe, "publish": publish});
    token(&json!({"exp": FAR, "sub": "alice", "wsbcast": wsbcast}))
}

fn expired() -> String {
    token(&json!({"exp": 1_000_000_000, "wsbcast": {"subscribe": ["*"], "publish": ["*"]}}))
}

/// A server with a key, whose channels are private but for those that begin with `open.`.
fn private(change: impl FnOnce(&mut Rules)) -> Server {
    Fixture::with(|context| {
        let secrets = vec![Secret::new(SECRET).unwrap()];
        let settings = TokenSettings { secrets, ..TokenSettings::default() };
        context.verifier = Arc::new(Verifier::new(context.clock, &settings).unwrap());
        let rules = &mut context.settings.access;
        rules.takes_tokens = true;
        rules.public_channels =
            ChannelPatterns::from_iter([ChannelPattern::new("open.*").unwrap()]);
        change(rules);
    })
    .start()
}

/// The answer to a handshake.
async fn ask(server: &Server, target: &str, headers: &[&str]) -> String {
    server.ask_as(FOREIGN, handshake(target, headers)).await
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

fn offer(entries: &str) -> String {
    format!("Sec-WebSocket-Protocol: {entries}")
}

#[tokio::test]
async fn a_private_channel_needs_a_token_that_covers_it() {
    let server = private(|_| {});
    let good = bearer(&rights(&["news.*", "chat"], &[]));
    for (target, headers, expected, word) in [
        ("/ws?channel=open.a", &[][..], 101, ""),
        ("/ws?channel=news.a", &[], 401, "unauthorized"),
        ("/ws?channel=open.a&channel=news.a", &[], 401, "unauthorized"),
        ("/ws?channel=news.a&channel=chat&channel=open.a", &[good.as_str()], 101, ""),
        ("/ws?channel=news.a&channel=secret", &[good.as_str()], 403, "forbidden"),
        ("/ws", &[good.as_str()], 403, "forbidden"),
        ("/ws?channel=open.a", &[bearer(&expired()).as_str()], 401, "bad_token"),
        ("/ws?channel=open.a", &[bearer("x").as_str()], 401, "bad_token"),
        ("/ws?channel=open.a", &["Authorization: Basic eDp5"], 101, ""),
    ] {
        for target in [target.to_owned(), target.replace("/ws", "/sse")] {
            let is_stream = target.starts_with("/sse");
            if is_stream && target.matches("channel=").count() > 1 {
                continue;
            }
            let expected = if is_stream && expected == 101 { 200 } else { expected };
            let answer = ask(&server, &target, headers).await;
            assert_eq!(status(&answer), expected, "{target} {headers:?}: {answer}");
            if !word.is_empty() {
                assert_eq!(body(&answer)["error"], word, "{answer}");
            }
        }
    }
    let rejected = |reason| server.metrics.handshakes_rejected.get(reason as usize);
    assert_eq!(rejected(Rejection::Unauthorized), 3);
    assert_eq!((rejected(Rejection::BadToken), rejected(Rejection::Forbidden)), (4, 3));
}

/// The words of RFC 6750 for each refusal.
#[tokio::test]
async fn refusals_say_why() {
    let server = private(|_| {});
    let challenge = |answer: &str| header(answer, "www-authenticate");
    let none = ask(&server, "/ws", &[]).await;
    assert_eq!(challenge(&none), "Bearer");
    let bad = ask(&server, "/ws", &[&bearer(&expired())]).await;
    assert_eq!(challenge(&bad), "Bearer error=\"invalid_token\"");
    assert!(body(&bad)["hint"].as_str().unwrap().starts_with("expired "), "{bad}");
    let narrow = ask(&server, "/ws?channel=a", &[&bearer(&rights(&["b"], &[]))]).await;
    assert_eq!(challenge(&narrow), "Bearer error=\"insufficient_scope\"");
    assert_eq!(body(&narrow)["channel"], "a");
}

#[tokio::test]
async fn a_token_is_shown_in_one_of_several_places() {
    let good = rights(&["news"], &[]);
    let both = offer(&format!("wsbcast.token.{good}, wsbcast.v1"));
    let plain = offer(&format!("wsbcast.plain, wsbcast.token.{good}"));
    let query = format!("/ws?channel=news&token={good}");
    let cookie = format!("Cookie: theme=dark; jwt={good}");
    let own_page = "Sec-Fetch-Site: same-origin";
    let server = private(|rules| rules.token_cookie = Some("jwt".into()));
    for (target, headers, protocol) in [
        ("/ws?channel=news", vec![both.as_str()], "wsbcast.v1"),
        ("/ws?channel=news", vec![&plain], "wsbcast.plain"),
        (&query, vec![], ""),
        ("/ws?channel=news", vec![&cookie, own_page], ""),
        // Another issuer's beside it.
        ("/ws?channel=news", vec![&both, "Authorization: Basic eDp5"], "wsbcast.v1"),
        ("/ws?channel=news", vec![&both, "Authorization: Bearer x.y.z"], "wsbcast.v1"),
    ] {
        let answer = ask(&server, target, &headers).await;
        assert_eq!(status(&answer), 101, "{target} {headers:?}: {answer}");
        assert_eq!(header(&answer, "sec-websocket-protocol"), protocol);
        assert!(!answer.contains(&good), "never repeated");
    }
    assert_eq!(status(&ask(&server, "/ws?channel=news", &[&cookie]).await), 401, "whose page?");
    let alone = ask(&server, "/ws?channel=news", &[&offer(&format!("wsbcast.token.{good}"))]).await;
    assert_eq!(status(&alone), 400);
    assert!(body(&alone)["hint"].as_str().unwrap().contains("wsbcast.plain"), "{alone}");

    let closed = private(|rules| {
        rules.query_tokens = false;
        rules.tokens = vec![API.to_owned()].into();
    });
    for query in [&query, &format!("/ws?channel=news&token={API}")] {
        let answer = ask(&closed, query, &[]).await;
        assert_eq!((status(&answer), body(&answer)["error"].as_str()), (401, Some("unauthorized")));
    }
}

/// An API token listens to everything, and is compared first.
#[tokio::test]
async fn api_tokens_go_on_as_they_are() {
    let server = private(|rules| rules.tokens = vec![API.to_owned()].into());
    for (target, headers) in [
        ("/ws?channel=news", vec![bearer(API)]),
        ("/ws?channel=news", vec![offer(&format!("wsbcast.v1, wsbcast.token.{API}"))]),
        (&format!("/ws?channel=news&token={API}"), vec![]),
        (&format!("/ws?channel=news&token={API}"), vec![bearer("a.foreign.one")]),
    ] {
        let headers: Vec<_> = headers.iter().map(String::as_str).collect();
        assert_eq!(status(&ask(&server, target, &headers).await), 101, "{target} {headers:?}");
    }
    let publish = |token: &str| request("POST /broadcast?channel=a", &[&bearer(token)], "x");
    assert_eq!(status(&server.ask_as(FOREIGN, publish(API)).await), 202);
    assert_eq!(status(&server.ask_as(FOREIGN, publish(&rights(&[], &["a"]))).await), 202);
    assert_eq!(status(&server.ask_as(FOREIGN, publish("x")).await), 401);
}

#[tokio::test]
async fn a_token_publishes_to_the_channels_that_it_names() {
    let server = private(|_| {});
    let good = bearer(&rights(&[], &["chat", "room.*"]));
    let narrow = bearer(&rights(&["*"], &[]));
    let post = |channel: &str, headers: &[&str]| {
        request(&format!("POST /broadcast?channel={channel}"), headers, "x")
    };
    assert_eq!(status(&server.ask_as(FOREIGN, post("room.1", &[&good])).await), 202);
    for (peer, headers, expected, word, challenge) in [
        (FOREIGN, &[good.as_str()][..], 403, "forbidden", "Bearer error=\"insufficient_scope\""),
        (FOREIGN, &[], 401, "unauthorized", "Bearer"),
        (FOREIGN, &[&bearer("x")], 401, "bad_token", "Bearer error=\"invalid_token\""),
        // A token that is shown decides, also for programs of this machine.
        (LOCAL, &[&narrow], 403, "forbidden", "Bearer error=\"insufficient_scope\""),
        (LOCAL, &[&bearer(&expired())], 401, "bad_token", "Bearer error=\"invalid_token\""),
    ] {
        let answer = server.ask_as(peer, post("other", headers)).await;
        assert_eq!((status(&answer), &body(&answer)["error"]), (expected, &word.into()));
        assert_eq!(header(&answer, "www-authenticate"), challenge, "{answer}");
    }
    assert_eq!(status(&server.ask_as(LOCAL, post("other", &[])).await), 202, "as without keys");
    let failed = |reason| server.metrics.publish_failures.get(reason as usize);
    assert_eq!(failed(PublishFailure::BadToken), 2);
    assert_eq!((failed(PublishFailure::Unauthorized), failed(PublishFailure::Forbidden)), (1, 2));
}

/// All lines of a batch are covered, or none goes out.
#[tokio::test]
async fn a_batch_is_published_only_if_every_line_may_be() {
    let server = private(|_| {});
    let good = bearer(&rights(&[], &["chat", "room.*"]));
    let batch = |lines: &str| {
        request("POST /broadcast", &["Content-Type: application/x-ndjson", &good], lines)
    };
    let covered = "{\"channel\":\"chat\",\"data\":1}\n{\"channel\":\"room.1\",\"data\":2}";
    assert_eq!(status(&server.ask_as(FOREIGN, batch(covered)).await), 202);
    let answer = server.ask_as(FOREIGN, batch(&format!("{covered}\n{{\"data\":3}}"))).await;
    assert_eq!((status(&answer), &body(&answer)["channel"]), (403, &"notifications".into()));
    assert!(body(&answer)["hint"].as_str().unwrap().starts_with("line 3: "), "{answer}");
    assert_eq!(server.broker.published.borrow().len(), 2);
}

/// A client keeps the rights of its token.
#[tokio::test]
async fn a_client_keeps_what_it_has_shown() {
    for (headers, is_kept) in
        [(vec![], false), (vec![bearer(&rights(&["open.a"], &["chat"]))], true)]
    {
        let server = Fixture::with(|context| {
            let secrets = vec![Secret::new(SECRET).unwrap()];
            let settings = TokenSettings { secrets, ..TokenSettings::default() };
            context.verifier = Arc::new(Verifier::new(context.clock, &settings).unwrap());
            context.settings.client_publish = ClientPublish::Broadcast;
        })
        .start();
        let (serving, mut client) = server.connect(FOREIGN);
        let headers: Vec<_> = headers.iter().map(String::as_str).collect();
        let handshake = handshake("/ws?channel=open.a", &headers);
        tokio::io::AsyncWriteExt::write_all(&mut client, handshake.as_bytes()).await.unwrap();
        let handover = serving.await.unwrap().handover;
        assert_eq!(handover.arrival.publisher, None, "the table knows what the token allows");
        let sub = handover.arrival.credential.map(|credential| match credential {
            Credential::Token(token) => token.rights.sub.clone().unwrap(),
            Credential::Api => panic!("no API token"),
        });
        assert_eq!(sub.as_deref(), is_kept.then_some("alice"));
    }
}

/// An operator keeps bearers out by a claim of their tokens, however good these are.
#[tokio::test]
async fn bearers_who_are_kept_out_are_refused() {
    let server = private(|_| {});
    let all = json!({"subscribe": ["*"], "publish": ["*"]});
    let of = |claims: Value| {
        let mut claims = claims;
        claims["exp"] = FAR.into();
        claims["wsbcast"] = all.clone();
        bearer(&token(&claims))
    };
    let bans = server.context.verifier.bans();
    for kept_out in [Bearer::Subject("alice".into()), Bearer::TokenId("7".into())] {
        bans.add(&kept_out, Duration::from_secs(1000)).unwrap();
    }
    for (claims, is_kept_out) in [
        (json!({"sub": "alice"}), true),
        (json!({"sub": "bob", "jti": "7"}), true),
        (json!({"sub": "7", "jti": "alice"}), false),
        (json!({"sub": "bob"}), false),
        (json!({}), false),
    ] {
        let shown = of(claims.clone());
        let stream = request("GET /sse?channel=a", &[&shown], "");
        let message = request("POST /broadcast?channel=a", &[&shown], "hi");
        // A public channel, too: a credential that is shown decides.
        let public = ask(&server, "/ws?channel=open.a", &[&shown]).await;
        for (answer, good) in [
            (ask(&server, "/ws?channel=a", &[&shown]).await, 101),
            (public, 101),
            (server.ask_as(FOREIGN, stream).await, 200),
            (server.ask_as(FOREIGN, message).await, 202),
        ] {
            let expected = if is_kept_out { 403 } else { good };
            assert_eq!(status(&answer), expected, "{claims}: {answer}");
            if is_kept_out {
                assert_eq!(body(&answer)["error"], "forbidden", "{answer}");
            }
        }
    }
    let rejected = &server.metrics.handshakes_rejected;
    assert_eq!(rejected.get(Rejection::Forbidden as usize), 6);
    let failures = &server.metrics.publish_failures;
    assert_eq!(failures.get(PublishFailure::Forbidden as usize), 2);
    assert_eq!(status(&ask(&server, "/ws?channel=open.a", &[]).await), 101, "without a token");
}
