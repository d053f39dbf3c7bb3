//! The client's reactions to a server, word for word: the sockets are the test's own.
//!
//! For all that a right server never says, or says only when much has gone wrong before.

use serde_json::{Value, json};

use crate::{chromium::Page, stage::Stage, support::server::Server};

/// Takes the place of WebSockets: `sockets` holds all of them, `say` lets the newest one speak.
const SOCKETS: &str = "
    window.sockets = [];
    window.WebSocket = class {
        constructor(url, protocol) {
            this.query = [...new URL(url).searchParams];
            this.protocol = protocol;
            this.sent = [];
            sockets.push(this);
        }
        send(text) { this.sent.push(JSON.parse(text)); }
        close() {}
    };
    window.say = (message) => sockets.at(-1).onmessage({ data: JSON.stringify(message) });
    window.end = (code, reason = '') => sockets.at(-1).onclose({ code, reason });
    window.hello = (positions) => say({ type: 'hello', positions, ping_interval_ms: 25000 });
    0";

/// A page whose client has asked for a connection.
fn page(options: &str) -> (Server, Page) {
    let server = Server::start(&[]);
    let mut page = Page::open(Stage::before(server.addr()));
    page.run(SOCKETS);
    page.run(&format!("connect({options})"));
    page.wait_for_state("connecting", 0);
    (server, page)
}

fn data(page: &Page, count: usize) -> Vec<Value> {
    page.messages("a", count).into_iter().map(|(data, _)| data).collect()
}

/// History is not repeated, and a hole that nobody told is told.
#[test]
fn an_untold_hole_is_told() {
    let (_server, mut page) = page("{channels: ['a']}");
    page.run(
        "const m = (epoch, offset) => say(
            {type: 'message', channel: 'a', epoch, offset, data: epoch + offset});
        hello({a: {epoch: 'e', offset: 3}});
        [3, 4, 4, 2, 5].forEach(n => m('e', n));
        say({type: 'unheard of'});
        m('e', 8);
        m('f', 3);
        say({type: 'message', channel: 'other', epoch: 'f', offset: 9, data: 'not asked for'});
        say({type: 'message', channel: 'a', scope: 'local', data: 'local'});
        m('f', 4);",
    );
    assert_eq!(data(&page, 6), ["e4", "e5", "e8", "f3", "local", "f4"]);
    let gaps = page.gaps();
    let told: Vec<_> = gaps.iter().map(|gap| (&gap["epoch"], &gap["from"], &gap["to"])).collect();
    assert_eq!(told, [(&json!("e"), &json!(6), &json!(7)), (&json!("f"), &json!(1), &json!(2))]);
    assert_eq!(page.run("client.positions"), json!({"a": "f:4"}));
}

/// A gap is told once, and the client goes on behind it.
#[test]
fn a_gap_is_told_once_and_the_client_goes_on() {
    let (_server, mut page) = page("{channels: ['a'], since: {a: 'e:9'}}");
    page.run(
        "const gap = (epoch, from, to) => say({type: 'gap', channel: 'a', epoch, from, to});
        const m = (epoch, offset) => say(
            {type: 'message', channel: 'a', epoch, offset, data: epoch + offset});
        hello({a: {epoch: 'e', offset: 4}});
        gap('e', 1, 4);
        m('e', 5);
        gap('f', 1, 0);
        m('f', 1);
        gap(null, 2, null);
        m('f', 7);",
    );
    assert_eq!(data(&page, 3), ["e5", "f1", "f7"], "also where the server is behind");
    let ends: Vec<Value> = page.gaps().iter().map(|gap| gap["to"].clone()).collect();
    assert_eq!(ends, [json!(4), json!(0), Value::Null]);
}

/// A client that reconnects asks for each channel from its position.
#[test]
fn a_reconnect_asks_from_each_position() {
    let (_server, mut page) =
        page("{channels: ['a', 'b', 'c'], since: {b: 'e:7'}, last: 3, token: 't'}");
    let query = page.run("[sockets[0].protocol[0], sockets[0].query]");
    let expected = json!([
        ["channel", "a"],
        ["since", ""],
        ["last", "3"],
        ["channel", "b"],
        ["since", "e:7"],
        ["channel", "c"],
        ["since", ""],
        ["token", "t"]
    ]);
    assert_eq!(query, json!(["wsbcast.v1", expected]));
    page.run("hello({a: {epoch: 'e', offset: 0}, b: {epoch: 'e', offset: 7}, c: null})");
    page.run("say({type: 'message', channel: 'a', epoch: 'e', offset: 1, data: ''}); end(1006)");
    page.wait_for_state("connecting", 1);
    let expected = json!([
        ["channel", "a"],
        ["since", "e:1"],
        ["channel", "b"],
        ["since", "e:7"],
        ["channel", "c"],
        ["since", ""],
        ["last", "3"],
        ["token", "t"]
    ]);
    assert_eq!(page.run("sockets[1].query"), expected);
}

/// Subscriptions that changed before the hello, or are too many for a URL, follow the hello.
#[test]
fn early_and_large_subscriptions_follow_the_hello() {
    let (_server, mut page) = page("{channels: Array.from({length: 22}, (_, n) => 'c' + n)}");
    let query = "sockets[0].query.filter(([key]) => key == 'channel').map(([, name]) => name)";
    let named = page.run(query);
    assert_eq!(named.as_array().map(Vec::len), Some(20), "{named}");
    page.run(
        "client.unsubscribe('c3');
        client.unsubscribe('c21');
        client.subscribe('new', {since: 'e:5'});
        hello(Object.fromEntries(Array.from({length: 20}, (_, n) => ['c' + n, null])));",
    );
    let expected = json!([
        {"type": "unsubscribe", "channel": "c3"},
        {"type": "subscribe", "channel": "c20"},
        {"type": "subscribe", "channel": "new", "since": "e:5"},
    ]);
    assert_eq!(page.run("sockets[0].sent"), expected);
    page.run("say({type: 'error', code: 'forbidden', message: 'no', channel: 'new'})");
    let refused = page.wait_for_state("refused", 0);
    assert_eq!((&refused["channel"], &refused["code"]), (&json!("new"), &json!("forbidden")));
    assert_eq!(page.run("'new' in client.positions"), false);
}

/// Codes that blame the client end it and others bring it back soon.
#[test]
fn codes_that_blame_the_client_end_it() {
    let (_server, mut page) = page("{channels: ['a'], transport: 'websocket'}");
    let codes = [1000, 1001, 1002, 1005, 1006, 1011, 1012, 1013, 4401, 4408];
    for (nth, code) in codes.into_iter().enumerate() {
        page.run(&format!("hello({{}}); sockets.at(-1).sent.length = 0; end({code})"));
        let waiting = page.wait_for_state("waiting", nth);
        // Its connections do not last, so they count as failures.
        let most = f64::min(500.0 * f64::powi(2.0, i32::try_from(nth).unwrap()), 30_000.0);
        let delay = waiting["delay"].as_f64().unwrap();
        assert!(waiting["code"] == code && (0.0..=most).contains(&delay), "{nth} {waiting}");
        page.run("dispatchEvent(new Event('online'))");
        page.wait_for_state("connecting", nth + 1);
    }
    for (nth, code) in [1003, 1007, 1008, 1009, 4403].into_iter().enumerate() {
        page.run("connect({channels: ['a']}); 0");
        page.wait_for_state("connecting", codes.len() + 1 + nth);
        page.run(&format!(
            "window.fate = client.publish('a', 'x').catch(error => error.code);
            hello({{}}); end({code})"
        ));
        assert_eq!(page.wait_for_state("failed", nth)["code"], code);
        assert_eq!(page.run("fate"), "failed", "what was under way");
        assert_eq!(page.try_run("client.publish('a', 'y')")["code"], "failed");
    }
}

#[test]
fn the_time_that_a_server_names_is_kept_to() {
    let (_server, mut page) = page("{channels: ['a']}");
    for (nth, end) in [
        "say({type: 'drain', reconnect_after_ms: 300}); end(1012)",
        "end(1012, 'service restart; retry in 300 ms')",
        "end(1008, 'rate limited; retry in 300 ms')",
    ]
    .into_iter()
    .enumerate()
    {
        page.run(&format!(
            "hello({{}}); window.ended = [...(window.ended ?? []), performance.now()];
            {end}; dispatchEvent(new Event('online'))"
        ));
        assert_eq!(page.wait_for_state("waiting", nth)["delay"], 300);
        page.wait_for_state("connecting", nth + 1);
    }
    // The states are told a little later than the time begins.
    let ended: Vec<f64> = serde_json::from_value(page.run("ended")).unwrap();
    let connecting = page.states("connecting").split_off(1);
    let begun: Vec<f64> = connecting.iter().map(|one| one["at"].as_f64().unwrap()).collect();
    assert_eq!(ended.len(), begun.len());
    for (ended, begun) in ended.into_iter().zip(begun) {
        assert!(begun - ended >= 298.0, "{ended} {begun}");
    }
}

/// An error without an end is one and an end after an error counts for more.
#[test]
fn an_end_after_an_error_counts_for_more() {
    let (_server, mut page) = page("{channels: ['a'], transport: 'websocket'}");
    page.run("sockets[0].onerror()");
    let waiting = page.wait_for_state("waiting", 0);
    assert!(waiting["code"] == 1006 && waiting["delay"].as_f64() <= Some(500.0), "{waiting}");
    page.wait_for_state("connecting", 1);
    page.run("hello({}); sockets[1].onerror(); end(1012, 'service restart; retry in 300 ms')");
    let waiting = page.wait_for_state("waiting", 1);
    assert!(waiting["code"] == 1012 && waiting["delay"] == 300, "{waiting}");
    page.wait_for_state("connecting", 2);
    assert_eq!(page.states("waiting").len(), 2);
}

/// An unanswered publication is sent again and a refused one is not.
#[test]
fn only_an_unanswered_publication_is_sent_again() {
    let (_server, mut page) = page("{channels: ['a']}");
    page.run(
        "window.fates = ['one', 'two', 'bad'].map(data => client.publish('a', data, {id: data})
            .catch(error => error.code));
        hello({a: null});
        say({type: 'published', id: 'one', channel: 'a', epoch: 'e', offset: 1, scope: 'cluster'});
        say({type: 'error', id: 'bad', code: 'too_big', message: ''});
        end(1006);
        0",
    );
    page.wait_for_state("connecting", 1);
    page.run("hello({a: null})");
    let publish = |id: &str| json!({"type": "publish", "channel": "a", "id": id, "data": id});
    let sent = page.run("sockets.map(socket => socket.sent)");
    assert_eq!(sent, json!([[publish("one"), publish("two"), publish("bad")], [publish("two")]]));
    page.run("say({type: 'published', id: 'two', channel: 'a', epoch: null, scope: 'local'})");
    let fates = json!([
        {"channel": "a", "position": "e:1", "scope": "cluster"},
        {"channel": "a", "position": null, "scope": "local"},
        "too_big"
    ]);
    assert_eq!(page.run("Promise.all(fates)"), fates);
}

#[test]
fn a_mistake_in_a_callback_costs_no_message() {
    let (_server, mut page) = page("{channels: ['a']}");
    page.run(
        "window.heard = [];
        window.mistakes = [];
        window.expectError = (text) => mistakes.push(text);
        client.close();
        window.client = new client.constructor(location.origin, {
            channels: ['a'],
            onMessage({ data }) { heard.push(data); throw new Error('of ' + data); },
        });
        0",
    );
    page.run("hello({a: {epoch: 'e', offset: 0}})");
    let message = "say({type: 'message', channel: 'a', epoch: 'e', offset: n, data: 'm' + n})";
    page.run(&format!("for (const n of [1, 2]) {message}"));
    assert_eq!(page.run("[heard, mistakes.length]"), json!([["m1", "m2"], 2]));
}

/// The protocols that the sockets were opened with.
const PROTOCOLS: &str = "sockets.map(({protocol}) => [protocol].flat())";

/// `getToken` is asked before the first connection, at renewal, after a token was not accepted, and
/// where a connection cannot be opened with an old one; one that breaks for another reason costs no
/// token.
#[test]
fn a_token_is_asked_for_when_one_is_needed() {
    let (_server, mut page) = page(
        "{
            channels: ['a', 'b'],
            getToken: async () => 't' + (window.given = (window.given ?? 0) + 1),
        }",
    );
    page.wait_for("sockets.length == 1");
    assert_eq!(page.run(PROTOCOLS), json!([["wsbcast.v1", "wsbcast.token.t1"]]));
    page.run("hello({a: null, b: null}); say({type: 'token_expiring', in_ms: 1000})");
    page.wait_for("sockets[0].sent.length == 1");
    assert_eq!(page.run("sockets[0].sent"), json!([{"type": "token", "token": "t2"}]));
    page.run(
        "say({type: 'token', expires_in_ms: 60000});
        say({type: 'unsubscribed', channel: 'b', code: 'forbidden'})",
    );
    let refused = page.wait_for_state("refused", 0);
    assert_eq!((&refused["channel"], &refused["code"]), (&json!("b"), &json!("forbidden")));
    page.run("end(1006)");
    page.wait_for("sockets.length == 2");
    page.run("hello({a: null}); end(4401, 'token_expired')");
    page.wait_for("sockets.length == 3");
    // Could not be opened: with a token that may have become a bad one only once it is older.
    page.run("end(1006)");
    page.wait_for("sockets.length == 4");
    page.run("const time = Date.now; Date.now = () => time() + 61_000; end(1006)");
    page.wait_for("given == 4");
    let expected = json!([
        ["wsbcast.v1", "wsbcast.token.t1"],
        ["wsbcast.v1", "wsbcast.token.t2"],
        ["wsbcast.v1", "wsbcast.token.t3"],
        ["wsbcast.v1", "wsbcast.token.t3"],
    ]);
    let mut shown = page.run(PROTOCOLS);
    shown.as_array_mut().unwrap().truncate(4);
    assert_eq!(shown, expected);
}

/// A page whose own server gives no token now is asked again later.
#[test]
fn a_token_that_cannot_be_had_is_asked_for_again() {
    let (_server, mut page) = page(
        "{
            channels: ['a'],
            getToken() {
                if (!window.late) throw (window.late = 'down');
                return 't';
            },
        }",
    );
    let waiting = page.wait_for_state("waiting", 0);
    assert_eq!((&waiting["code"], &waiting["reason"]), (&json!("get_token"), &json!("down")));
    page.wait_for("sockets.length == 1");
    assert_eq!(page.run(PROTOCOLS), json!([["wsbcast.v1", "wsbcast.token.t"]]));
}

/// A token that the page began with gives way to those of `getToken` once a connection with it
/// could not be opened.
#[test]
fn a_first_token_gives_way_to_the_next() {
    let (_server, mut page) =
        page("{channels: ['a'], token: 'first', getToken: async () => 'next'}");
    page.wait_for("sockets.length == 1");
    page.run("hello({a: null}); end(1006)");
    page.wait_for("sockets.length == 2");
    page.run("end(1006)");
    page.wait_for("sockets.length == 3");
    let expected = json!([
        ["wsbcast.v1", "wsbcast.token.first"],
        ["wsbcast.v1", "wsbcast.token.first"],
        ["wsbcast.v1", "wsbcast.token.next"],
    ]);
    assert_eq!(page.run(PROTOCOLS), expected);
}

/// However little time a server gives, a page that has no next token is asked at intervals.
#[test]
fn a_server_in_a_hurry_makes_no_flood_of_questions() {
    let (_server, mut page) = page(
        "{
            channels: ['a'],
            getToken() {
                window.asked = (window.asked ?? 0) + 1;
                if (asked == 4) enough(waits);
                if (asked > 1) throw 'down';
                return 't';
            },
        }",
    );
    page.wait_for("sockets.length == 1");
    page.run(
        "window.usual = setTimeout;
        window.waits = [];
        window.setTimeout = (then, ms) => { waits.push(ms); return usual(then, ms); };
        window.isEnough = new Promise((done) => (window.enough = (waits) => done([...waits])));
        hello({a: null});
        say({type: 'token_expiring', in_ms: 1})",
    );
    assert_eq!(page.run("isEnough"), json!([250, 250]));
}

/// A token at its end, of which only the server knows whether it still is good, is shown where
/// there is no other.
#[test]
fn a_token_at_its_end_is_shown_when_there_is_no_other() {
    let (_server, mut page) = page(
        "{
            channels: ['a'],
            getToken() {
                window.asked = (window.asked ?? 0) + 1;
                if (asked > 1) throw 'down';
                return window.token = `.${btoa(JSON.stringify({exp: Date.now() / 1000 + 100}))}.`;
            },
        }",
    );
    page.wait_for("sockets.length == 1");
    page.run(
        "hello({a: null});
        const time = Date.now;
        Date.now = () => time() + 95_000;
        end(1006)",
    );
    page.wait_for("sockets.length == 2");
    assert_eq!(
        page.run("[asked, sockets[1].protocol[1] == 'wsbcast.token.' + token]"),
        json!([2, true])
    );
    assert_eq!(page.states("waiting").len(), 1, "the end of the first socket alone");
}
