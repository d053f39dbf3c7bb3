//! The rights to publish and to listen, logged at the start, with a command that works as it is.
//!
//! The rules that decide each request (`http::access`) are described here once, in words,
//! beforehand: an operator who reads nothing but the log must not be wrong about who can reach all
//! clients.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tracing::{info, warn};

use crate::{
    channel::ChannelPatterns, config::Config, http::owner, limits::CHANNELS_NAMED,
    peer::ClientAddress, shard::listener::Transport,
};

/// Logs the rights, for a server that listens on `addresses`.
pub(super) fn say(config: &Config, addresses: &[(SocketAddr, Transport)]) {
    let sockets = config.listen_unix.iter().map(|path| format!("unix:{}", path.display()));
    let places = addresses.iter().map(|(address, _)| address.to_string());
    let places = places.chain(sockets).collect::<Vec<_>>().join(" or ");
    say_listening(config, &places);
    say_wide(config);
    let page = if config.allowed_origins.is_every() {
        "any web page"
    } else {
        info!("pages: only those of --allowed-origins may listen or publish");
        "pages of --allowed-origins"
    };
    let named: Vec<_> =
        addresses.iter().map(|(address, transport)| (from_here(*address), *transport)).collect();
    // A trusted proxy is never local.
    let trusts = |peer: ClientAddress| config.trusted_proxies.trust(peer);
    let is_local = |address: &SocketAddr| address.ip().is_loopback() && !trusts((*address).into());
    let loopback = named.iter().find(|(address, _)| is_local(address));
    let socket = config.listen_unix.first().filter(|_| !trusts(ClientAddress::Unix));
    let mut token = "";
    let takes_tokens = say_tokens(config);
    if config.insecure_api {
        match config.is_loopback_only() {
            true => info!("publishing: everybody who reaches {places} may (--insecure-api)"),
            false => warn!(
                "publishing: everybody who reaches {places} may, from any machine and {page}, \
                 and so may send to every client (--insecure-api); set --api-token instead"
            ),
        }
    } else if !config.api_tokens.is_empty() {
        token = " -H 'Authorization: Bearer TOKEN'";
        info!("publishing: programs with a token of --api-token may, from anywhere");
    } else {
        if loopback.is_none() && socket.is_none() {
            if !takes_tokens {
                warn!(
                    "nobody can publish over HTTP: no listener is on loopback, or trusted proxies \
                     alone come from there; set --api-token"
                );
            }
            return;
        }
        match owner::us() {
            Some(users) if loopback.is_none_or(|(address, _)| owner::is_told(*address)) => {
                info!(
                    "publishing: programs of {users} on this machine may; for others --api-token"
                );
                if owner::we_are_nobody() {
                    info!(
                        "publishing: this server's own user (65534, nobody) may not, since the \
                         system gives that number to all users whom it does not know"
                    );
                }
            }
            Some(_) if takes_tokens => return,
            Some(_) => {
                warn!(
                    "nobody can publish over HTTP: this system does not say whose a connection is \
                     (netlink sock_diag); set --api-token"
                );
                return;
            }
            None => info!(
                "publishing: programs on this machine may, as far as their requests tell; behind a \
                 proxy set --api-token"
            ),
        }
    }
    say_example(config, loopback.or_else(|| named.first()), loopback.is_some(), token);
}

/// A command that publishes: over the address, unless another way is more local.
fn say_example(
    config: &Config,
    address: Option<&(SocketAddr, Transport)>,
    is_loopback: bool,
    token: &str,
) {
    match (config.listen_unix.first(), address) {
        (Some(path), _) if !is_loopback => info!(
            "try: curl -d 'hello'{token} --unix-socket {} http://localhost/broadcast",
            path.display()
        ),
        (_, Some((address, transport))) => {
            // The certificate is for a name, which is not known here.
            let scheme = match transport {
                Transport::Plain => "http",
                Transport::Tls => "-k https",
            };
            info!("try: curl -d 'hello'{token} {scheme}://{address}/broadcast");
        }
        (_, None) => {}
    }
}

/// Whether tokens count.
fn say_tokens(config: &Config) -> bool {
    let takes_tokens = config.tokens.has_keys();
    if takes_tokens {
        info!("publishing: bearers of tokens may, to the channels that these name");
    }
    takes_tokens
}

/// Networks that are named as if there were nobody in them but proxies, or programs of one's own.
fn say_wide(config: &Config) {
    for network in config.trusted_proxies.wide() {
        warn!(
            "--trusted-proxies {network}: every client in there may claim to have any address, for \
             limits and in the log; name the addresses of the proxies alone"
        );
    }
    for network in config.address_limits.exempt.wide() {
        warn!(
            "--limit-exempt {network}: no limit holds for any client in there; name the addresses \
             of your own programs alone"
        );
    }
}

fn say_listening(config: &Config, places: &str) {
    let public = &config.public_channels;
    if *public == ChannelPatterns::all() {
        info!("listening: everybody who reaches {places} may, without a token");
        return;
    }
    if !public.is_empty() {
        let named: Vec<_> = public.iter().take(CHANNELS_NAMED).map(|one| one.to_string()).collect();
        let more = if public.iter().nth(CHANNELS_NAMED).is_some() { ", …" } else { "" };
        let named = named.join(", ") + more;
        info!("listening: everybody who reaches {places} may, without a token, to {named}");
    }
    info!("listening: clients that show a token may, to the channels that it covers");
}

/// Where this machine itself reaches a listener on `address`: "every address" is nobody's name,
/// and without a token only a `Host` that names loopback may publish.
fn from_here(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
