//! The client over `wss://` and `https://`, with the certificate of a private authority.

use serde_json::json;

use crate::{
    chromium::Page,
    stage::Stage,
    support::{
        certificates::Authority,
        http::post,
        server::Server,
        tokens::{KEY, token_for},
    },
};

/// A server that also listens by TLS, and what trusts it.
fn server() -> (Server, Authority, String) {
    let authority = Authority::new();
    let pair = authority.files(&["localhost"]);
    let tls = ["--tls-listen", "127.0.0.1:0", "--tls-cert", &pair[0], "--tls-key", &pair[1]];
    let server = Server::start(&[&tls[..], &[KEY]].concat());
    let url = format!("https://localhost:{}", server.public()[1].port());
    (server, authority, url)
}

fn connect(page: &mut Page, url: &str, transport: &str) {
    let token = token_for("alice", &["a"], &[], 3600);
    page.run(&format!(
        "connect({{
            url: '{url}',
            channels: ['a'],
            transport: '{transport}',
            getToken: async () => '{token}',
        }})"
    ));
}

/// WebSockets and event streams come by TLS to a browser that trusts the authority, with tokens
/// from the page.
#[test]
fn a_private_authority_is_trusted() {
    let (server, authority, url) = server();
    for transport in ["websocket", "sse"] {
        let stage = Stage::before(server.addr());
        let mut page = Page::open_trusting(stage, authority.path());
        connect(&mut page, &url, transport);
        assert_eq!(page.wait_for_state("open", 0)["transport"], json!(transport));
        post(server.addr(), "/broadcast?channel=a", transport).assert_status(202);
        assert_eq!(page.messages("a", 1)[0].0, json!(transport));
    }
}

/// Without that authority the browser refuses the server: nothing here is turned off.
#[test]
fn an_unknown_authority_is_refused() {
    let (server, _authority, url) = server();
    let mut page = Page::open(Stage::before(server.addr()));
    connect(&mut page, &url, "websocket");
    page.wait_for_state("waiting", 0);
    assert_eq!(page.states("open"), [json!(null); 0]);
}
