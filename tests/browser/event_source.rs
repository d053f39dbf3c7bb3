//! Chromium's own `EventSource`, without our client: it knows nothing of us but what the
//! specification says, and still misses nothing.

use serde_json::{Value, json};

use crate::{
    chromium::Page,
    stage::Stage,
    support::{http::post_with, publish::Publisher, server::Server},
};

fn listening(server: &Server) -> Page {
    let mut page = Page::open(Stage::before(server.addr()));
    page.run("listen('a'); 0");
    page.wait_for_state("open", 0);
    page
}

fn data(messages: &[(Value, String)]) -> Vec<&str> {
    messages.iter().map(|(data, _)| data.as_str().unwrap()).collect()
}

/// An event source that is cut comes back for what it missed.
#[test]
fn an_event_source_cut_off_resumes() {
    const CUTS: usize = 3;
    let server = Server::start(&[]);
    let page = listening(&server);
    let mut publisher = Publisher::on(server.addr(), "a");
    publisher.publish_to_all("0 heard\nin two lines");
    page.messages("a", 1);
    let mut expected = vec!["0 heard\nin two lines".to_owned()];
    for cut in 1..=CUTS {
        page.stage.cut();
        expected.extend(["missed", "heard"].map(|what| format!("{cut} {what}")));
        publisher.publish_to_all(format!("{cut} missed"));
        page.wait_for_state("open", cut);
        publisher.publish_to_all(format!("{cut} heard"));
        page.messages("a", expected.len());
    }
    let binary = "Content-Type: application/octet-stream\r\n";
    post_with(server.addr(), "/broadcast?channel=a", binary, b"\x00\xff").assert_status(202);
    expected.push("AP8=".to_owned());
    let messages = page.messages("a", expected.len());
    assert_eq!(data(&messages), expected);
    let offsets = messages.iter().map(|(_, position)| position.split_once(':').unwrap().1);
    let in_order: Vec<String> = (1..=expected.len()).map(|offset| offset.to_string()).collect();
    assert_eq!(offsets.collect::<Vec<_>>(), in_order);
    assert_eq!(page.gaps(), [Value::Null; 0]);
}

/// An event source goes to the next server when one drains and is told what is gone.
#[test]
fn an_event_source_moves_on_from_a_draining_server() {
    let mut server = Server::start(&["--drain-timeout", "2s", "--drain-close-over", "1s"]);
    let page = listening(&server);
    Publisher::on(server.addr(), "a").publish_to_all("of the first");
    page.messages("a", 1);
    let next = Server::start(&[]);
    page.stage.set_target(next.addr());
    server.signal(&["TERM"]);
    server.wait();
    page.wait_for_state("open", 1);
    Publisher::on(next.addr(), "a").publish_to_all("of the second");
    assert_eq!(data(&page.messages("a", 2)), ["of the first", "of the second"]);
    // Without Redis the second one has another history.
    let gaps = page.gaps();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!((&gaps[0]["from"], &gaps[0]["to"]), (&json!(1), &json!(0)));
}
