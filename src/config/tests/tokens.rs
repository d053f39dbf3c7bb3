//! Keys of tokens: their sources, and secrets that stay hidden.

use super::*;
use crate::token::{KeySetSource, TokenSettings};

/// Of Ed25519.
pub(super) const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
";

const SET: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a",
    "x":"Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE"}]}"#;

#[test]
fn without_keys_tokens_are_off() {
    let config = good(&[], &[]);
    assert_eq!(config.tokens, TokenSettings::default());
    assert!(!config.tokens.has_keys());
    assert_eq!(config.tokens.key_set_max_age, Duration::from_secs(24 * 60 * 60));
}

/// The end of a file's line is no part of its secret, and a comma is.
#[test]
fn a_secret_is_the_same_from_every_source() {
    let secret = "0123456789abcdef,0123456789abcdef";
    let flag = format!("--jwt-secret={secret}");
    let typed = good(&[&flag], &[]).tokens;
    assert_eq!(good(&[], &[("WSBCAST_JWT_SECRET", secret)]).tokens, typed);
    for end in ["", "\n", "\r\n", "\n\n"] {
        let file = token_file(&format!("{secret}{end}"));
        let path = file.path().to_str().unwrap();
        assert_eq!(good(&["--jwt-secret-file", path], &[]).tokens, typed, "{end:?}");
    }
    let both = good(&[&flag, "--jwt-secret=another-secret-of-more-than-32-bytes"], &[]).tokens;
    assert_eq!(both.secrets.len(), 2);
}

#[test]
fn an_empty_secret_is_refused() {
    for found in [bad(&["--jwt-secret="], &[]), bad(&[], &[("WSBCAST_JWT_SECRET", "")])] {
        assert!(found.len() == 1 && found[0].option == "jwt-secret", "{found:?}");
    }
}

/// Keys that are given in the place of others are refused by name.
#[test]
fn a_key_in_the_wrong_place_is_refused() {
    let private = PUBLIC_KEY.replace("PUBLIC", "PRIVATE");
    let two = format!("{0}\n{0}1\n", "0123456789abcdef".repeat(2));
    for (option, content, word) in [
        ("jwt-secret-file", PUBLIC_KEY, "PEM"),
        ("jwt-secret-file", &private, "PEM"),
        ("jwt-secret-file", "short\n", "shorter than 32 bytes"),
        ("jwt-secret-file", &two, "several lines"),
        ("jwt-public-key", &private, "private key"),
        ("jwt-public-key", "no key at all", "no public key"),
        ("jwt-public-key", "", "no public key"),
        ("jwt-jwks", PUBLIC_KEY, "no JSON Web Key Set"),
        ("jwt-jwks", r#"{"keys":[]}"#, "no usable key"),
    ] {
        let file = token_file(content);
        let path = file.path().to_str().unwrap();
        let found = bad(&[&format!("--{option}"), path], &[]);
        let [one] = &found[..] else { panic!("{option}: {found:?}") };
        assert!(one.option == option && one.value == path, "{one}");
        assert!(one.reason.contains(word), "{one}");
        assert!(!one.to_string().contains("0123456789"), "{one}");
    }
}

#[test]
fn a_key_set_is_a_file_or_a_url() {
    let file = token_file(SET);
    let set = good(&["--jwt-jwks", file.path().to_str().unwrap()], &[]).tokens.key_set;
    assert!(matches!(set, Some(KeySetSource::File(_))), "{set:?}");
    let set = good(&["--jwt-jwks=http://127.0.0.1:1/jwks"], &[]).tokens.key_set;
    assert!(matches!(set, Some(KeySetSource::Url(_))), "{set:?}");
    let found = bad(&["--jwt-jwks=https://user:s3cret@issuer.example/"], &[]);
    assert!(!found[0].to_string().contains("s3cret"), "{}", found[0]);
}

#[test]
fn keys_are_bounded() {
    let secret = |number: usize| format!("--jwt-secret={number:032}");
    let most: Vec<_> = (0..16).map(secret).collect();
    let most: Vec<_> = most.iter().map(String::as_str).collect();
    assert_eq!(good(&most, &[]).tokens.secrets.len(), 16);
    let found = bad(&[&most[..], &[&secret(16)]].concat(), &[]);
    assert!(found[0].to_string().contains("at most 16"), "{}", found[0]);
}

#[test]
fn rules_without_keys_are_warned_of() {
    let told = good(&["--jwt-issuer=a"], &[]).warnings;
    assert!(told.len() == 1 && told[0].contains("no key"), "{told:?}");
    let secret = format!("--jwt-secret={}", "s".repeat(32));
    assert!(good(&["--jwt-issuer=a", &secret], &[]).warnings.is_empty());
}

/// A secret in a file that others may read is warned of; a public key there is not.
#[cfg(unix)]
#[test]
fn a_public_key_may_be_read_by_others() {
    use std::os::unix::fs::PermissionsExt;

    let secret = "s".repeat(32);
    for (option, content, warnings) in [
        ("--jwt-secret-file", secret.as_str(), 1),
        ("--jwt-public-key", PUBLIC_KEY, 0),
        ("--jwt-jwks", SET, 0),
    ] {
        let file = token_file(content);
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        let told = good(&[option, file.path().to_str().unwrap()], &[]).warnings;
        assert_eq!(told.len(), warnings, "{told:?}");
    }
}
