//! The certificate authorities by which a Redis is trusted over TLS, checked before anything is
//! started: an error in a file is described in words, with its path.
//!
//! They are the system's, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name. Without any, no
//! Redis could be trusted, and an operator who named a wrong file would only be told that the
//! certificate of Redis is not trusted.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use fred::{
    rustls::RootCertStore,
    rustls_native_certs::{self as certificates, CertificateResult, ErrorKind},
};

const FILE: &str = "SSL_CERT_FILE";
const FOLDERS: &str = "SSL_CERT_DIR";

/// Whether there are any, and all of them can be read.
///
/// # Errors
/// Why not, in words.
pub(super) fn check() -> Result<(), String> {
    let file = env::var_os(FILE).map(PathBuf::from);
    let folders = env::var_os(FOLDERS);
    let folders: Vec<_> = folders
        .iter()
        .flat_map(env::split_paths)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    match (&file, folders.is_empty()) {
        (None, true) => check_those_of_the_system(&certificates::load_native_certs()),
        _ => check_named(file.as_deref(), &folders),
    }
}

fn check_those_of_the_system(found: &CertificateResult) -> Result<(), String> {
    let whose = "the system's certificates of trusted authorities";
    if let Some(error) = found.errors.first() {
        let (path, why) = match &error.kind {
            ErrorKind::Io { inner, path } => (format!(" ({})", path.display()), in_words(inner)),
            ErrorKind::Os(error) => (String::new(), error.to_string()),
            _ => (String::new(), DAMAGED.to_owned()),
        };
        return Err(format!("{whose} cannot be read{path}: {why}; or name a file with {FILE}"));
    }
    if found.certs.is_empty() {
        return Err(format!("{whose} are not there: install them, or name a file with {FILE}"));
    }
    Ok(())
}

fn check_named(file: Option<&Path>, folders: &[PathBuf]) -> Result<(), String> {
    if let Some(file) = file
        && read(FILE, file)? == 0
    {
        return Err(about(FILE, file, "holds no certificate (-----BEGIN CERTIFICATE-----)"));
    }
    for folder in folders {
        let cannot = |error: io::Error| about(FOLDERS, folder, &cannot_be_read(&error));
        let mut count = 0;
        for entry in fs::read_dir(folder).map_err(cannot)? {
            let path = entry.map_err(cannot)?.path();
            // Broken links are ignored, as are folders within.
            if path.is_file() {
                count += read(FOLDERS, &path)?;
            }
        }
        if count == 0 && file.is_none() && folders.len() == 1 {
            return Err(about(FOLDERS, folder, "holds no certificate"));
        }
    }
    Ok(())
}

const DAMAGED: &str = "what stands in the place of a certificate is damaged";

/// How many certificates the file at `path` holds, which `variable` has led to.
fn read(variable: &str, path: &Path) -> Result<usize, String> {
    let CertificateResult { certs, errors, .. } =
        certificates::load_certs_from_paths(Some(path), None);
    match errors.first().map(|error| &error.kind) {
        None => {}
        Some(ErrorKind::Io { inner, .. }) => {
            return Err(about(variable, path, &cannot_be_read(inner)));
        }
        Some(_) => return Err(about(variable, path, DAMAGED)),
    }
    let count = certs.len();
    let mut known = RootCertStore::empty();
    match certs.into_iter().try_for_each(|certificate| known.add(certificate)) {
        Ok(()) => Ok(count),
        Err(_) => Err(about(variable, path, DAMAGED)),
    }
}

fn about(variable: &str, path: &Path, what: &str) -> String {
    format!("TLS needs certificates of trusted authorities: {variable}, {}: {what}", path.display())
}

fn cannot_be_read(error: &io::Error) -> String {
    format!("cannot be read ({})", in_words(error))
}

/// The system's words, without its number.
fn in_words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error ").next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fault in a file of authorities is described in words, with the file's path.
    #[test]
    fn a_bad_file_of_authorities_is_told_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("authority.pem");
        let begin = "-----BEGIN CERTIFICATE-----\n";
        let end = "\n-----END CERTIFICATE-----\n";
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for (text, word) in [
            (String::new(), "holds no certificate"),
            ("garbage\n".to_owned(), "holds no certificate"),
            (key.to_owned(), "holds no certificate"),
            (format!("{begin}AAAA{end}"), "damaged"),
            (format!("{begin}!!!!{end}"), "damaged"),
            (format!("{begin}AAAA"), "damaged"),
        ] {
            fs::write(&path, &text).unwrap();
            let by_file = check_named(Some(&path), &[]).unwrap_err();
            let by_folder = check_named(None, &[folder.path().to_owned()]).unwrap_err();
            for (told, variable) in [(&by_file, FILE), (&by_folder, FOLDERS)] {
                assert!(told.contains(word) && told.contains(variable), "{text}: {told}");
                assert!(told.contains(folder.path().to_str().unwrap()), "{text}: {told}");
                assert!(!told.contains(['{', '[']), "no dump: {told}");
            }
        }
    }

    /// A missing file is reported without the system's number, and a good one is accepted.
    #[test]
    fn missing_files_are_told_without_a_number() {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = folder.path().join("nowhere");
        for told in [
            check_named(Some(&nowhere), &[]).unwrap_err(),
            check_named(Some(folder.path()), &[]).unwrap_err(),
            check_named(None, std::slice::from_ref(&nowhere)).unwrap_err(),
        ] {
            assert!(told.contains("cannot be read ("), "{told}");
            assert!(!told.contains("os error") && !told.contains("Os {"), "{told}");
        }
        let good = folder.path().join("good.pem");
        let one = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        fs::write(&good, one.cert.pem()).unwrap();
        assert_eq!(check_named(Some(&good), &[]), Ok(()));
        assert_eq!(check_named(None, &[folder.path().to_owned()]), Ok(()));
    }

    #[test]
    fn a_system_without_authorities_is_told_what_to_name() {
        let told = check_those_of_the_system(&CertificateResult::default()).unwrap_err();
        assert!(told.contains(FILE), "{told}");
    }
}
