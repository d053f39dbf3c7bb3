//! Keys of every kind, and those that are none.

use serde_json::{Value, json};

use super::*;
use crate::{
    limits::TOKEN_JWKS_KEYS_MAX,
    token::{
        crypto,
        tests::signer::{Signer, good_claims},
    },
};

const RSA_1024: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCXYQEXRDjQmAqH9ivDVG9Y1Q+z
OwKOyAWJ0AmxAaSbFHgFWTOZLRKZpvJF5GT+ChT8PEgp6aAZleHSyowdaZc/ruQa
ZJupO+JGkn52nUt43WB8c9tNKpArtDB/hDK80teQmEkHNisN5PkmK15C/sakf8YA
N8GRfmWrec/JFxYLQwIDAQAB
-----END PUBLIC KEY-----";

const P_521: &str = "-----BEGIN PUBLIC KEY-----
MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQBsW3IRvguLyHurQMxErHwpQ3ZD0q4
hwSXbXS0+v2Csb+nnORy5T1EdH/Q6msKwKY9gBBIjEhfPUPgdRW3eiQs7xUBBpjx
Civ5cfI9m8b/IpBtTLz+N4+0WTHKsecKa64SC9hOsRktvWnTcXW19q2zQFlXUoSc
IN19BuEy7HGKm3d/XL4=
-----END PUBLIC KEY-----";

/// Every kind of public key with its algorithms.
fn kinds() -> Vec<(Signer, &'static [&'static str])> {
    vec![
        (Signer::rsa(), &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]),
        (Signer::p256(), &["ES256"]),
        (Signer::p384(), &["ES384"]),
        (Signer::ed25519(), &["EdDSA"]),
    ]
}

const ALGORITHMS: [&str; 12] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
    "ES384", "EdDSA",
];

fn set(fetched: Vec<Key>) -> KeySet {
    crypto::install();
    KeySet { given: Vec::new(), fetched }
}

fn verify(keys: &KeySet, token: &str) -> Result<(), TokenError> {
    keys.verify(token, &TokenHeader::read(token).unwrap())
}

#[track_caller]
fn of_pem(signer: &Signer) -> KeySet {
    let keys = public_keys(&signer.pem()).unwrap();
    set(keys.into_iter().map(|key| Key::public(key, None)).collect())
}

fn of_set(jwks: &[Value]) -> Result<KeySet, InvalidJwks> {
    jwks_keys(json!({"keys": jwks, "more": 1}).to_string().as_bytes()).map(set)
}

#[test]
fn public_keys_of_every_kind_verify_their_algorithms() {
    for (signer, algorithms) in kinds() {
        for keys in [of_pem(&signer), of_set(&[signer.jwk("a")]).unwrap()] {
            for algorithm in algorithms {
                assert_eq!(verify(&keys, &signer.good(algorithm)), Ok(()), "{algorithm}");
            }
        }
    }
}

/// The header of a token can't make a key serve an algorithm that is not its.
#[test]
fn a_public_key_is_no_hmac_secret() {
    for (signer, algorithms) in kinds() {
        let keys = of_pem(&signer);
        let der = signer.pem();
        for text in [der.as_str(), der.trim_end()] {
            for algorithm in ["HS256", "HS384", "HS512"] {
                let forged = Signer::hmac(text).good(algorithm);
                let refused = verify(&keys, &forged);
                assert!(matches!(refused, Err(TokenError::Algorithm(_))), "{algorithm}");
            }
        }
        for algorithm in ALGORITHMS.iter().filter(|other| !algorithms.contains(other)) {
            let refused = verify(&keys, &signer.good(algorithm));
            assert!(matches!(refused, Err(TokenError::Algorithm(_))), "{algorithm}");
        }
    }
}

/// RSA serves two families of signatures: one is not taken for the other.
#[test]
fn a_signature_of_another_algorithm_is_wrong() {
    let signer = Signer::rsa();
    let keys = of_pem(&signer);
    let (_, signed) = {
        let token = signer.good("RS256");
        let (message, signed) = token.rsplit_once('.').unwrap();
        (message.to_owned(), signed.to_owned())
    };
    let other = signer.good("PS256");
    let (message, _) = other.rsplit_once('.').unwrap();
    assert_eq!(verify(&keys, &format!("{message}.{signed}")), Err(TokenError::Signature));
}

#[test]
fn a_token_of_another_key_is_refused() {
    for (own, foreign, algorithm) in [
        (Signer::p256(), Signer::p256(), "ES256"),
        (Signer::p384(), Signer::p384(), "ES384"),
        (Signer::ed25519(), Signer::ed25519(), "EdDSA"),
    ] {
        let keys = of_pem(&own);
        assert_eq!(verify(&keys, &own.good(algorithm)), Ok(()));
        assert_eq!(verify(&keys, &foreign.good(algorithm)), Err(TokenError::Signature));
        let token = own.good(algorithm);
        for cut in [&token[..token.len() - 2], &format!("{token}AA")] {
            assert_eq!(verify(&keys, cut), Err(TokenError::Signature), "{algorithm}");
        }
    }
}

#[test]
fn a_file_may_hold_several_keys() {
    let (old, new) = (Signer::p256(), Signer::ed25519());
    let keys = public_keys(&format!("{}# the new one\n{}", old.pem(), new.pem())).unwrap();
    assert_eq!(keys.len(), 2);
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn files_with_other_things_are_refused_by_name() {
    let private = include_str!("../tests/rsa.pem");
    for (text, error) in [
        (private, InvalidPem::Private),
        (&private.replace("PRIVATE KEY", "EC PRIVATE KEY"), InvalidPem::Private),
        (&private.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), InvalidPem::Private),
        (&private.replace("PRIVATE KEY", "CERTIFICATE"), InvalidPem::Certificate),
        (&private.replace("PRIVATE KEY", "RSA PUBLIC KEY"), InvalidPem::Pkcs1),
        (&private.replace("PRIVATE KEY", "PUBLIC KEY"), InvalidPublicKey::Damaged.into()),
        (RSA_1024, InvalidPublicKey::RsaBits(1024).into()),
        (P_521, InvalidPublicKey::Kind.into()),
        ("", InvalidPem::None),
        ("not a key", InvalidPem::None),
        ("-----BEGIN PUBLIC KEY-----\nAAAA", InvalidPem::None),
        ("-----BEGIN PUBLIC KEY-----\nä\n-----END PUBLIC KEY-----", InvalidPem::None),
    ] {
        assert_eq!(public_keys(text), Err(error), "{text}");
    }
}

/// Bytes of any kind cause an error, and no panic.
#[test]
fn a_cut_key_is_damaged() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    for (signer, _) in kinds() {
        let base64: String = signer.pem().lines().filter(|line| !line.contains("--")).collect();
        let der = STANDARD.decode(base64).unwrap();
        for end in 0..der.len() {
            let cut = STANDARD.encode(&der[..end]);
            let pem = format!("-----BEGIN PUBLIC KEY-----\n{cut}\n-----END PUBLIC KEY-----");
            assert!(public_keys(&pem).is_err(), "{end}");
        }
    }
}

#[test]
fn a_set_keeps_the_usable_keys_only() {
    let signer = Signer::p256();
    let good = signer.jwk("good");
    let changed = |changes: &[(&str, Value)]| {
        let mut key = signer.jwk("bad");
        changes.iter().for_each(|(name, value)| key[*name] = value.clone());
        key
    };
    let useless = [
        changed(&[("use", "enc".into())]),
        changed(&[("use", 7.into())]),
        changed(&[("key_ops", json!(["sign"]))]),
        changed(&[("kty", "unknown".into())]),
        changed(&[("kty", Value::Null)]),
        changed(&[("crv", "P-521".into())]),
        changed(&[("crv", "P-384".into())]),
        changed(&[("alg", "RS256".into())]),
        changed(&[("alg", "HS256".into())]),
        changed(&[("alg", "none".into())]),
        changed(&[("alg", 7.into())]),
        changed(&[("d", "AAAA".into())]),
        changed(&[("kid", 7.into())]),
        changed(&[("kid", "x".repeat(10_000).into())]),
        changed(&[("x", "AAAA".into())]),
        changed(&[("x", "ä".into())]),
        changed(&[("y", Value::Null)]),
        Signer::hmac(&"s".repeat(32)).jwk("oct"),
        json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
        json!({"kty": "RSA", "n": "", "e": ""}),
        json!({"kty": "OKP", "crv": "Ed448", "x": "AAAA"}),
        json!("a"),
        Value::Null,
    ];
    let all = [&useless[..], std::slice::from_ref(&good), &useless[..]].concat();
    assert_eq!(of_set(&all).unwrap(), of_set(&[good]).unwrap());
    for key in useless {
        assert_eq!(of_set(std::slice::from_ref(&key)), Err(InvalidJwks::NoneUsable(1)), "{key}");
    }
    let for_signatures = [
        changed(&[("use", "sig".into()), ("alg", "ES256".into())]),
        changed(&[("key_ops", json!(["verify"]))]),
    ];
    assert_eq!(of_set(&for_signatures).unwrap().fetched.len(), 2);
}

#[test]
fn documents_that_are_no_sets_are_refused() {
    for json in ["", "{", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":7}"#, "<html>", "\u{feff}{}"] {
        assert_eq!(jwks_keys(json.as_bytes()).unwrap_err(), InvalidJwks::Form, "{json}");
    }
    assert_eq!(jwks_keys(b"\xff").unwrap_err(), InvalidJwks::Form);
    assert_eq!(jwks_keys(br#"{"keys":[]}"#).unwrap_err(), InvalidJwks::NoneUsable(0));
    let key = Signer::ed25519().jwk("a");
    let most = vec![key; TOKEN_JWKS_KEYS_MAX + 1];
    assert!(of_set(&most[1..]).is_ok());
    assert_eq!(of_set(&most), Err(InvalidJwks::TooMany));
}

/// The id chooses among the keys of a set; keys of files have none and are always tried.
#[test]
fn a_key_is_chosen_by_its_id() {
    let (one, two, file) = (Signer::p256(), Signer::p256(), Signer::p256());
    let mut keys = of_set(&[one.jwk("1"), two.jwk("2")]).unwrap();
    keys.given =
        public_keys(&file.pem()).unwrap().into_iter().map(|key| Key::public(key, None)).collect();
    let named = |signer: &Signer, kid: &str| {
        signer.token(&json!({"alg": "ES256", "kid": kid}), &good_claims())
    };
    assert_eq!(verify(&keys, &named(&one, "1")), Ok(()));
    assert_eq!(verify(&keys, &named(&two, "2")), Ok(()));
    assert_eq!(verify(&keys, &named(&file, "2")), Ok(()));
    assert_eq!(verify(&keys, &named(&two, "1")), Err(TokenError::Signature));
    assert_eq!(verify(&keys, &one.good("ES256")), Ok(()));
    assert_eq!(verify(&keys, &two.good("ES256")), Ok(()));
    keys.given.clear();
    let refused = verify(&keys, &named(&two, "3"));
    assert_eq!(refused.unwrap_err().hint(), "unknown key id \"3\"");
    let header = TokenHeader::read(&named(&two, "3")).unwrap();
    assert!(keys.may_lack(&header));
    assert!(!keys.may_lack(&TokenHeader::read(&named(&two, "2")).unwrap()));
    let hmac = Signer::hmac(&"s".repeat(32)).good("HS256");
    assert!(!keys.may_lack(&TokenHeader::read(&hmac).unwrap()));
}

/// Two keys of one id, as some issuers have while they replace one: both count.
#[test]
fn keys_may_share_an_id() {
    let (one, two) = (Signer::p256(), Signer::p256());
    let keys = of_set(&[one.jwk("1"), two.jwk("1")]).unwrap();
    let token = two.token(&json!({"alg": "ES256", "kid": "1"}), &good_claims());
    assert_eq!(verify(&keys, &token), Ok(()));
}

/// A key of a set that the token names is tried before all those without an id.
#[test]
fn a_named_key_is_behind_no_others() {
    let named = Signer::p256();
    let mut keys = of_set(&[named.jwk("1")]).unwrap();
    let files = || public_keys(&Signer::p256().pem()).unwrap();
    keys.given =
        (0..TOKEN_KEYS_TRIED_MAX).flat_map(|_| files()).map(|key| Key::public(key, None)).collect();
    let token = named.token(&json!({"alg": "ES256", "kid": "1"}), &good_claims());
    assert_eq!(verify(&keys, &token), Ok(()));
    assert_eq!(verify(&keys, &named.good("ES256")), Err(TokenError::Signature), "it is not named");
}

#[test]
fn a_token_tries_a_bounded_number_of_keys() {
    let (first, last) = (Signer::p256(), Signer::p256());
    let mut jwks = vec![first.jwk("1"); TOKEN_KEYS_TRIED_MAX];
    jwks.push(last.jwk("1"));
    let keys = of_set(&jwks).unwrap();
    assert_eq!(verify(&keys, &first.good("ES256")), Ok(()));
    assert_eq!(verify(&keys, &last.good("ES256")), Err(TokenError::Signature));
}
