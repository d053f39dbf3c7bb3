//! The targets of `wsbcast health`: the typed URL, or the listeners that are named by the options
//! and variables of the server beside it.
//!
//! The admin listener comes first, since it is not held up by a busy data plane. A wildcard address
//! is asked on loopback. Listeners that speak TLS are asked where there is no other one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    BadValue, BadValues, HealthQuery,
    address::address,
    args::HealthOptions,
    checker::Checker,
    listen::{LISTEN_DEFAULT, UNIX, unix_path},
    problems::URL,
    proxies,
    secrets::without_credentials,
};
use crate::{health_client::Target, peer::TrustedProxies};

const PATH: &str = "/livez";
const TLS_LISTEN: &str = "tls-listen";

/// Checks the command's arguments.
pub(super) fn check(
    checker: &mut Checker,
    typed: &HealthOptions,
) -> Result<HealthQuery, BadValues> {
    if let Some(text) = &typed.url {
        return parse(text).ok_or_else(|| {
            let reason =
                "expected http://HOST:PORT or http://HOST:PORT/PATH, or the same with https"
                    .to_owned();
            let (option, value) = (URL.to_owned(), without_credentials(text));
            BadValues(vec![BadValue { option, value, variable: None, reason }])
        });
    }
    let trusted = proxies::trusted(checker, &typed.proxies.trusted_proxies);
    let is_on = proxies::protocol(checker, &typed.proxies);
    let announced = if is_on { trusted } else { TrustedProxies::default() };
    let admin = typed.admin_listen.iter().map(|text| ("admin-listen", text));
    let public = typed.listen.iter().map(|text| ("listen", text));
    // A last resort: a handshake costs the server more than the answer.
    let tls = typed.tls_listen.iter().map(|text| (TLS_LISTEN, text));
    let tls = tls.filter(|_| typed.admin_listen.is_none() && typed.listen.is_empty());
    let mut targets = Vec::new();
    for (option, text) in admin.chain(public).chain(tls) {
        if option == "listen" && text.starts_with(UNIX) {
            match unix_path(text) {
                Ok(_) => targets.push(Target {
                    address: text.clone(),
                    announced: announced.clone(),
                    is_tls: false,
                }),
                Err(expected) => checker.refuse(option, text, expected),
            }
            continue;
        }
        match address(text) {
            Ok(address) if address.port() == 0 => {
                checker.refuse(option, text, "its port is not known: name the server with a URL");
            }
            Ok(address) => {
                let is_admin = option == "admin-listen";
                targets.push(Target {
                    address: from_here(address).to_string(),
                    announced: if is_admin { nobody() } else { announced.clone() },
                    is_tls: option == TLS_LISTEN,
                });
            }
            Err(expected) => checker.refuse(option, text, expected),
        }
    }
    checker.finish()?;
    if targets.is_empty() {
        let target = |address: &str| Target {
            address: address.to_owned(),
            announced: announced.clone(),
            is_tls: false,
        };
        targets.extend(LISTEN_DEFAULT.map(target));
    }
    // Each target in turn; the server only requires that the name is one of loopback's.
    let host = match targets[0].address.rsplit_once(':') {
        Some((_, port)) if !targets[0].address.starts_with(UNIX) => format!("localhost:{port}"),
        _ => "localhost".to_owned(),
    };
    Ok(HealthQuery { host, targets, path: PATH.to_owned() })
}

/// The address at which this machine itself reaches a listener on `address`.
fn from_here(mut address: SocketAddr) -> SocketAddr {
    // The zone of a link-local address stays.
    address.set_ip(match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    });
    address
}

/// No peers of whom a PROXY header is expected.
fn nobody() -> TrustedProxies {
    TrustedProxies::default()
}

fn parse(text: &str) -> Option<HealthQuery> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: http::Uri = with_scheme.parse().ok()?;
    let authority = uri.authority()?;
    let is_tls = uri.scheme_str() == Some("https");
    if !(is_tls || uri.scheme_str() == Some("http"))
        || authority.as_str().contains('@')
        || authority.host().is_empty()
    {
        return None;
    }
    let port = match authority.as_str().strip_prefix(authority.host())? {
        "" if is_tls => 443,
        "" => 80,
        port => port.strip_prefix(':')?.parse::<u16>().ok()?,
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Some(HealthQuery {
        // A URL does not tell whether it is a public listener's.
        targets: vec![Target {
            address: format!("{}:{port}", authority.host()),
            announced: nobody(),
            is_tls,
        }],
        host: authority.as_str().to_owned(),
        path: if path == "/" { PATH } else { path }.to_owned(),
    })
}
