//! An issuer's key set over HTTPS: certificates, redirections, and what a token makes of it.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use rustls::{
    ServerConfig, ServerConnection, Stream,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};

use crate::support::{
    certificates::Authority,
    server::{Ended, Launch},
};

/// The key that an issuer signs with.
pub(crate) struct IssuerKey(Ed25519KeyPair);

impl IssuerKey {
    pub(crate) fn new() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
    }

    /// A token for the channel `news`, which never expires.
    pub(crate) fn token(&self) -> String {
        let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let header = part(json!({"alg": "EdDSA", "kid": "1"}));
        let rights = json!({"subscribe": ["news"], "publish": ["news"]});
        let claims = json!({"exp": 100_000_000_000_u64, "wsbcast": rights});
        let message = format!("{header}.{}", part(claims));
        let signed = URL_SAFE_NO_PAD.encode(self.0.sign(message.as_bytes()));
        format!("{message}.{signed}")
    }

    /// The set with its public half.
    pub(crate) fn set(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.0.public_key());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "1", "x": x}]}).to_string()
    }
}

pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn found(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
}

/// Answers by the path of the request, over TLS with a certificate of `authority`, on a port.
fn serve(authority: &Authority, answers: Arc<Mutex<Vec<(String, String)>>>) -> u16 {
    let pem = authority.pem(&["localhost"]);
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    // As `localhost` may mean either.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut session = ServerConnection::new(config.clone()).unwrap();
            let mut stream = Stream::new(&mut session, &mut socket);
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                request.push(byte[0]);
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            let answers = answers.lock().unwrap();
            let answer =
                answers.iter().find(|(path, _)| request.starts_with(&format!("GET {path} ")));
            if let Some((_, answer)) = answer {
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
    port
}

fn check(token: &str, port: u16, path: &str, authority: &Authority) -> Ended {
    let url = format!("https://localhost:{port}{path}");
    let launch = Launch::new(&["token", "check", token, "--jwt-jwks", &url]);
    launch.env("SSL_CERT_FILE", authority.path()).run()
}

#[test]
fn a_key_set_comes_from_a_trusted_issuer_only() {
    let (issuer, stranger) = (Authority::new(), Authority::new());
    let key = IssuerKey::new();
    let port = serve(&issuer, Arc::new(Mutex::new(vec![("/jwks".to_owned(), ok(&key.set()))])));
    let good = check(&key.token(), port, "/jwks", &issuer);
    assert_eq!(good.code, Some(0), "{}{}", good.stdout, good.stderr);
    let forged = check(&IssuerKey::new().token(), port, "/jwks", &issuer);
    assert!(forged.code == Some(1) && forged.stdout.contains("refused: the signature"));
    let unknown = check(&key.token(), port, "/jwks", &stranger);
    assert!(
        unknown.code == Some(1) && unknown.stdout.contains("out of reach"),
        "{}",
        unknown.stdout
    );
}

/// A redirection is followed as long as nobody on the way could change the answer.
#[test]
fn a_key_set_is_followed_over_https_only() {
    let issuer = Authority::new();
    let key = IssuerKey::new();
    let answers = Arc::new(Mutex::new(Vec::new()));
    let port = serve(&issuer, answers.clone());
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let plain_port = plain.local_addr().unwrap().port();
    let set = ok(&key.set());
    thread::spawn(move || {
        for mut socket in plain.incoming().flatten() {
            let _ = socket.write_all(set.as_bytes());
        }
    });
    answers.lock().unwrap().extend([
        ("/jwks".to_owned(), ok(&key.set())),
        ("/moved".to_owned(), found(&format!("https://localhost:{port}/jwks"))),
        ("/plain".to_owned(), found(&format!("http://127.0.0.1:{plain_port}/jwks"))),
        ("/loop".to_owned(), found(&format!("https://localhost:{port}/loop"))),
    ]);
    for (path, code) in [("/moved", 0), ("/plain", 1), ("/loop", 1)] {
        let ended = check(&key.token(), port, path, &issuer);
        assert_eq!(ended.code, Some(code), "{path}: {}", ended.stdout);
    }
}
