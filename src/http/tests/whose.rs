//! The owner of a connection: asked once, where it decides, with its effect on requests.

use std::sync::Arc;

use super::{FOREIGN, Fixture, LOCAL, OWNER, Server, handshake, header, request, status};
use crate::{
    conn::ClientPublish,
    drain::Phase,
    http::{access::Rules, owner::Owner},
    peer::TrustedProxies,
};

fn publish() -> String {
    request("POST /broadcast", &[], "x")
}

/// The answer, and how often it was asked whose the connection is.
async fn ask_as(server: &Server, owner: Owner, peer: &str, request: &str) -> (String, usize) {
    OWNER.set((owner, 0));
    let answer = server.ask_as(peer, request).await;
    (answer, OWNER.get().1)
}

fn with_rules(tokens: &[&str], insecure_publish: bool) -> Server {
    let tokens: Vec<_> = tokens.iter().map(ToString::to_string).collect();
    Fixture::with(|context| {
        let tokens = tokens.into();
        context.settings.access = Rules { tokens, insecure_publish, ..Rules::default() };
        context.settings.admin_on_public = false;
    })
    .start()
}

/// Another user's program may neither publish nor look nor drain.
#[tokio::test]
async fn another_users_program_may_do_nothing_private() {
    let server = Fixture::new().start();
    let admin = Fixture::with(|context| context.public = None).start();
    let drain = request("POST /admin/drain", &[], "");
    let look = request("GET /metrics", &[], "");
    for (server, request) in [(&server, &publish()), (&server, &look), (&admin, &drain)] {
        let (answer, asked) = ask_as(server, Owner::Stranger, LOCAL, request).await;
        assert_eq!((status(&answer), asked), (403, 1), "{request}");
        assert!(answer.contains("--api-token"), "{answer}");
    }
    assert!(server.broker.published.borrow().is_empty());
    for (server, request) in [(&server, &publish()), (&server, &look)] {
        let (answer, asked) = ask_as(server, Owner::Us, LOCAL, request).await;
        assert_eq!((status(&answer) / 100, asked), (2, 1), "{request}");
    }
}

/// The owner of a connection is looked up once, and only where it decides.
#[tokio::test]
async fn the_owner_is_looked_up_once_a_connection() {
    let server = with_rules(&[], false);
    let thrice = publish().repeat(3);
    let (answers, asked) = ask_as(&server, Owner::Us, LOCAL, &thrice).await;
    assert_eq!((answers.matches(" 202 ").count(), asked), (3, 1));
    let (answer, asked) = ask_as(&server, Owner::Us, FOREIGN, &publish()).await;
    assert_eq!((status(&answer), asked), (403, 0), "another machine's are not asked about");
    let token = with_rules(&["t"], false);
    let (answer, asked) = ask_as(&token, Owner::Stranger, LOCAL, &publish()).await;
    assert_eq!((status(&answer), asked), (401, 0));
    let open = with_rules(&[], true);
    let (answer, asked) = ask_as(&open, Owner::Stranger, LOCAL, &publish()).await;
    assert_eq!((status(&answer), asked), (202, 1), "it decides whose the keys are");
}

/// Handshakes and streams are not asked about unless their clients publish.
/// Storms are made of these, and the question costs as much as an accept.
#[tokio::test]
async fn only_publishing_handshakes_are_asked_about() {
    let server = Fixture::new().start();
    let shaken = handshake("/ws?channel=a", &[]);
    let (answer, asked) = ask_as(&server, Owner::Us, LOCAL, &shaken).await;
    assert_eq!((status(&answer), asked), (101, 0));
    let server =
        Fixture::with(|context| context.settings.client_publish = ClientPublish::Broadcast).start();
    let (answer, asked) = ask_as(&server, Owner::Us, LOCAL, &shaken).await;
    assert_eq!((status(&answer), asked), (101, 1));
}

/// A connection that was not asked about ends with its first answer.
#[tokio::test]
async fn an_unchecked_connection_ends_with_its_first_answer() {
    let server = Fixture::new().start();
    for begins in ["GET /ws", "GET /ws?channel=a", "GET /sse?last=x", "GET /sse?channel="] {
        let (answers, asked) =
            ask_as(&server, Owner::Us, LOCAL, &(request(begins, &[], "") + &publish())).await;
        assert_eq!((answers.matches("HTTP/1.1").count(), asked), (1, 0), "{begins}");
        assert_eq!(header(&answers, "connection"), "close", "{begins}");
    }
    assert!(server.broker.published.borrow().is_empty());
    for begins in ["GET /wsx", "GET /livez", "HEAD /livez"] {
        let (answers, asked) =
            ask_as(&server, Owner::Us, LOCAL, &(request(begins, &[], "") + &publish())).await;
        assert_eq!((answers.matches(" 202 ").count(), asked), (1, 1), "{begins}");
    }
}

/// A trusted proxy speaks for others: nothing that it sends is local, whatever user it runs as.
#[tokio::test]
async fn a_trusted_proxy_is_never_local() {
    let trusting = |network: &str, is_admin: bool| {
        let mut trusted = TrustedProxies::default();
        trusted.add(network).unwrap();
        Fixture::with(|context| {
            context.settings.trusted_proxies = Arc::new(trusted);
            context.public = context.public.take().filter(|_| !is_admin);
        })
        .start()
    };
    let drain = request("POST /admin/drain", &[], "");
    let look = request("GET /metrics", &[], "");
    for (request, is_admin) in [(publish(), false), (look, false), (drain, true)] {
        let server = trusting("127.0.0.0/8", is_admin);
        let (answer, asked) = ask_as(&server, Owner::Us, LOCAL, &request).await;
        assert_eq!((status(&answer), asked), (403, 0), "{request}");
        let server = trusting("127.0.0.2", is_admin);
        // There is no thread here that could begin a drain.
        server.enter(Phase::Waiting);
        let (answer, asked) = ask_as(&server, Owner::Us, LOCAL, &request).await;
        assert_eq!((status(&answer) / 100, asked), (2, 1), "{request}");
    }
}
