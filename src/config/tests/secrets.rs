//! The sources of secrets, and the warnings in the log.

use super::*;

/// A Redis URL may come from a file and what is typed beats a variable.
#[test]
fn a_redis_url_may_come_from_a_file() {
    let file = token_file("redis://:secret@file:1/2\n");
    let path = file.path().to_str().unwrap();
    let url = |line: &[&str], variables: &[(&str, &str)]| {
        good(line, variables).redis.url.unwrap().expose().to_owned()
    };
    let (typed, variable) = ("--redis-url=redis://typed", ("REDIS_URL", "redis://shared"));
    let (typed_file, variable_file) =
        (["--redis-url-file", path], ("WSBCAST_REDIS_URL_FILE", path));
    let of_file = "redis://:secret@file:1/2";
    assert_eq!(url(&typed_file, &[]), of_file);
    assert_eq!(url(&[], &[variable_file]), of_file);
    assert_eq!(url(&typed_file, &[variable]), of_file);
    assert_eq!(url(&[typed], &[variable_file]), "redis://typed");
    for found in [bad(&[typed, typed_file[0], path], &[]), bad(&[], &[variable, variable_file])] {
        assert!(found.len() == 1 && found[0].option == "redis-url-file", "{found:?}");
    }
}

/// A setting that weakens a secret is warned of, and the secret is not shown.
#[test]
fn weak_secrets_are_warned_of_and_not_shown() {
    let warnings = |line: &[&str]| good(line, &[]).warnings;
    assert!(warnings(&["--api-token=0123456789abcdef"]).is_empty());
    for (token, word) in [("0123456789abcde", "shorter than 16"), ("secret,0123456789", "comma")] {
        let told = warnings(&["--api-token", token]);
        assert!(told.len() == 1 && told[0].contains(word), "{told:?}");
        assert!(!told[0].contains(token));
    }
}

/// A file with a secret that others may read or change is warned of.
#[cfg(unix)]
#[test]
fn a_secret_that_others_may_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;

    let (tokens, url) = (token_file("0123456789abcdef\n"), token_file("redis://:secret@host\n"));
    for (option, file) in [("--api-token-file", &tokens), ("--redis-url-file", &url)] {
        let path = file.path().to_str().unwrap();
        for (mode, words) in [
            (0o600, ""),
            (0o400, ""),
            (0o711, ""),
            (0o640, "can be read by its group (mode 640)"),
            (0o644, "can be read by every user of this machine (mode 644)"),
            (0o604, "can be read by every user"),
            (0o602, "can be changed by every user of this machine (mode 602)"),
            (0o620, "can be changed by its group"),
            (0o664, "can be read by every user of this machine and can be changed by its group"),
        ] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
            let told = good(&[option, path], &[]).warnings;
            assert_eq!(told.len(), usize::from(!words.is_empty()), "{mode:o}: {told:?}");
            let names_it = |told: &String| {
                told.contains(path) && told.contains(option) && told.contains(words)
            };
            assert!(told.iter().all(names_it), "{told:?}");
        }
    }
}

/// A byte order mark is no part of a secret and the one of UTF-16 is named.
#[test]
fn a_byte_order_mark_is_no_part_of_a_secret() {
    let marked = token_file("\u{feff}0123456789abcdef\r\n\u{feff}fedcba9876543210\n");
    let config = good(&["--api-token-file", marked.path().to_str().unwrap()], &[]);
    let tokens: Vec<_> = config.api_tokens.iter().map(Token::expose).collect();
    assert_eq!(tokens, ["0123456789abcdef", "fedcba9876543210"]);
    for option in ["--api-token-file", "--redis-url-file"] {
        for (bytes, word) in [
            (&b"\xff\xfet\0"[..], "byte order mark of UTF-16"),
            (b"\xfe\xff\0t", "byte order mark of UTF-16"),
            (b"t\xff", "no UTF-8"),
        ] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(bytes).unwrap();
            let found = bad(&[option, file.path().to_str().unwrap()], &[]);
            assert!(found.len() == 1 && found[0].reason.contains(word), "{found:?}");
        }
    }
}
