//! Listeners by TLS and their certificates: options that are good only together.

use std::fs;

use tempfile::TempDir;

use super::*;

/// A pair of files, and the options that name them.
fn pair(folder: &TempDir, name: &str) -> [String; 2] {
    let path = |kind: &str| folder.path().join(format!("{name}.{kind}")).display().to_string();
    let key = rcgen::KeyPair::generate().unwrap();
    let wanted = rcgen::CertificateParams::new([format!("{name}.test")]).unwrap();
    fs::write(path("pem"), wanted.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(path("key"), key.serialize_pem()).unwrap();
    [path("pem"), path("key")]
}

/// The same by flags and by variables: several pairs in order.
#[test]
fn pairs_are_flags_and_variables() {
    let folder = TempDir::new().unwrap();
    let [[one, one_key], [two, two_key]] = ["one", "two"].map(|name| pair(&folder, name));
    let flags = [
        "--tls-listen=0.0.0.0:443".to_owned(),
        format!("--tls-cert={one}"),
        format!("--tls-cert={two}"),
        format!("--tls-key={one_key}"),
        format!("--tls-key={two_key}"),
    ];
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let (certificates, keys) = (format!("{one},{two}"), format!("{one_key},{two_key}"));
    let variables = [
        ("WSBCAST_TLS_LISTEN", "0.0.0.0:443"),
        ("WSBCAST_TLS_CERT", &certificates),
        ("WSBCAST_TLS_KEY", &keys),
    ];
    let config = good(&flags, &[]);
    assert_eq!(format!("{config:?}"), format!("{:?}", good(&[], &variables)));
    let store = config.certificates.clone().unwrap();
    assert_eq!(store.in_use().ends().map(|(file, _)| file).collect::<Vec<_>>(), [one, two]);
    // A listener that is named replaces the default, and is one of the public ones.
    assert_eq!((config.listen.len(), config.tls_listen.len()), (0, 1));
    assert!(!config.is_loopback_only());
    let both = good(&[&flags[..], &["--listen=127.0.0.1:1"]].concat(), &[]);
    assert_eq!((both.listen.len(), both.tls_listen.len()), (1, 1));
}

/// Each mistake is one line with the option to be changed.
#[test]
fn options_of_tls_that_lack_each_other_are_told() {
    let folder = TempDir::new().unwrap();
    let [certificate, key] = pair(&folder, "one");
    let [other, _] = pair(&folder, "two");
    let (cert, key) = (format!("--tls-cert={certificate}"), format!("--tls-key={key}"));
    let (other, missing) = (format!("--tls-cert={other}"), "--tls-key=/nowhere".to_owned());
    let listen = "--tls-listen=127.0.0.1:1";
    for (line, option, words) in [
        (&[listen][..], "tls-listen", "there are 0 and 0"),
        (&[listen, &cert], "tls-listen", "there are 1 and 0"),
        (&[listen, &cert, &other, &key], "tls-listen", "there are 2 and 1"),
        (&[&cert, &key], "tls-cert", "add --tls-listen"),
        (&[&key], "tls-key", "add --tls-listen"),
        (&[listen, &cert, &missing], "tls-key", "cannot be read"),
        (&[listen, &other, &key], "tls-key", "does not belong to the certificate"),
        (&[listen, "--listen=0.0.0.0:1", &cert, &key], "tls-listen", "collides with 0.0.0.0:1"),
        (&["--tls-listen=nonsense", &cert, &key], "tls-listen", "expected ADDR:PORT"),
        (&[listen, "--admin-listen=127.0.0.1:1", &cert, &key], "admin-listen", "by --tls-listen"),
    ] {
        let found = bad(line, &[]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].option, option, "{found:?}");
        assert!(found[0].to_string().contains(words), "{line:?}: {}", found[0]);
    }
}

/// Clients that may publish are strangers on a listener by TLS as on any other.
#[test]
fn listeners_by_tls_are_public() {
    let folder = TempDir::new().unwrap();
    let [certificate, key] = pair(&folder, "one");
    let (cert, key) = (format!("--tls-cert={certificate}"), format!("--tls-key={key}"));
    let line = |listen| [listen, &*cert, &key, "--client-publish=broadcast"];
    good(&line("--tls-listen=127.0.0.1:1"), &[]);
    let found = bad(&line("--tls-listen=0.0.0.0:1"), &[]);
    assert_eq!(found[0].option, "client-publish", "{found:?}");
}
