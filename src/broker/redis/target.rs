//! What is connected to, and why it could not be, in words.

use fred::{
    error::Error,
    types::config::{Config, Server, ServerConfig},
};

use crate::broker::InvalidSettings;

/// Reads the URL.
///
/// # Errors
/// When nothing could be connected to by it.
pub(super) fn parse(url: &str) -> Result<Config, InvalidSettings> {
    super::url::parse(url).map_err(InvalidSettings::Url)
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

/// The system's words for an error, without its number, which helps nobody.
pub(super) fn in_words(error: &str) -> &str {
    error.split(" (os error ").next().unwrap_or(error)
}

/// Why no connection to `server` was made, in words that say what to do about it.
pub(super) fn explained(server: &Server, error: &Error) -> String {
    // All that is kept of it is text.
    let details = error.details();
    let words = in_words(details);
    if details.contains("invalid peer certificate") {
        return format!(
            "{server}: Redis' certificate is not trusted: its authority has to be one of the \
             system's, or of those in SSL_CERT_FILE, and it has to name the host that is \
             connected to ({words})"
        );
    }
    format!("{server}: {words}")
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
