//! Settings made into what is connected with.
//!
//! The one place that reads the URL. Errors never repeat the URL:
//! it may hold a password.

use fred::{
    error::Error,
    types::{
        RespVersion,
        config::{Config, ServerConfig},
    },
};

use crate::broker::InvalidSettings;

const SCHEMES: [&str; 6] =
    ["redis", "rediss", "redis-cluster", "rediss-cluster", "redis-sentinel", "rediss-sentinel"];

/// Reads the URL.
///
/// # Errors
/// When it is no URL, names no host, or has another scheme.
pub(super) fn parse(url: &str) -> Result<Config, InvalidSettings> {
    let scheme = url.split("://").next().unwrap_or_default();
    if !url.contains("://") || !SCHEMES.contains(&scheme) {
        return Err(InvalidSettings::Url("unknown scheme".to_owned()));
    }
    let mut config =
        Config::from_url(url).map_err(|error| InvalidSettings::Url(error.details().to_owned()))?;
    config.version = RespVersion::RESP3;
    config.fail_fast = true;
    Ok(config)
}

/// Where the sentinels are, and whom to ask them for.
pub(super) struct Sentinels {
    /// With their credentials, which may be others than the master's.
    pub(super) config: Config,
    pub(super) service: String,
}

/// The sentinels of a URL that names some.
pub(super) fn sentinels(config: &Config) -> Option<Sentinels> {
    let ServerConfig::Sentinel { service_name, username, password, .. } = &config.server else {
        return None;
    };
    let (username, password) = (username.clone(), password.clone());
    let service = service_name.clone();
    Some(Sentinels { config: Config { username, password, ..config.clone() }, service })
}

/// Why no connection was made, in words that say what to do about it.
pub(super) fn explained(error: &Error) -> String {
    // All that fred keeps of it is text.
    if error.details().contains("InvalidCertificate") {
        return format!(
            "Redis' certificate is not trusted: its authority has to be one of the system's, or \
             of those in SSL_CERT_FILE, and it has to name the host that is connected to ({})",
            error.details()
        );
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_redis_url_is_understood() {
        let plain = parse("redis://127.0.0.1:6379").unwrap();
        assert!(plain.server.is_centralized() && !plain.uses_tls());
        let tls = parse("rediss://user:secret@redis.example:6380/1").unwrap();
        assert!(tls.uses_rustls());
        assert_eq!(tls.password.as_deref(), Some("secret"));
        assert!(parse("redis-cluster://a:1?node=b:2").unwrap().server.is_clustered());
        let sentinel = parse("redis-sentinel://a:1?sentinelServiceName=mymaster").unwrap();
        assert!(sentinel.server.is_sentinel());
    }

    #[test]
    fn sentinels_have_credentials_of_their_own() {
        let query = "node=b:2&sentinelServiceName=main&sentinelPassword=theirs";
        let config = parse(&format!("redis-sentinel://user:ours@a:1?{query}")).unwrap();
        let Sentinels { config: theirs, service } = sentinels(&config).unwrap();
        assert_eq!((theirs.username, theirs.password.as_deref()), (None, Some("theirs")));
        assert_eq!((theirs.server.hosts().len(), service.as_str()), (2, "main"));
        assert!(sentinels(&parse("redis://a:1").unwrap()).is_none());
    }

    #[test]
    fn a_bad_url_is_refused_without_repeating_its_password() {
        for url in ["", "redis", "127.0.0.1:6379", "http://:secret@a", "redis://", "redis:///0"] {
            let error = parse(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
