//! Pairs in files: which are taken, which are refused, and how they are exchanged.

use std::{fs, time::Duration};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tempfile::TempDir;

use crate::tls::{BadPair, CertificateStore, Look, PairFiles, Prepared, Reloaded};

/// A folder with pairs.
pub(super) struct Files(TempDir);

impl Files {
    pub(super) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// Writes a new pair for `names` in the place of what `file` was.
    pub(super) fn pair(&self, file: &str, names: &[&str]) -> PairFiles {
        let key = KeyPair::generate().unwrap();
        let mut wanted =
            CertificateParams::new(names.iter().map(|name| (*name).into()).collect::<Vec<_>>())
                .unwrap();
        wanted.not_after = rcgen::date_time_ymd(2100, 3, 1);
        let certificate = wanted.self_signed(&key).unwrap();
        self.write(&format!("{file}.pem"), certificate.pem());
        self.write(&format!("{file}.key"), key.serialize_pem());
        self.named(&format!("{file}.pem"), &format!("{file}.key"))
    }

    /// The pair that all worlds have.
    pub(super) fn pairs(&self) -> [PairFiles; 1] {
        [self.named("one.pem", "one.key")]
    }

    fn named(&self, certificate: &str, key: &str) -> PairFiles {
        PairFiles { certificate: self.path(certificate), key: self.path(key) }
    }

    fn path(&self, file: &str) -> String {
        self.0.path().join(file).to_str().unwrap().to_owned()
    }

    fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(file), text).unwrap();
    }

    pub(super) fn open(&self, pairs: &[PairFiles]) -> CertificateStore {
        CertificateStore::open(pairs.to_vec()).unwrap()
    }

    /// All certificates in the folder.
    pub(super) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        let paths = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().path());
        let is_chain = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "pem");
        paths.filter(is_chain).map(|path| CertificateDer::from_pem_file(path).unwrap()).collect()
    }
}

/// Which certificate a client gets that asks for `name`, by its file.
fn chosen(store: &CertificateStore, name: Option<&str>) -> String {
    let set = store.in_use();
    let key = set.choose(name).unwrap();
    let der = key.cert[0].clone();
    let is_it = |file: &&str| CertificateDer::from_pem_file(file).is_ok_and(|found| found == der);
    set.ends().map(|(file, _)| file).find(is_it).unwrap().rsplit('/').next().unwrap().to_owned()
}

/// A look at the files: new pairs, and the first refusal.
fn looked(store: &CertificateStore) -> (Option<Prepared>, Option<BadPair>) {
    let Look { reloaded, refused } = store.prepare();
    let prepared = match reloaded {
        Reloaded::Prepared(prepared) => Some(prepared),
        Reloaded::Unchanged => None,
    };
    (prepared, refused.into_iter().next())
}

fn is_unchanged(store: &CertificateStore) -> bool {
    matches!(looked(store), (None, None))
}

/// A pipe or a device is refused, and a look at it waits for nobody.
#[cfg(unix)]
#[test]
fn only_regular_files_are_read() {
    let files = Files::new();
    let pair = files.pair("one", &["one.test"]);
    std::os::unix::fs::symlink(&pair.certificate, files.path("link")).unwrap();
    files.open(&[files.named("link", "one.key")]);
    let made = std::process::Command::new("mkfifo").arg(files.path("pipe")).status().unwrap();
    assert!(made.success());
    std::os::unix::fs::symlink(files.path("pipe"), files.path("to_pipe")).unwrap();
    for file in ["/dev/null".to_owned(), files.path("to_pipe"), files.path("pipe")] {
        let bad = PairFiles { certificate: file.clone(), key: pair.key.clone() };
        let refused = CertificateStore::open(vec![bad]).unwrap_err();
        assert!(matches!(&refused, BadPair::File(path, _) if *path == file), "{refused}");
        assert!(refused.to_string().contains("no regular file"), "{refused}");
    }
}

/// The certificate is chosen by the name that the client asks for; the first one serves all others.
#[test]
fn the_name_decides_and_the_first_is_the_default() {
    let files = Files::new();
    let pairs = [
        files.pair("one", &["one.test"]),
        files.pair("two", &["two.test", "three.test"]),
        files.pair("any", &["*.four.test"]),
    ];
    let store = files.open(&pairs);
    for (name, file) in [
        (None, "one.pem"),
        (Some("one.test"), "one.pem"),
        (Some("two.test"), "two.pem"),
        (Some("THREE.test"), "two.pem"),
        (Some("a.four.test"), "any.pem"),
        (Some("four.test"), "one.pem"),
        (Some("a.b.four.test"), "one.pem"),
        (Some("unknown.test"), "one.pem"),
        (Some("no name"), "one.pem"),
    ] {
        assert_eq!(chosen(&store, name), file, "{name:?}");
    }
    let ends: Vec<_> = store.in_use().ends().map(|(_, end)| end).collect();
    assert_eq!(ends, [Duration::from_secs(4_107_542_400); 3]);
}

/// Bad pairs are refused with the reason and the file, and without a word of a key.
#[test]
fn bad_pairs_are_refused_with_their_reason() {
    let files = Files::new();
    let good = files.pair("good", &["a.test"]);
    let other = files.pair("other", &["a.test"]);
    let key = fs::read_to_string(&good.key).unwrap();
    files.write("empty", "");
    files.write("torn", &fs::read(&good.certificate).unwrap()[..200]);
    files.write("torn.key", &key[..100]);
    files.write("sealed.key", key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"));
    files.write("odd", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    files.write("odd.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    files.write("long", vec![b' '; 1024 * 1024 + 1]);
    for (certificate, key, words) in [
        ("nowhere", "good.key", "nowhere cannot be read"),
        ("good.pem", "nowhere", "nowhere cannot be read"),
        ("empty", "good.key", "empty holds no certificate in PEM"),
        ("good.key", "good.key", "good.key holds no certificate"),
        ("torn", "good.key", "torn is no PEM: a section has no end"),
        ("odd", "good.key", "odd holds something that is no certificate"),
        ("long", "good.key", "long is larger than 1 MiB"),
        ("good.pem", "empty", "empty holds no private key in PEM"),
        ("good.pem", "good.pem", "good.pem holds no private key"),
        ("good.pem", "sealed.key", "sealed.key holds no private key in PEM"),
        ("good.pem", "torn.key", "torn.key is no PEM"),
        ("good.pem", "odd.key", "odd.key holds a key that cannot be used"),
        ("good.pem", "other.key", "other.key does not belong to the certificate in"),
    ] {
        let pairs = vec![other.clone(), files.named(certificate, key)];
        let error = CertificateStore::open(pairs).unwrap_err().to_string();
        assert!(error.contains(words), "{certificate} {key}: {error}");
        assert!(
            !error.contains("AAAA") && !error.contains(&key[..4.min(key.len())].to_uppercase())
        );
    }
}

/// A pair is exchanged once both of its files fit; until then the old one stays.
#[test]
fn pairs_are_exchanged_once_they_fit() {
    let files = Files::new();
    let pairs = [files.pair("one", &["one.test"]), files.pair("two", &["two.test"])];
    let store = files.open(&pairs);
    assert!(is_unchanged(&store));
    let old = store.in_use();
    let (chain, key) = (fs::read(&pairs[1].certificate).unwrap(), fs::read(&pairs[1].key).unwrap());
    let spare = files.pair("spare", &["two.test"]);
    fs::copy(&spare.certificate, &pairs[1].certificate).unwrap();
    for _ in 0..2 {
        assert!(matches!(looked(&store), (None, Some(BadPair::Mismatch { .. }))), "half of it");
    }
    fs::copy(&spare.key, &pairs[1].key).unwrap();
    let (Some(prepared), None) = looked(&store) else { panic!("both fit") };
    assert!(std::sync::Arc::ptr_eq(&store.in_use(), &old), "not before it is told to");
    store.commit(prepared);
    assert!(is_unchanged(&store));
    let new = store.in_use();
    let shown =
        |set: &crate::tls::CertificateSet| set.choose(Some("two.test")).unwrap().cert[0].clone();
    assert!(
        shown(&new) != shown(&old)
            && shown(&new) == CertificateDer::from_pem_file(&spare.certificate).unwrap()
    );
    // Back again: by content, not by time.
    fs::write(&pairs[1].certificate, chain).unwrap();
    fs::write(&pairs[1].key, key).unwrap();
    assert!(matches!(looked(&store), (Some(_), None)));
}

/// A pair that can't be used, the first one even, keeps none of the others from being exchanged,
/// and serves on as it was.
#[test]
fn a_bad_pair_keeps_no_other_from_being_exchanged() {
    let files = Files::new();
    let pairs = ["one", "two", "three"].map(|name| files.pair(name, &[&format!("{name}.test")]));
    let store = files.open(&pairs);
    let shown = |name: &str| store.in_use().choose(Some(name)).unwrap().cert[0].clone();
    let in_file = |pair: &PairFiles| CertificateDer::from_pem_file(&pair.certificate).unwrap();
    let olds = [shown("one.test"), shown("two.test"), shown("three.test")];
    fs::remove_file(&pairs[0].key).unwrap();
    fs::copy(&pairs[1].key, &pairs[2].key).unwrap();
    files.pair("two", &["two.test"]);
    let Look { reloaded: Reloaded::Prepared(prepared), refused } = store.prepare() else {
        panic!("one of them is good and new");
    };
    let [BadPair::File(..), BadPair::Mismatch { .. }] = &refused[..] else { panic!("{refused:?}") };
    store.commit(prepared);
    assert_eq!(shown("one.test"), olds[0]);
    assert_eq!(shown("two.test"), in_file(&pairs[1]));
    assert_eq!(shown("three.test"), olds[2]);
    let again = store.prepare();
    assert!(matches!(again.reloaded, Reloaded::Unchanged) && again.refused.len() == 2);
    files.pair("one", &["one.test"]);
    files.pair("three", &["three.test"]);
    let (Some(prepared), None) = looked(&store) else { panic!("all are good") };
    store.commit(prepared);
    assert_eq!(shown("one.test"), in_file(&pairs[0]));
    assert_eq!(shown("three.test"), in_file(&pairs[2]));
}

/// Links are followed as they are at that moment: a whole folder may be swapped.
#[cfg(unix)]
#[test]
fn a_swapped_folder_is_seen_through_links() {
    use std::os::unix::fs::symlink;
    let files = Files::new();
    for version in ["v1", "v2"] {
        fs::create_dir(files.path(version)).unwrap();
        files.pair(&format!("{version}/tls"), &["a.test"]);
    }
    symlink("v1", files.path("..data")).unwrap();
    symlink("..data/tls.pem", files.path("tls.pem")).unwrap();
    symlink("..data/tls.key", files.path("tls.key")).unwrap();
    let store = files.open(&[files.named("tls.pem", "tls.key")]);
    assert!(is_unchanged(&store));
    symlink("v2", files.path("..new")).unwrap();
    fs::rename(files.path("..new"), files.path("..data")).unwrap();
    assert!(matches!(looked(&store), (Some(_), None)));
}
