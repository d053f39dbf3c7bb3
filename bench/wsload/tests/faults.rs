//! `wsload run` against servers with known faults: each must be found and counted, and a server
//! without one must pass.
//!
//! The server is a thread per connection over real sockets; the test chooses how it treats each
//! message. Runs are short and end by their own limits.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, Output},
    sync::Mutex,
};

use serde_json::{Value, json};
use testkit::fake_redis::accepts;

/// The frames that a client is sent for the message with this number.
type Fault = fn(number: usize, payload: &[u8], held: &mut Vec<u8>) -> Vec<u8>;

struct Server {
    /// Each with its channel.
    clients: Mutex<Vec<(String, TcpStream)>>,
    /// Messages so far, and what a fault holds back.
    state: Mutex<(usize, Vec<u8>)>,
    fault: Fault,
    answer: &'static str,
}

const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}";
const UPGRADED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Starts a server; its threads end with the test process. Returns its address.
fn serve(fault: Fault, answer: &'static str) -> String {
    let (clients, state) = (Mutex::default(), Mutex::default());
    let server = Server { clients, state, fault, answer };
    accepts(move |stream| server.talk(stream))
}

impl Server {
    fn talk(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        loop {
            let (mut first, mut body_bytes) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                if let Some(length) = line.strip_prefix("Content-Length: ") {
                    body_bytes = length.trim().parse().unwrap();
                }
                if line == "\r\n" {
                    break;
                }
                if first.is_empty() {
                    first = line;
                }
            }
            let path = first.split(' ').nth(1).unwrap();
            let channel = path.split_once('?').map_or("", |(_, query)| query).to_owned();
            if first.starts_with("GET") {
                // Listed first: a client that has its answer must get every message.
                let mut clients = self.clients.lock().unwrap();
                // A client of a storm may be gone before its turn came.
                if stream.write_all(UPGRADED.as_bytes()).is_ok() {
                    clients.push((channel, stream));
                }
                return;
            }
            let mut body = vec![0; body_bytes];
            reader.read_exact(&mut body).unwrap();
            self.broadcast(&channel, &body);
            stream.write_all(self.answer.as_bytes()).unwrap();
        }
    }

    fn broadcast(&self, channel: &str, payload: &[u8]) {
        if !self.answer.contains("202") {
            return;
        }
        let mut state = self.state.lock().unwrap();
        let (number, held) = &mut *state;
        let bytes = (self.fault)(*number, payload, held);
        *number += 1;
        let mut clients = self.clients.lock().unwrap();
        clients.retain_mut(|(own, client)| own != channel || client.write_all(&bytes).is_ok());
    }
}

/// Any payload of these tests is shorter than 126 bytes.
fn frame(payload: &[u8]) -> Vec<u8> {
    [&[0x81, payload.len() as u8], payload].concat()
}

fn wsload(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wsload")).args(arguments).output().unwrap()
}

/// Ten clients, one publisher, twenty messages; the exit code and the report.
fn run(address: &str, more: &[&str]) -> (Option<i32>, Value) {
    let url = format!("ws://{address}");
    let fixed = ["run", "--json", "--url", &url, "--clients", "10", "--rate", "100"];
    let limits = ["--size", "100", "--max-messages", "20", "--warmup", "0", "--seconds", "0.5"];
    let output = wsload(&[&fixed[..], &limits, &["--settle", "2"], more].concat());
    let report = serde_json::from_slice(&output.stdout);
    let report = report.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), report)
}

#[test]
fn a_faithful_server_passes() {
    let server = serve(|_, payload, _| frame(payload), ACCEPTED);
    let (code, report) = run(&server, &["--threads", "2", "--publishers", "3"]);
    assert_eq!(report["problems"], Value::Array(vec![]));
    assert_eq!(code, Some(0));
    assert_eq!(report["clients"]["complete"], 10);
    assert_eq!(report["deliveries"]["total"], 200);
    assert_eq!(report["latency"]["count"], 200);
}

#[test]
fn messages_of_others_are_told_apart() {
    let server = serve(|_, payload, _| [frame(b"notice"), frame(payload)].concat(), ACCEPTED);
    let (code, report) = run(&server, &[]);
    assert_eq!((code, &report["deliveries"]["foreign"]), (Some(0), &Value::from(200)));
}

#[test]
fn a_lost_message_is_found_at_every_client() {
    let lose_two = |number, payload: &[u8], _: &mut Vec<u8>| match number {
        7 | 19 => vec![],
        _ => frame(payload),
    };
    let (code, report) = run(&serve(lose_two, ACCEPTED), &[]);
    assert_eq!(code, Some(3));
    assert_eq!(report["deliveries"]["holes"], 10);
    assert_eq!(report["deliveries"]["missing_at_end"], 10, "the last one leaves no hole");
    assert_eq!(report["clients"]["complete"], 0);
}

#[test]
fn a_repeated_message_is_found() {
    let (code, report) = run(&serve(|_, p, _| frame(p).repeat(2), ACCEPTED), &[]);
    assert_eq!((code, &report["deliveries"]["repeats"]), (Some(3), &Value::from(200)));
}

#[test]
fn swapped_messages_are_found() {
    let swap = |number, payload: &[u8], held: &mut Vec<u8>| {
        if number % 2 == 0 {
            *held = frame(payload);
            return vec![];
        }
        [frame(payload), std::mem::take(held)].concat()
    };
    let (code, report) = run(&serve(swap, ACCEPTED), &[]);
    assert_eq!((code, &report["deliveries"]["reordered"]), (Some(3), &Value::from(100)));
    assert_eq!(report["deliveries"]["holes"], 0);
}

#[test]
fn a_closed_client_is_counted_by_its_code() {
    let close = |number, payload: &[u8], _: &mut Vec<u8>| match number {
        5 => vec![0x88, 2, 0x03, 0xf5],
        _ => frame(payload),
    };
    let (code, report) = run(&serve(close, ACCEPTED), &[]);
    assert_eq!((code, &report["clients"]["closed"]["1013"]), (Some(3), &Value::from(10)));
}

#[test]
fn refused_publishes_are_counted_and_leave_no_holes() {
    let answer = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    let (code, report) = run(&serve(|_, p, _| frame(p), answer), &["--mode", "burst"]);
    assert_eq!(code, Some(3));
    assert_eq!(report["published"]["accepted"], 0);
    assert!(report["published"]["refused"]["503"].as_u64().unwrap() > 0);
    assert_eq!(report["deliveries"]["missing_at_end"], 0);
}

#[test]
fn stalled_clients_are_none_of_the_receivers() {
    let server = serve(|_, payload, _| frame(payload), ACCEPTED);
    let (code, report) = run(&server, &["--stalled", "4"]);
    assert_eq!(code, Some(0));
    assert_eq!(report["clients"]["complete"], 6);
    assert_eq!(report["clients"]["stalled"]["open"], 4);
    assert_eq!(report["deliveries"]["total"], 120);
}

#[test]
fn every_channel_has_its_own_numbers() {
    // Ten clients on five channels: each message goes to two of them.
    let channels = ["--channels", "5", "--publishers", "2", "--threads", "3"];
    let (code, report) = run(&serve(|_, payload, _| frame(payload), ACCEPTED), &channels);
    assert_eq!(report["problems"], Value::Array(vec![]));
    assert_eq!((code, &report["deliveries"]["total"]), (Some(0), &Value::from(40)));
    assert_eq!(report["clients"]["complete"], 10);
    let lose_one = |number, payload: &[u8], _: &mut Vec<u8>| match number {
        3 => vec![],
        _ => frame(payload),
    };
    let (code, report) = run(&serve(lose_one, ACCEPTED), &channels);
    assert_eq!(code, Some(3));
    assert_eq!(report["problems"], json!(["2 messages lost"]), "at its channel's two clients");
}

#[test]
fn short_messages_are_checked_too() {
    let lose_one = |number, payload: &[u8], _: &mut Vec<u8>| match number {
        7 => vec![],
        _ => frame(payload),
    };
    let (code, report) = run(&serve(lose_one, ACCEPTED), &["--size", "16", "--publishers", "2"]);
    assert_eq!((code, &report["deliveries"]["holes"]), (Some(3), &Value::from(10)));
    assert_eq!(report["latency"]["count"], 190);
}

#[test]
fn a_missing_server_is_an_error_in_words() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("ws://127.0.0.1:{port}");
    let output = wsload(&["run", "--url", &url, "--clients", "3"]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("refused"), "{error}");
}

#[test]
fn a_server_on_another_machine_is_left_alone() {
    let output = wsload(&["run", "--url", "ws://192.0.2.1:80"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--allow-remote"));
}

/// A storm of clients reconnects, and the listeners notice nothing.
#[test]
fn a_storm_reconnects_unnoticed_by_listeners() {
    let server = serve(|_, payload, _| frame(payload), ACCEPTED);
    for hold in ["upgrade", "message", "turn"] {
        let storm = ["--storm-clients", "40", "--storm-parallel", "8", "--storm-hold", hold];
        let (code, report) = run(&server, &storm);
        assert_eq!((code, &report["problems"]), (Some(0), &Value::Array(vec![])), "{hold}");
        let upgraded = report["storm"]["upgraded"].as_u64().unwrap();
        assert!(upgraded >= 8, "{hold}: {upgraded}");
        assert_eq!(report["clients"]["complete"], 10, "{hold}");
    }
}

#[test]
fn a_storm_that_is_refused_says_with_what() {
    let server = serve(|_, payload, _| frame(payload), ACCEPTED);
    let full = refuse_all();
    let publish = format!("http://{server}");
    let more = ["--clients", "1", "--publish-url", &publish, "--storm-clients", "4"];
    // The refusing server takes the one client that stays, and nobody else.
    let (code, report) = run(&full, &[&more[..], &["--stalled", "0", "--settle", "0.1"]].concat());
    assert_eq!(code, Some(3), "the client that stays gets nothing here");
    assert!(report["storm"]["refused"]["503"].as_u64().unwrap() > 0, "{}", report["storm"]);
    assert_eq!(report["storm"]["upgraded"], 0);
    assert_eq!(report["storm"]["failed"], 0);
}

/// Upgrades the first client and is full from then on. Returns its address.
fn refuse_all() -> String {
    let first = Mutex::new(None);
    accepts(move |mut stream| {
        let mut request = [0; 2048];
        if stream.read(&mut request).unwrap_or(0) == 0 {
            return;
        }
        let full = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
        let mut first = first.lock().unwrap();
        let answer = if first.is_none() { UPGRADED } else { full };
        let _ = stream.write_all(answer.as_bytes());
        first.get_or_insert(stream);
    })
}

#[test]
fn a_run_has_a_timeline_and_a_page() {
    let server = serve(|_, payload, _| frame(payload), ACCEPTED);
    let directory = std::env::temp_dir().join(format!("wsload-page-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = |name: &str| directory.join(name).display().to_string();
    let (json, page, both) = (path("run.json"), path("run.html"), path("both.html"));
    let (_, report) = run(&server, &["--scenario", "live", "--out", &json, "--html", &page]);
    assert_eq!(report["scenario"]["scenario"], "live");
    assert_eq!(report["scenario"]["clients"], 10, "what is typed wins");
    let times = report["timeline"]["at_ms"].as_array().unwrap();
    let rates = report["timeline"]["deliveries_per_second"].as_array().unwrap();
    assert!(times.len() >= 2 && times.len() == rates.len(), "{}", report["timeline"]);
    assert!(rates.iter().any(|rate| rate.as_f64().unwrap() > 0.0));
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("Live: 10 clients") && page.contains("All is well"), "{page}");
    let output = wsload(&["report", &json, &json, "--html", &both]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let both = std::fs::read_to_string(both).unwrap();
    assert!(both.contains("2 runs compared") && both.contains("run (2)"));
    std::fs::remove_dir_all(directory).unwrap();
}
