//! Where secrets may come from, and what the log warns of before it is too late.

use super::*;

#[test]
fn a_redis_url_may_come_from_a_file_and_what_is_typed_beats_a_variable() {
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

#[test]
fn what_weakens_a_secret_is_warned_of_without_showing_it() {
    let warnings = |line: &[&str]| good(line, &[]).warnings;
    assert!(warnings(&["--api-token=0123456789abcdef"]).is_empty());
    for (token, word) in [("0123456789abcde", "shorter than 16"), ("secret,0123456789", "comma")] {
        let told = warnings(&["--api-token", token]);
        assert!(told.len() == 1 && told[0].contains(word), "{told:?}");
        assert!(!told[0].contains(token));
    }
}

#[cfg(unix)]
#[test]
fn a_file_with_a_secret_that_everybody_may_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;

    let (tokens, url) = (token_file("0123456789abcdef\n"), token_file("redis://:secret@host\n"));
    for (option, file) in [("--api-token-file", &tokens), ("--redis-url-file", &url)] {
        let path = file.path().to_str().unwrap();
        for (mode, is_told) in [(0o600, false), (0o640, false), (0o644, true), (0o604, true)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
            let told = good(&[option, path], &[]).warnings;
            assert_eq!(told.len(), usize::from(is_told), "{mode:o}: {told:?}");
            let names_it = |told: &String| told.contains(path) && told.contains(option);
            assert!(told.iter().all(names_it), "{told:?}");
        }
    }
}
