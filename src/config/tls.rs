//! The certificates of the public listeners: which files, and whether they can be used.
//!
//! They are read here for the first time, so that a server with a bad pair does not start. Error
//! messages name files and never show a key.

use std::{net::SocketAddr, sync::Arc};

use super::{args, checker::Checker};
use crate::{
    limits::TLS_PAIRS_MAX,
    tls::{CertificateStore, PairFiles},
};

/// Opens the pairs that are named; none where no listener speaks TLS.
pub(super) fn check(
    checker: &mut Checker,
    typed: &args::TlsOptions,
    tls_listen: &[SocketAddr],
) -> Option<Arc<CertificateStore>> {
    let args::TlsOptions { tls_cert, tls_key } = typed;
    let first = tls_cert.first().map(|path| ("tls-cert", path));
    let first = first.or_else(|| tls_key.first().map(|path| ("tls-key", path)));
    if tls_listen.is_empty() {
        let (option, path) = first?;
        // One that was refused is there all the same.
        if checker.are_good(&["tls-listen"]) {
            checker.refuse(option, path, "serves no listener: add --tls-listen");
        }
        return None;
    }
    if tls_cert.len() != tls_key.len() || tls_cert.is_empty() {
        let (certificates, keys) = (tls_cert.len(), tls_key.len());
        let reason = format!(
            "needs pairs of --tls-cert and --tls-key, and there are {certificates} and {keys}"
        );
        checker.refuse("tls-listen", tls_listen[0], reason);
        return None;
    }
    if tls_cert.len() > TLS_PAIRS_MAX {
        checker.refuse("tls-cert", tls_cert.len(), format!("at most {TLS_PAIRS_MAX} pairs"));
        return None;
    }
    let pair = |(certificate, key): (&String, &String)| PairFiles {
        certificate: certificate.clone(),
        key: key.clone(),
    };
    match CertificateStore::open(tls_cert.iter().zip(tls_key).map(pair).collect()) {
        Ok(store) => Some(Arc::new(store)),
        Err(bad) => {
            let file = bad.file();
            let is_key = tls_key.iter().any(|key| key == file);
            let reason = bad.to_string();
            // The value is shown already.
            let reason = reason.strip_prefix(file).map_or(&*reason, str::trim_start);
            checker.refuse(if is_key { "tls-key" } else { "tls-cert" }, file, reason);
            None
        }
    }
}
