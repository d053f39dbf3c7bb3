//! Reads the URL that says where Redis is, and nothing else does: `--redis-url` is checked by it,
//! and what it makes is connected with.
//!
//! Errors never repeat the URL, nor a part of it that may be a password.

use fred::types::{
    RespVersion,
    config::{Config, Server, ServerConfig, TlsConfig, TlsConnector},
};
use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// What may stand before `://`, and the port where none is named.
const SCHEMES: [(&str, u16); 6] = [
    ("redis", 6379),
    ("rediss", 6379),
    ("redis-cluster", 6379),
    ("rediss-cluster", 6379),
    ("redis-sentinel", 26379),
    ("rediss-sentinel", 26379),
];

type Problem = String;

/// Reads it.
///
/// # Errors
/// In words, when nothing could be connected to by it.
pub(super) fn parse(url: &str) -> Result<Config, Problem> {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    let Some((scheme, port)) = SCHEMES.into_iter().find(|(known, _)| *known == scheme) else {
        return Err("expected redis://, redis-cluster:// or redis-sentinel://, or over TLS \
                    rediss://, rediss-cluster:// or rediss-sentinel://"
            .to_owned());
    };
    let expected = match scheme {
        "redis-sentinel" | "rediss-sentinel" => "HOST[:PORT]?sentinelServiceName=NAME",
        "redis-cluster" | "rediss-cluster" => "HOST[:PORT][?node=HOST:PORT]",
        _ => "HOST[:PORT][/DATABASE]",
    };
    let expected = format!("expected {scheme}://[USER:PASSWORD@]{expected}");
    let problem = |what: &str| format!("{what}; {expected}");
    let odd = "other characters than letters, digits and - . _ ~ in a user or password are \
               written %XX";
    let parsed = Url::parse(url).map_err(|error| problem(&format!("{error} ({odd})")))?;
    let host = match parsed.host() {
        Some(Host::Domain(name)) if !name.is_empty() => decoded(name),
        Some(Host::Ipv4(address)) => Some(address.to_string()),
        // Without the brackets, which belong to the URL.
        Some(Host::Ipv6(address)) => Some(address.to_string()),
        _ => None,
    };
    let host = host.ok_or_else(|| problem("there is no host"))?;
    if parsed.fragment().is_some() {
        return Err(problem(&format!("there is a # ({odd})")));
    }
    let first = Server::new(host, parsed.port().unwrap_or(port));
    let credential = |text: &str| match decoded(text) {
        Some(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        None => Err(problem("user and password are UTF-8, percent-encoded")),
    };
    let query = Query::read(&parsed).map_err(|what| problem(&what))?;
    let database = database(parsed.path()).map_err(&problem)?;
    let hosts = [vec![first.clone()], query.nodes].concat();
    let server = match scheme {
        "redis-cluster" | "rediss-cluster" if database.is_some_and(|number| number > 0) => {
            return Err(problem("a cluster has no databases"));
        }
        "redis-cluster" | "rediss-cluster" => {
            ServerConfig::Clustered { hosts, policy: Default::default() }
        }
        "redis-sentinel" | "rediss-sentinel" => ServerConfig::Sentinel {
            hosts,
            service_name: query
                .service
                .ok_or_else(|| problem("there is no sentinelServiceName"))?,
            username: query.username,
            password: query.password,
        },
        _ => ServerConfig::Centralized { server: first },
    };
    Ok(Config {
        server,
        username: credential(parsed.username())?,
        password: credential(parsed.password().unwrap_or_default())?,
        database,
        tls: if scheme.starts_with("rediss") { Some(tls()?) } else { None },
        version: RespVersion::RESP3,
        ..Config::default()
    })
}

/// What stands behind the question mark.
#[derive(Default)]
struct Query {
    nodes: Vec<Server>,
    service: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Query {
    fn read(url: &Url) -> Result<Self, Problem> {
        let mut query = Self::default();
        for pair in url.query().unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // A plus is a plus: it may be one of a password.
            let Some(value) = decoded(value) else {
                return Err(format!("{name} is no percent-encoded UTF-8"));
            };
            let value = Some(value).filter(|value| !value.is_empty());
            match name {
                "node" => {
                    let node = value.as_deref().and_then(node);
                    query.nodes.push(node.ok_or("a node is HOST:PORT, or [IPV6]:PORT")?);
                }
                "sentinelServiceName" => query.service = value,
                "sentinelUsername" => query.username = value,
                "sentinelPassword" => query.password = value,
                _ => {}
            }
        }
        Ok(query)
    }
}

fn node(text: &str) -> Option<Server> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_good = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains([':', '[', ']', '@', '/']),
    };
    is_good.then(|| Some(Server::new(bare.unwrap_or(host), port.parse().ok()?)))?
}

fn database(path: &str) -> Result<Option<u8>, &'static str> {
    match path.strip_prefix('/').unwrap_or(path) {
        "" => Ok(None),
        number if number.bytes().all(|byte| byte.is_ascii_digit()) => {
            number.parse().map(Some).map_err(|_| "a database is a number up to 255")
        }
        _ => Err("a database is a number up to 255"),
    }
}

/// None: it is no UTF-8.
fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(Into::into)
}

fn tls() -> Result<TlsConfig, Problem> {
    // Not about the URL, but about what it makes necessary.
    TlsConnector::default_rustls().map(TlsConfig::from).map_err(|error| {
        format!(
            "the certificates of trusted authorities cannot be read (the system's, or what \
             SSL_CERT_FILE and SSL_CERT_DIR name): {}",
            error.details()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scheme, tls, hosts, user, password, database`, and what sentinels need.
    fn read(url: &str) -> String {
        let config = match parse(url) {
            Ok(config) => config,
            Err(problem) => return problem,
        };
        let kind = match &config.server {
            ServerConfig::Centralized { .. } => "one".to_owned(),
            ServerConfig::Clustered { .. } => "cluster".to_owned(),
            ServerConfig::Sentinel { service_name, username, password, .. } => {
                format!("{service_name} {username:?} {password:?}")
            }
        };
        let hosts = config.server.hosts().into_iter();
        let hosts: Vec<String> = hosts.map(|one| format!("{} {}", one.host, one.port)).collect();
        let tls = if config.tls.is_some() { " tls" } else { "" };
        let Config { username, password, database, .. } = config;
        let word = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let (user, password) = (word(username), word(password));
        format!("{kind}{tls} [{}] {user} {password} {database:?}", hosts.join(", "))
    }

    #[test]
    fn every_url_is_understood() {
        let table = [
            ("redis://a", "one [a 6379] - - None"),
            ("redis://a/", "one [a 6379] - - None"),
            ("redis://a:7/0", "one [a 7] - - Some(0)"),
            ("redis://127.0.0.1:7/15", "one [127.0.0.1 7] - - Some(15)"),
            ("redis://[::1]:6380", "one [::1 6380] - - None"),
            ("redis://[::1]", "one [::1 6379] - - None"),
            ("rediss://:p@[2001:db8::7]/3", "one tls [2001:db8::7 6379] - p Some(3)"),
            ("redis://user:pass@a", "one [a 6379] user pass None"),
            ("redis://user@a", "one [a 6379] user - None"),
            ("redis://:%40%3A%2F%3F%23%25%5B%5D@a", "one [a 6379] - @:/?#%[] None"),
            ("redis://u%40x:p%20w@a", "one [a 6379] u@x p w None"),
            ("redis://:a+b%2Bc@a", "one [a 6379] - a+b+c None"),
            ("redis://:%C3%A4\u{e4}@a", "one [a 6379] - \u{e4}\u{e4} None"),
            ("redis://:100%@a", "one [a 6379] - 100% None"),
            ("redis://:p|w^{}$&=;!@a", "one [a 6379] - p|w^{}$&=;! None"),
            ("redis-cluster://a:1?node=b:2&node=[::1]:3", "cluster [a 1, b 2, ::1 3] - - None"),
            ("rediss-cluster://u:p@[::1]:1", "cluster tls [::1 1] u p None"),
            ("redis-sentinel://a?sentinelServiceName=m", "m None None [a 26379] - - None"),
            (
                "rediss-sentinel://u:p@[::1]:1/2?node=b:2&sentinelServiceName=m\
                 &sentinelUsername=x&sentinelPassword=p%26%2B+%3D",
                "m Some(\"x\") Some(\"p&++=\") tls [::1 1, b 2] u p Some(2)",
            ),
            ("redis://a?unknown=1", "one [a 6379] - - None"),
        ];
        for (url, expected) in table {
            assert_eq!(read(url), expected, "{url}");
        }
    }

    #[test]
    fn what_nothing_could_be_connected_to_by_is_told_in_words_without_the_password() {
        let table = [
            ("", "expected redis://"),
            ("a:6379", "expected redis://"),
            ("http://:secret@a", "rediss-cluster:// or rediss-sentinel://"),
            ("redis://", "host"),
            ("redis:///0", "host"),
            ("redis://:secret@:6379", "host"),
            ("redis://:secret@a:port", "port"),
            ("redis://:secret@a:99999", "port"),
            ("redis://:secret@[::1", "IPv6"),
            ("redis://:se/cret@a", "%XX"),
            ("redis://:secret@a#b", "%XX"),
            ("redis://a/1/2", "database"),
            ("redis://a/x", "database"),
            ("redis://a/256", "database"),
            ("redis://a/-1", "database"),
            ("redis://:%ff@a", "UTF-8"),
            ("redis-cluster://a/1", "a cluster has no databases"),
            ("redis-cluster://a?node=b", "HOST:PORT"),
            ("redis-cluster://a?node=::1:7", "[IPV6]:PORT"),
            ("redis-cluster://a?node=", "HOST:PORT"),
            ("redis-sentinel://a", "sentinelServiceName"),
            ("redis-sentinel://a?sentinelServiceName=", "sentinelServiceName"),
        ];
        for (url, expected) in table {
            let problem = parse(url).map(|_| ()).unwrap_err();
            assert!(problem.contains(expected), "{url}: {problem}");
            assert!(!problem.contains("secret") && !problem.contains("cret"), "{problem}");
        }
    }
}
