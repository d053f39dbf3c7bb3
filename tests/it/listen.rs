//! `scripts/listen`, the client that the first minute of README uses: over TLS too.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use crate::support::{
    certificates::Authority, foreign_proxy::Proxy, publish::Publisher, server::Server,
};

/// HAProxy with this certificate before a server.
fn tls_before(server: SocketAddr, pem: &str) -> Proxy {
    Proxy::start("haproxy", |addr, folder| {
        let file = folder.join("pem");
        fs::write(&file, pem).unwrap();
        format!(
            "defaults\n mode tcp\n timeout connect 30s\n timeout client 30s\n \
             timeout server 30s\nlisten it\n bind {addr} ssl crt {}\n server s {server}\n",
            file.display()
        )
    })
}

fn listen(proxy: &Proxy, authorities: &str) -> Child {
    Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/listen"))
        .arg(format!("wss://localhost:{}/ws", proxy.addr().port()))
        .env("SSL_CERT_FILE", authorities)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 runs")
}

#[test]
fn listen_talks_tls_and_leaves_politely() {
    let (server, authority) = (Server::start(&["--notify-interval", "0"]), Authority::new());
    let proxy = tls_before(server.addr(), &authority.pem(&["localhost"]));
    let mut listen = listen(&proxy, authority.path());
    let mut notes = BufReader::new(listen.stderr.take().unwrap());
    let mut note = String::new();
    notes.read_line(&mut note).unwrap();
    assert!(note.starts_with("* connected to wss://"), "{note}");
    let mut publisher = Publisher::new(server.addr());
    // More than one record of TLS.
    let long = "x".repeat(40_000);
    for data in ["hi", &long, "there"] {
        publisher.publish(data);
    }
    let lines = BufReader::new(listen.stdout.take().unwrap()).lines();
    let lines: Vec<String> = lines.take(3).map(Result::unwrap).collect();
    assert_eq!(lines, ["hi", &long, "there"]);
    let line = format!("kill -TERM {}", listen.id());
    assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
    assert_eq!(listen.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    notes.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "* left\n");
}

/// `wsbcast listen` trusts no server whose certificate comes from an authority it does not know.
#[test]
fn listen_trusts_no_unknown_authority() {
    let server = Server::start(&[]);
    let (known, unknown) = (Authority::new(), Authority::new());
    let proxy = tls_before(server.addr(), &unknown.pem(&["localhost"]));
    let output = listen(&proxy, known.path()).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("CERTIFICATE_VERIFY_FAILED"), "{error}");
}
