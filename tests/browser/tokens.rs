//! The client and tokens: it gets them from the page, and nobody notices that they end.

use serde_json::json;

use crate::{
    chromium::Page,
    stage::Stage,
    support::{
        http::post,
        server::Server,
        tokens::{KEY, token_for},
    },
};

const LONG_SECS: u64 = 3600;

/// A page whose client listens to `channels` with tokens for `a` that are good for so many seconds,
/// one after the other.
fn page(server: &Server, channels: &str, transport: &str, secs: &[u64]) -> Page {
    let mut page = Page::open(Stage::before(server.addr()));
    // Their time runs from here: a browser takes long to start.
    let tokens: Vec<_> = secs.iter().map(|&secs| token_for("alice", &["a"], &[], secs)).collect();
    page.run(&format!("window.given = 0; window.tokens = {}; 0", json!(tokens)));
    page.run(&format!(
        "connect({{
            channels: {channels},
            transport: '{transport}',
            getToken: async () => tokens[Math.min(given++, tokens.length - 1)],
        }})"
    ));
    page
}

fn hears(page: &Page, server: &Server, channel: &str, count: usize) {
    post(server.addr(), &format!("/broadcast?channel={channel}"), "hello").assert_status(202);
    assert_eq!(page.messages(channel, count)[count - 1].0, "hello");
}

/// A renewed token takes the place of the first without a reconnect.
#[test]
fn a_token_is_renewed_in_place() {
    let server = Server::start(&[KEY]);
    let mut page = page(&server, "['a']", "websocket", &[8, LONG_SECS]);
    page.run("window.end = Date.now() + 8000 + 1000; 0");
    page.wait_for_state("open", 0);
    hears(&page, &server, "a", 1);
    // The end of the first token has to pass, and the time in which it would have been told.
    page.wait_for("given == 2 && Date.now() > end");
    hears(&page, &server, "a", 2);
    assert_eq!(page.states("waiting"), [json!(null); 0]);
}

/// A page that cannot get the next token is asked for it again while there is time.
#[test]
fn a_token_is_asked_for_until_it_comes() {
    let server = Server::start(&[KEY]);
    let mut page = Page::open(Stage::before(server.addr()));
    let tokens = [8, LONG_SECS].map(|secs| token_for("alice", &["a"], &[], secs));
    page.run(&format!("window.asked = 0; window.tokens = {}; 0", json!(tokens)));
    page.run(
        "connect({
            channels: ['a'],
            transport: 'websocket',
            getToken: async () => {
                asked++;
                if (asked == 2 || asked == 3) throw Error('not now');
                return tokens[Math.min(asked - 1, 1)];
            },
        })",
    );
    page.run("window.end = Date.now() + 8000 + 1000; 0");
    page.wait_for_state("open", 0);
    page.wait_for("asked == 4 && Date.now() > end");
    hears(&page, &server, "a", 1);
    assert_eq!(page.states("waiting"), [json!(null); 0]);
}

/// A stream cannot be told of the end of its token: it is opened again, with the next token.
#[test]
fn an_event_stream_goes_on_with_the_next_token() {
    let server = Server::start(&[KEY]);
    let mut page = page(&server, "['a']", "sse", &[5, LONG_SECS]);
    page.wait_for_state("open", 0);
    hears(&page, &server, "a", 1);
    page.wait_for_state("open", 1);
    hears(&page, &server, "a", 2);
    assert_eq!((page.run("given"), page.gaps().len()), (json!(2), 0));
}

/// Streams are opened anew before their token ends, all of them with one new token. The page's time
/// for what it waits for runs faster than the server's.
#[test]
fn event_streams_get_the_next_token_in_time() {
    let server = Server::start(&[KEY]);
    let mut page = Page::open(Stage::before(server.addr()));
    let token = token_for("alice", &["a", "b"], &[], LONG_SECS);
    page.run(&format!("window.given = 0; window.token = {}; 0", json!(token)));
    page.run(
        "window.usual = setTimeout; window.setTimeout = (then, ms) => usual(then, ms / 1000); 0",
    );
    page.run(
        "connect({
            channels: ['a', 'b'],
            transport: 'sse',
            getToken: async () => { given++; return token },
        })",
    );
    page.wait_for_state("open", 1);
    hears(&page, &server, "b", 1);
    let given = page.run("given").as_u64().unwrap();
    assert!(given <= page.states("open").len() as u64 + 1, "{given}: one for both streams");
    assert_eq!(page.states("waiting"), [json!(null); 0], "no stream has ended before");
}

/// Nobody listens any more, and the page has tried a few times.
fn lose_the_server(page: &mut Page) {
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    page.stage.set_target(away);
    page.stage.cut();
    page.wait_for_state("waiting", 3);
}

/// A server that is away does not make a page ask for a token with each try.
#[test]
fn a_token_outlives_an_outage() {
    let server = Server::start(&[KEY]);
    let mut page = page(&server, "['a']", "websocket", &[LONG_SECS]);
    page.wait_for_state("open", 0);
    lose_the_server(&mut page);
    assert_eq!(page.run("given"), json!(1));
    page.stage.set_target(server.addr());
    page.wait_for_state("open", 1);
    assert_eq!(page.run("given"), json!(1));
}

/// A page whose clock is ahead by more than its tokens' life is asked no oftener in an outage.
#[test]
fn a_clock_that_is_ahead_costs_no_tokens_in_an_outage() {
    let server = Server::start(&[KEY]);
    let mut page = Page::open(Stage::before(server.addr()));
    let token = token_for("alice", &["a"], &[], LONG_SECS);
    page.run(&format!("window.given = 0; window.token = {}; 0", json!(token)));
    page.run("const time = Date.now; Date.now = () => time() + 2 * 3_600_000; 0");
    page.run(
        "connect({
            channels: ['a'],
            transport: 'websocket',
            getToken: async () => { given++; return token },
        })",
    );
    page.wait_for_state("open", 0);
    lose_the_server(&mut page);
    assert_eq!(page.run("given"), json!(1));
}

/// A page whose clock leaves a stream's token no time is asked for the next one at intervals.
#[test]
fn a_clock_that_is_ahead_makes_no_flood_of_questions() {
    let server = Server::start(&[KEY]);
    let mut page = Page::open(Stage::before(server.addr()));
    let token = token_for("alice", &["a"], &[], LONG_SECS);
    page.run(&format!("window.given = 0; window.token = {}; 0", json!(token)));
    page.run(
        "const claims = token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/');
        const end = JSON.parse(atob(claims)).exp * 1000;
        Date.now = () => end - 1000;
        window.usual = setTimeout;
        window.waits = [];
        window.setTimeout = (then, ms) => { waits.push(ms); return usual(then, ms / 1000); };
        window.isEnough = new Promise((done) => (window.enough = (waits) => done([...waits])));
        0",
    );
    page.run(
        "connect({
            channels: ['a'],
            transport: 'sse',
            getToken: async () => {
                if (given == 3) enough(waits);
                if (given++) throw Error('not now');
                return token;
            },
        })",
    );
    assert_eq!(page.run("isEnough"), json!([30_000, 1000, 1000]));
    assert_eq!(page.states("waiting"), [json!(null); 0]);
}

/// A channel that the token does not cover is refused, and costs the others nothing.
#[test]
fn a_channel_without_a_right_is_refused_alone() {
    let server = Server::start(&[KEY]);
    let mut page = page(&server, "['a', 'secret']", "auto", &[LONG_SECS]);
    let refused = page.wait_for_state("refused", 0);
    assert_eq!((&refused["channel"], &refused["code"]), (&json!("secret"), &json!("forbidden")));
    let open = page.wait_for_state("open", 0);
    assert_eq!(open["transport"], "websocket", "once the mistake is known");
    hears(&page, &server, "a", 1);
    assert_eq!(page.run("'secret' in client.positions"), json!(false));
}

/// A client without a channel listens to none, not to the default one, which it has no right to;
/// it publishes, and gets the channels that are added.
#[test]
fn a_client_without_channels_waits_for_one() {
    for transport in ["websocket", "sse"] {
        let server = Server::start(&[KEY]);
        let mut page = page(&server, "[]", transport, &[LONG_SECS]);
        page.wait_for_state("open", 0);
        assert_eq!(page.run("client.positions"), json!({}));
        page.run("client.subscribe('a'); 0");
        page.wait_for("'a' in client.positions");
        hears(&page, &server, "a", 1);
        page.run("client.unsubscribe('a'); 0");
        assert_eq!(page.states("refused"), [json!(null); 0]);
        assert_eq!(page.states("waiting"), [json!(null); 0]);
    }
}
