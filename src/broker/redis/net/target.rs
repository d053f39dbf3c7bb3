//! What is connected to.

use fred::types::config::{Config, ServerConfig};

use crate::broker::InvalidSettings;

/// Reads the URL.
///
/// # Errors
/// When nothing could be connected to by it.
pub(crate) fn parse(url: &str) -> Result<Config, InvalidSettings> {
    super::options::parse(url).map_err(InvalidSettings::Url)
}

/// Where the sentinels are, and whom to ask them for.
pub(crate) struct Sentinels {
    /// With their credentials, which may be others than the master's.
    pub(crate) config: Config,
    pub(crate) service: String,
}

/// The sentinels of a URL that names some.
pub(crate) fn sentinels(config: &Config) -> Option<Sentinels> {
    let ServerConfig::Sentinel { service_name, username, password, .. } = &config.server else {
        return None;
    };
    let (username, password) = (username.clone(), password.clone());
    let service = service_name.clone();
    Some(Sentinels { config: Config { username, password, ..config.clone() }, service })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentinels_have_credentials_of_their_own() {
        let query = "node=b:2&sentinelServiceName=main&sentinelPassword=theirs";
        let config = parse(&format!("redis-sentinel://user:ours@a:1?{query}")).unwrap();
        let Sentinels { config: theirs, service } = sentinels(&config).unwrap();
        assert_eq!((theirs.username, theirs.password.as_deref()), (None, Some("theirs")));
        assert_eq!((theirs.server.hosts().len(), service.as_str()), (2, "main"));
        assert!(sentinels(&parse("redis://a:1").unwrap()).is_none());
    }
}
