//! A token that is shown decides on every route that takes one: a wrong one is refused and counted.

use std::{num::NonZeroU32, sync::Arc};

use super::{FOREIGN, Fixture, LOCAL, body, handshake, header, request, status};
use crate::{
    admission::{AddressLimitSettings, AddressLimits},
    http::{access::Rules, context::Context},
    token::{Secret, TokenSettings, Verifier},
};

/// Routes that answer anyone, whatever is shown.
const OPEN_TO_ALL: [&str; 2] = ["/livez", "/readyz"];
/// Public routes that take a token; the admin routes are those that `GET /` lists.
const PUBLIC: [&str; 4] =
    ["GET /ws?channel=a", "GET /echo", "GET /sse?channel=a", "POST /broadcast?channel=a"];
const METHODS: [&str; 3] = ["GET", "HEAD", "POST"];
const WRONG: &str = "Authorization: Bearer wrong";

/// The address may show this many wrong tokens at once: each counts twice.
const LOOKED_AT: usize = 10;

/// The tokens that count: those of `--api-token`, those of others, or both.
#[derive(Clone, Copy, Debug)]
struct Takes {
    api: bool,
    keys: bool,
}

const ALL: [Takes; 3] = [
    Takes { api: true, keys: false },
    Takes { api: false, keys: true },
    Takes { api: true, keys: true },
];

/// A listener that takes such tokens.
fn fixture(takes: Takes, change: impl FnOnce(&mut Context)) -> Fixture {
    Fixture::with(|context| {
        let tokens: Vec<_> = takes.api.then(|| "right".to_owned()).into_iter().collect();
        context.settings.access =
            Rules { tokens: tokens.into(), takes_tokens: takes.keys, ..Rules::default() };
        context.settings.echo = true;
        if takes.keys {
            let secrets = vec![Secret::new("0123456789abcdef0123456789abcdef").unwrap()];
            let settings = TokenSettings { secrets, ..TokenSettings::default() };
            context.verifier = Arc::new(Verifier::new(context.clock, &settings).unwrap());
        }
        change(context);
    })
}

/// The paths to which `GET /` of a listener without tokens leads, and itself.
async fn listed() -> Vec<String> {
    let index = Fixture::new().start().ask(request("GET /", &[], "")).await;
    let links = body(&index)["links"].as_array().unwrap().clone();
    let paths: Vec<_> = links.iter().map(|link| link.as_str().unwrap().to_owned()).collect();
    assert!(OPEN_TO_ALL.iter().all(|open| paths.iter().any(|path| path == open)), "{paths:?}");
    let taking = paths.into_iter().filter(|path| !OPEN_TO_ALL.contains(&path.as_str()));
    taking.chain(["/".to_owned()]).collect()
}

/// A request with the token.
fn showing(line: &str, token: &str) -> String {
    match line.strip_prefix("GET ").filter(|path| path.starts_with("/ws") || *path == "/echo") {
        Some(target) => handshake(target, &[token]),
        None => request(line, &[token], ""),
    }
}

/// A wrong token is refused on every route of either listener, also to a local program that needs
/// none, and a method that the route has not.
#[tokio::test]
async fn a_wrong_token_is_refused_on_every_route() {
    for takes in ALL {
        let public = fixture(takes, |_| {}).start();
        let admin = fixture(takes, |context| context.public = None).start();
        for path in listed().await {
            for server in [&public, &admin] {
                let mut refused = 0;
                for method in METHODS {
                    let answer = server.ask(showing(&format!("{method} {path}"), WRONG)).await;
                    match status(&answer) {
                        405 => continue,
                        status => assert_eq!(status, 401, "{takes:?} {method} {path}: {answer}"),
                    }
                    assert_eq!(header(&answer, "www-authenticate"), "Bearer", "{method} {path}");
                    refused += 1;
                }
                assert!(refused > 0, "{path} has a method");
            }
        }
        for line in PUBLIC {
            let answer = public.ask(showing(line, WRONG)).await;
            assert_eq!(status(&answer), 401, "{takes:?} {line}: {answer}");
        }
        for path in OPEN_TO_ALL {
            let answer = public.ask(showing(&format!("GET {path}"), WRONG)).await;
            assert_eq!(status(&answer), 200, "{path}");
        }
        assert!(public.broker.published.borrow().is_empty());
    }
}

/// Two handshakes a second of each address, and [`LOOKED_AT`] bad tokens at once.
fn limited(context: &mut Context) {
    let handshakes_max = NonZeroU32::new(2);
    let settings = AddressLimitSettings { handshakes_max, ..AddressLimitSettings::default() };
    context.public.as_mut().unwrap().address_limits = Arc::new(AddressLimits::new(settings));
}

/// Each token of a request is verified, so each counts.
#[tokio::test]
async fn all_wrong_tokens_of_a_request_count() {
    let server = fixture(Takes { api: false, keys: true }, limited).start();
    let offers = "Sec-WebSocket-Protocol: wsbcast.v1, wsbcast.token.a, wsbcast.token.b";
    let many = || handshake("/ws?channel=a&token=c", &[offers, WRONG]);
    let mut looked_at = 0;
    while status(&server.ask_as(FOREIGN, many()).await) == 401 && looked_at < LOOKED_AT {
        looked_at += 1;
    }
    assert!((1..=LOOKED_AT / 2).contains(&looked_at), "{looked_at} with four tokens each");
}

/// Each wrong token counts against its address, on every route of a public listener; a good one is
/// taken all the same, and others are not refused.
#[tokio::test]
async fn wrong_tokens_count_on_every_route() {
    for takes in ALL {
        counts_on_every_route(takes).await;
    }
}

async fn counts_on_every_route(takes: Takes) {
    let paths = listed().await;
    let lines = paths.iter().flat_map(|path| METHODS.map(|method| format!("{method} {path}")));
    for line in lines.chain(PUBLIC.map(str::to_owned)) {
        let line = line.as_str();
        let server = fixture(takes, limited).start();
        let mut looked_at = 0;
        let last = loop {
            let answer = server.ask_as(FOREIGN, showing(line, WRONG)).await;
            match status(&answer) {
                401 if looked_at < 10 * LOOKED_AT => looked_at += 1,
                _ => break answer,
            }
        };
        if status(&last) == 405 {
            continue;
        }
        assert_eq!(status(&last), 429, "{takes:?} {line}: {last}");
        assert!((LOOKED_AT..2 * LOOKED_AT).contains(&looked_at), "{line}: {looked_at}");
        assert!(!header(&last, "retry-after").is_empty(), "{line}");
        let is_handshake = PUBLIC[..3].contains(&line);
        let good = server.ask_as(FOREIGN, showing(line, "Authorization: Bearer right")).await;
        let is_refused = is_handshake || !takes.api;
        assert_eq!(status(&good) == 429, is_refused, "{takes:?} {line}: {good}");
        let other = server.ask_as(LOCAL, showing(line, WRONG)).await;
        assert_eq!(status(&other), 401, "{line}");
    }
}
