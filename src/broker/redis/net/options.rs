//! The one reader of the URL of Redis: it checks `--redis-url`, and the connections use its result.
//!
//! Strict, since whatever is guessed wrongly leads to another server, or to the same one as
//! another user: what could be read in two ways is refused, and so is what would be ignored.
//! Errors never repeat the URL, nor a part of it that may be a password.

use fred::types::{
    RespVersion,
    config::{Config, Server, ServerConfig, TlsConfig, TlsConnector},
};
use percent_encoding::percent_decode_str;
use rustls::RootCertStore;
use url::{Host, Url};

use crate::{broker::RedisTls, tls};

/// The schemes, and the port where none is named.
const SCHEMES: [(&str, u16); 6] = [
    ("redis", 6379),
    ("rediss", 6379),
    ("redis-cluster", 6379),
    ("rediss-cluster", 6379),
    ("redis-sentinel", 26379),
    ("rediss-sentinel", 26379),
];

const ODD: &str = "other characters than letters, digits and - . _ ~ in a user or password are \
                   written %XX";

type Problem = String;

/// Reads it.
///
/// # Errors
/// In words, when nothing could be connected to by it.
pub(crate) fn parse(url: &str, tls: &RedisTls) -> Result<Config, Problem> {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
    let Some((scheme, port)) = SCHEMES.into_iter().find(|(known, _)| *known == scheme) else {
        return Err("expected redis://, redis-cluster:// or redis-sentinel://, or over TLS \
                    rediss://, rediss-cluster:// or rediss-sentinel:// (a Unix socket cannot be \
                    used)"
            .to_owned());
    };
    let rest = match scheme {
        "redis-sentinel" | "rediss-sentinel" => {
            "HOST[:PORT][/DATABASE]?sentinelServiceName=NAME[&node=HOST:PORT]\
             [&sentinelUsername=USER][&sentinelPassword=PASSWORD]"
        }
        "redis-cluster" | "rediss-cluster" => "HOST[:PORT][?node=HOST:PORT]",
        _ => "HOST[:PORT][/DATABASE]",
    };
    read(url, scheme, port, tls)
        .map_err(|what| format!("{what}; expected {scheme}://[USER:PASSWORD@]{rest}"))
}

fn read(url: &str, scheme: &str, port: u16, files: &RedisTls) -> Result<Config, Problem> {
    unambiguous(url)?;
    let parsed = Url::parse(url).map_err(|error| format!("{error} ({ODD})"))?;
    let host = match parsed.host() {
        Some(Host::Domain(name)) if !name.is_empty() => {
            decoded(name).filter(|name| is_name(name)).ok_or("the host is none")?
        }
        Some(Host::Ipv4(address)) => address.to_string(),
        // Without the brackets, which belong to the URL.
        Some(Host::Ipv6(address)) => address.to_string(),
        _ => return Err("there is no host".to_owned()),
    };
    if parsed.fragment().is_some() {
        return Err(format!("there is a # ({ODD})"));
    }
    let port = parsed.port().unwrap_or(port);
    if port == 0 {
        return Err("a port is a number from 1 to 65535".to_owned());
    }
    let first = Server::new(host, port);
    let (username, password) = credentials(&parsed)?;
    let database = database(parsed.path())?;
    let query = Query::read(&parsed, scheme)?;
    let hosts = [vec![first.clone()], query.nodes].concat();
    let server = match scheme {
        "redis-cluster" | "rediss-cluster" if database.is_some_and(|number| number > 0) => {
            return Err("a cluster has no databases".to_owned());
        }
        "redis-cluster" | "rediss-cluster" => {
            ServerConfig::Clustered { hosts, policy: Default::default() }
        }
        "redis-sentinel" | "rediss-sentinel" => ServerConfig::Sentinel {
            hosts,
            service_name: query.service.ok_or("there is no sentinelServiceName")?,
            password: query.password.or_else(|| query.username.as_ref().map(|_| String::new())),
            username: query.username,
        },
        _ => ServerConfig::Centralized { server: first },
    };
    Ok(Config {
        server,
        username,
        password,
        database,
        tls: if scheme.starts_with("rediss") { Some(tls(files)?) } else { None },
        version: RespVersion::RESP3,
        ..Config::default()
    })
}

/// Text that a parser of URLs would accept with another meaning than intended.
fn unambiguous(url: &str) -> Result<(), Problem> {
    // It would be left out.
    if url.contains(|character: char| character.is_whitespace() || character.is_control()) {
        return Err(format!("there is a space or a control character ({ODD})"));
    }
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = path.split('?').next().unwrap_or_default();
    // One in the path, the host being the beginning of a password; one in a query may be right.
    if authority.matches('@').count() > 1 || path.contains('@') {
        return Err(
            "an @ in a user or password is written %40, a / %2F, a ? %3F and a # %23 (publisher \
                    connects is the same for all hosts)"
                .to_owned(),
        );
    }
    let host = authority.rsplit('@').next().unwrap_or_default();
    let is_bare = !host.starts_with('[') && host.matches(':').count() > 1;
    if is_bare {
        return Err("an IPv6 address stands in brackets; further hosts are &node=HOST:PORT where \
                    there may be several"
            .to_owned());
    }
    if host.starts_with('[') && host.contains('%') {
        return Err("an IPv6 address has no zone here: give it a name, in /etc/hosts".to_owned());
    }
    Ok(())
}

/// A user in the URL is sent even without a password: Redis has users that need none.
fn credentials(url: &Url) -> Result<(Option<String>, Option<String>), Problem> {
    let read = |text: &str| decoded(text).ok_or("user and password are UTF-8, percent-encoded");
    let username = Some(read(url.username())?).filter(|name| !name.is_empty());
    let password = read(url.password().unwrap_or_default())?;
    let password = Some(password).filter(|text| !text.is_empty() || username.is_some());
    Ok((username, password))
}

/// The query of the URL.
#[derive(Default)]
struct Query {
    nodes: Vec<Server>,
    service: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Query {
    fn read(url: &Url, scheme: &str) -> Result<Self, Problem> {
        let mut query = Self::default();
        let kind = scheme.split_once('-').map_or("", |(_, kind)| kind);
        let pairs = url.query().unwrap_or_default().split('&');
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // A plus is a plus: it may be one of a password.
            let value = decoded(value).ok_or("a parameter is no percent-encoded UTF-8")?;
            let value = Some(value).filter(|value| !value.is_empty());
            match (name, kind) {
                ("node", "cluster" | "sentinel") => {
                    let node = value.as_deref().and_then(node);
                    query.nodes.push(node.ok_or("a node is HOST:PORT, or [IPV6]:PORT")?);
                }
                ("sentinelServiceName", "sentinel") => query.service = value,
                ("sentinelUsername", "sentinel") => query.username = value,
                ("sentinelPassword", "sentinel") => query.password = value,
                // Its name may be a part of a password.
                _ => return Err(format!("there is a parameter that is none here ({ODD})")),
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
        None => is_name(host),
    };
    let port = port.parse().ok().filter(|&port| port > 0)?;
    is_good.then(|| Server::new(bare.unwrap_or(host), port))
}

/// Whether a host may have this name, or it is an IPv4 address: more than DNS allows, for resolvers
/// other than DNS.
fn is_name(text: &str) -> bool {
    let is_odd = |character: char| {
        character.is_whitespace() || character.is_control() || ",:;[]@/\\".contains(character)
    };
    !text.is_empty() && !text.contains(is_odd)
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

fn tls(files: &RedisTls) -> Result<TlsConfig, Problem> {
    let roots = match &files.authorities {
        Some(path) => tls::authorities(path).map_err(|bad| bad.to_string())?,
        None => of_the_system()?,
    };
    let config = tls::client_config(roots, files.client.as_ref());
    Ok(TlsConnector::from(config.map_err(|bad| bad.to_string())?).into())
}

fn of_the_system() -> Result<RootCertStore, Problem> {
    let mut found = rustls_native_certs::load_native_certs();
    // An error not of the URL, but of the TLS that it requires.
    let in_words = |error: &dyn std::error::Error| {
        format!(
            "the certificates of trusted authorities cannot be read (the system's, or what \
             SSL_CERT_FILE and SSL_CERT_DIR name): {error}"
        )
    };
    if let Some(error) = found.errors.pop() {
        return Err(in_words(&error));
    }
    let mut roots = RootCertStore::empty();
    for certificate in found.certs {
        roots.add(certificate).map_err(|error| in_words(&error))?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scheme, tls, hosts, user, password, database`, and what sentinels need.
    fn read(url: &str) -> String {
        let config = match parse(url, &RedisTls::default()) {
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
            ("redis://user@a", "one [a 6379] user  None"),
            ("redis://user:@a", "one [a 6379] user  None"),
            ("redis://:@a", "one [a 6379] - - None"),
            ("redis://@a", "one [a 6379] - - None"),
            ("redis://user:a:b\\c@a", "one [a 6379] user a:b\\c None"),
            ("redis://us%3Aer:%25%20%0A@a", "one [a 6379] us:er % \n None"),
            ("Redis://a", "one [a 6379] - - None"),
            ("REDISS-CLUSTER://a?", "cluster tls [a 6379] - - None"),
            ("redis://a_b-c.d:65535", "one [a_b-c.d 65535] - - None"),
            ("redis://a:", "one [a 6379] - - None"),
            ("redis://a?&", "one [a 6379] - - None"),
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
            (
                "redis-sentinel://a?sentinelServiceName=m&sentinelUsername=x&sentinelPassword=p@w",
                "m Some(\"x\") Some(\"p@w\") [a 26379] - - None",
            ),
            (
                "redis-sentinel://a?sentinelServiceName=m&sentinelUsername=x",
                "m Some(\"x\") Some(\"\") [a 26379] - - None",
            ),
        ];
        for (url, expected) in table {
            assert_eq!(read(url), expected, "{url}");
        }
    }

    /// URLs, and the errors about each.
    const REFUSED: &[(&str, &str)] = &[
        ("", "expected redis://"),
        ("a:6379", "expected redis://"),
        ("http://:secret@a", "rediss-cluster:// or rediss-sentinel://"),
        ("redis://", "host"),
        ("redis:///0", "host"),
        ("redis://:secret@:6379", "host"),
        ("redis://:secret@a:port", "port"),
        ("redis://:secret@a:99999", "port"),
        ("redis://:secret@[::1", "IPv6"),
        ("redis://:se/cret@a", "%2F"),
        ("redis://:secret@a#b", "%XX"),
        ("redis://user:se@cret@a", "%40"),
        ("redis://user@secret:x@a", "%40"),
        ("redis://u:secret@a,v:cret@b:7", "%40"),
        ("redis://user:12/secret@a:7", "%2F"),
        ("redis://user:12?secret@a:7", "%XX"),
        ("redis://user:12#secret@a:7", "%23"),
        ("redis://user:secret?@a:7", "%XX"),
        ("redis://:se\tcret@a", "control character"),
        ("redis://:se cret@a", "space"),
        (" redis://a", "expected redis://"),
        ("redis://a ", "space"),
        ("redis://a\n", "space"),
        ("redis://a b", "space"),
        ("redis://a%20b", "the host is none"),
        ("redis://a%00", "the host is none"),
        ("redis://a,b", "the host is none"),
        ("redis://a:1,b:2", "node=HOST:PORT"),
        ("redis://::1", "brackets"),
        ("redis://:secret@fe80::1:6379", "brackets"),
        ("redis://[fe80::1%25eth0]", "zone"),
        ("redis://[fe80::1%eth0]:7", "zone"),
        ("redis://[::1]x", "IPv6"),
        ("redis://a:0", "1 to 65535"),
        ("redis://a:65536", "port"),
        ("redis://a:-1", "port"),
        ("redis://a:+1", "port"),
        ("redis://a/1/2", "database"),
        ("redis://a//", "database"),
        ("redis://a/99999999999999999999", "database"),
        ("redis://a/%31", "database"),
        ("redis://a?db=3", "a parameter that is none"),
        ("redis://a?node=b:7", "a parameter that is none"),
        ("redis-cluster://a?sentinelServiceName=m", "a parameter that is none"),
        ("redis-cluster://a?node=b:0", "HOST:PORT"),
        ("redis-cluster://a?node=b:65536", "HOST:PORT"),
        ("redis-cluster://a?node=u:secret@b:7", "HOST:PORT"),
        ("redis-cluster://a?node=b:1,c:2", "HOST:PORT"),
        ("redis-cluster://a?node=[fe80::1%25eth0]:7", "HOST:PORT"),
        ("redis-cluster://a,b:7", "the host is none"),
        ("unix:///run/redis.sock", "a Unix socket cannot be used"),
        ("redis+unix:///run/redis.sock", "a Unix socket cannot be used"),
        ("/run/redis.sock", "a Unix socket cannot be used"),
        ("redis:///run/redis.sock", "there is no host"),
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

    /// A URL that cannot be connected to is refused in words, without the password.
    #[test]
    fn an_unusable_url_is_told_without_its_password() {
        for (url, expected) in REFUSED {
            let problem = parse(url, &RedisTls::default()).map(|_| ()).unwrap_err();
            assert!(problem.contains(expected), "{url}: {problem}");
            assert!(!problem.contains("secret") && !problem.contains("cret"), "{problem}");
        }
    }
}
