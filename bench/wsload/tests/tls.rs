//! Clients by TLS against a real server: they get everything, and resume where they are told to.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{
    node::{free_address, server_beside},
    wait::eventually,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A server that is killed when the test ends; 127.0.0.1 speaks TLS, 127.0.0.2 does not.
struct Server(Child, u16);

impl Server {
    fn start(folder: &Path) -> Self {
        let named = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        fs::write(&certificate, named.cert.pem()).unwrap();
        fs::write(&key, named.signing_key.serialize_pem()).unwrap();
        let port = free_address().unwrap().port();
        let server = Command::new(server_beside(env!("CARGO_BIN_EXE_wsload")))
            .args(["--listen", &format!("127.0.0.2:{port}"), "--threads", "1"])
            .args(["--tls-listen", &format!("127.0.0.1:{port}")])
            .arg("--tls-cert")
            .arg(certificate)
            .arg("--tls-key")
            .arg(key)
            .args(["--notify-interval", "0", "--log-level", "error"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self(server, port);
        eventually(PATIENCE, "the server listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
                && TcpStream::connect(("127.0.0.2", port)).is_ok()
        });
        server
    }

    /// The report of a run with these arguments.
    fn load(&self, more: &[&str]) -> Value {
        let port = self.1;
        let load = Command::new(env!("CARGO_BIN_EXE_wsload"))
            .args(["run", "--json", "--url", &format!("ws://127.0.0.1:{port}")])
            .args(["--publish-url", &format!("http://127.0.0.2:{port}/broadcast")])
            .args(["--clients", "300", "--rate", "20", "--seconds", "0.5", "--warmup", "0"])
            .args(more)
            .output()
            .unwrap();
        serde_json::from_slice(&load.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&load.stderr)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn clients_by_tls_get_everything() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for version in ["1.2", "1.3"] {
        let report = server.load(&["--tls", version]);
        assert_eq!(report["problems"], json!([]), "{report:#}");
        assert_eq!(report["clients"]["complete"], 300);
        assert_eq!(report["clients"]["resumed"], 0, "nobody was told to");
        assert!(report["deliveries"]["total"].as_u64().unwrap() >= 300 * 5, "{report:#}");
        let report = server.load(&["--tls", version, "--tls-resume"]);
        assert_eq!(report["problems"], json!([]), "{report:#}");
        // Those that were on their way before the first ticket came had none.
        assert!(report["clients"]["resumed"].as_u64().unwrap() >= 100, "{report:#}");
    }
}

/// Each turn of a storm by TLS is a handshake of its own.
#[test]
fn a_storm_speaks_tls_too() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    // The storm's thread gives way to all others: on a busy machine its time is short.
    let report = server.load(&["--tls", "1.3", "--storm-clients", "50", "--seconds", "3"]);
    assert_eq!(report["problems"], json!([]), "{report:#}");
    assert!(report["storm"]["upgraded"].as_u64().unwrap() > 0, "{report:#}");
}

/// A server that speaks no TLS has no clients.
#[test]
fn a_plain_server_has_no_clients_by_tls() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let load = Command::new(env!("CARGO_BIN_EXE_wsload"))
        .args(["run", "--mode", "idle", "--clients", "3", "--url"])
        .arg(format!("wss://127.0.0.2:{}", server.1))
        .output()
        .unwrap();
    assert_eq!(load.status.code(), Some(1));
    let error = String::from_utf8_lossy(&load.stderr);
    assert!(error.contains("no client could connect"), "{error}");
}
