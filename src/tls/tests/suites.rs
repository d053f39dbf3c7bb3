//! The suites of TLS 1.3 whose keys take little, against the library's own.

use rustls::{CipherSuite, crypto::CryptoProvider};

use super::{super::suites, *};

const SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
];

/// A world whose client has one suite, the library's own.
fn world_of(suite: CipherSuite) -> World {
    let world = world(&version::TLS13);
    let mut provider = CryptoProvider::clone(world.client.crypto_provider());
    provider.cipher_suites.retain(|own| own.suite() == suite);
    let mut client = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
        .with_root_certificates(trusting(&world.files))
        .with_no_client_auth();
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    World { client: Arc::new(client), ..world }
}

/// Content of all lengths goes both ways, before and after a change of keys.
#[test]
fn all_suites_carry_content_both_ways() {
    for suite in SUITES {
        let mut pair = Pair::greeted(&world_of(suite));
        let agreed = pair.client.negotiated_cipher_suite().unwrap().suite();
        assert_eq!(agreed, suite);
        for length in [1, 15, 16, 17, 130, 5000] {
            let content = vec![length as u8; length];
            pair.client.writer().write_all(&content).unwrap();
            pair.talk().unwrap();
            assert_eq!(std::mem::take(&mut pair.heard), content, "{suite:?}");
            assert_eq!(pair.write(&[&content]).unwrap(), length);
            assert_eq!(pair.client_heard(), content, "{suite:?}");
            if length == 17 {
                pair.client.refresh_traffic_keys().unwrap();
            }
        }
    }
}

/// A record with any other bit is refused, and so is one that is too short for its tag.
#[test]
fn no_suite_takes_a_changed_record() {
    const HEAD_BYTES: usize = 5;
    for suite in SUITES {
        let world = world_of(suite);
        let mut pair = Pair::greeted(&world);
        pair.client.writer().write_all(b"content").unwrap();
        pair.client_turn();
        for at in HEAD_BYTES..pair.up.len() {
            let mut pair = Pair::greeted(&world);
            pair.client.writer().write_all(b"content").unwrap();
            pair.client_turn();
            pair.up[at] ^= 1 << (at % 8);
            let error = pair.read().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{suite:?}, byte {at}");
            assert!(pair.heard.is_empty());
        }
        let mut pair = Pair::greeted(&world);
        pair.up = [&[23, 3, 3, 0, 15][..], &[0; 15]].concat();
        assert_eq!(pair.read().unwrap_err().kind(), io::ErrorKind::InvalidData, "{suite:?}");
    }
}

/// The suites are those of the library, in its order.
#[test]
fn the_suites_are_the_librarys() {
    let names = |provider: &CryptoProvider| -> Vec<_> {
        provider.cipher_suites.iter().map(rustls::SupportedCipherSuite::suite).collect()
    };
    assert_eq!(names(&suites::provider()), names(&ring::default_provider()));
}
