//! SIGHUP: files are read again, all or nothing, and the log says what is new.

use std::fs;

use tempfile::TempDir;

use crate::support::{
    http::Http,
    server::{Launch, Server},
};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A server with an HMAC secret in a file of this folder.
fn serving(folder: &TempDir) -> Server {
    let path = folder.path().join("secret");
    fs::write(&path, SECRET).unwrap();
    Launch::on_a_free_port(&["--jwt-secret-file", path.to_str().unwrap()]).start()
}

#[test]
fn a_new_key_is_read_on_sighup() {
    let folder = TempDir::new().unwrap();
    let server = serving(&folder);
    server.signal(&["HUP"]);
    server.wait_for_log(&["SIGHUP", "nothing is new"]);
    fs::write(folder.path().join("secret"), SECRET.to_uppercase()).unwrap();
    server.signal(&["HUP"]);
    server.wait_for_log(&["SIGHUP", "the keys of tokens are new"]);
    assert!(!server.log().to_lowercase().contains(SECRET));
}

/// A file that can't be used leaves everything as it is, and the process serves on.
#[test]
fn a_bad_file_changes_nothing_on_sighup() {
    let folder = TempDir::new().unwrap();
    let mut server = serving(&folder);
    fs::write(folder.path().join("secret"), "short").unwrap();
    server.signal(&["HUP"]);
    server.wait_for_log(&["SIGHUP", "--jwt-secret-file", "shorter than 32 bytes"]);
    server.wait_for_log(&["SIGHUP", "everything stays as it is"]);
    fs::write(folder.path().join("secret"), SECRET).unwrap();
    server.signal(&["HUP"]);
    server.wait_for_log(&["SIGHUP", "nothing is new"]);
    assert!(server.is_running());
}

/// An API token is exchanged while clients stay: the old one is refused from then on.
#[test]
fn a_new_api_token_is_read_on_sighup() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tokens");
    fs::write(&path, "the-first-api-token\n").unwrap();
    let server = Launch::on_a_free_port(&["--api-token-file", path.to_str().unwrap()]).start();
    let publish = |token: &str| {
        let address = server.addr();
        let mut http = Http::connect(address);
        http.send(format!(
            "POST /broadcast HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: 1\r\n\r\nx"
        ));
        http.response().status
    };
    assert_eq!([publish("the-first-api-token"), publish("the-second-api-token")], [202, 401]);
    fs::write(&path, "the-second-api-token\n").unwrap();
    server.signal(&["HUP"]);
    server.wait_for_log(&["SIGHUP", "the API tokens are new: 1"]);
    assert_eq!([publish("the-first-api-token"), publish("the-second-api-token")], [401, 202]);
}
