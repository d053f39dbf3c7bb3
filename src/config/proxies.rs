//! Proxies in front of the server: those whose word about their client is believed.

use super::{args, checker::Checker, values::Switch};
use crate::peer::TrustedProxies;

/// More are a mistake: networks can be named.
const TRUSTED_MAX: usize = 256;

/// Reads `--proxy-protocol`, which means nothing without a proxy to send it.
pub(super) fn protocol(checker: &mut Checker, typed: &args::ProxyOptions) -> bool {
    let is_on = checker.word::<Switch>("proxy-protocol", &typed.proxy_protocol) == Switch::On;
    if is_on && typed.trusted_proxies.is_empty() {
        let who = "name the proxies that send PROXY headers with --trusted-proxies";
        checker.warn(format!("--proxy-protocol is on and nobody is trusted: {who}"));
    }
    is_on
}

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
