//! Proxies in front of the server: those whose word about their client is believed.

use super::checker::Checker;
use crate::peer::TrustedProxies;

/// More are a mistake: networks can be named.
const TRUSTED_MAX: usize = 256;

/// Reads the values of `--trusted-proxies`.
pub(super) fn trusted(checker: &mut Checker, typed: &[String]) -> TrustedProxies {
    let mut trusted = TrustedProxies::default();
    for text in typed.iter().take(TRUSTED_MAX) {
        if let Err(reason) = trusted.add(text) {
            checker.refuse("trusted-proxies", text, format!("{reason}, or unix"));
        }
    }
    if typed.len() > TRUSTED_MAX {
        checker.refuse("trusted-proxies", typed.len(), format!("at most {TRUSTED_MAX}"));
    }
    trusted
}
