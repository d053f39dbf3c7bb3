//! The files for TLS towards Redis: authorities, and a client's certificate with its key.

use super::{args, checker::Checker};
use crate::{
    broker::RedisTls,
    tls::{self, PairFiles},
};

/// Checks that the files can be used; none of them where one can't.
pub(super) fn check(checker: &mut Checker, typed: &args::RedisOptions) -> RedisTls {
    let args::RedisOptions { redis_tls_ca, redis_tls_cert, redis_tls_key, .. } = typed;
    let client = match (redis_tls_cert, redis_tls_key) {
        (Some(certificate), Some(key)) => {
            Some(PairFiles { certificate: certificate.clone(), key: key.clone() })
        }
        (Some(path), None) => {
            checker.refuse("redis-tls-cert", path, "needs its --redis-tls-key");
            return RedisTls::default();
        }
        (None, Some(path)) => {
            checker.refuse("redis-tls-key", path, "needs its --redis-tls-cert");
            return RedisTls::default();
        }
        (None, None) => None,
    };
    let roots = redis_tls_ca.as_deref().map(tls::authorities).transpose();
    let used = roots.and_then(|roots| {
        tls::client_config(roots.unwrap_or_else(tls::no_authorities), client.as_ref())
    });
    if let Err(bad) = used {
        let file = bad.file();
        let is = |path: &Option<String>| path.as_deref() == Some(file);
        let option = match () {
            () if is(redis_tls_key) => "redis-tls-key",
            () if is(redis_tls_cert) => "redis-tls-cert",
            () => "redis-tls-ca",
        };
        let reason = bad.to_string();
        // The value is shown already.
        let reason = reason.strip_prefix(file).map_or(&*reason, str::trim_start);
        checker.refuse(option, file, reason);
        return RedisTls::default();
    }
    RedisTls { authorities: redis_tls_ca.clone(), client }
}
