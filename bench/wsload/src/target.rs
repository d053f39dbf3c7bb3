//! Which server: WebSocket and publish addresses, and what to send first to each.
//!
//! Only loopback addresses pass unless remote ones are allowed by name: a load generator pointed
//! at somebody else's server by a typing error is an attack.

use std::{
    fmt::Display,
    net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _},
};

use anyhow::{Context as _, Result, bail, ensure};
use testkit::http::upgrade_request;

use crate::{
    args::{Mode, RunArgs},
    form::Form,
    tls::{ClientTls, TlsVersion},
};

pub use crate::args::CLIENTS_PER_SOURCE_MAX;

/// Of a channel's number.
const CHANNEL_DIGITS: usize = 5;

/// Where the load goes.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// Clients speak TLS.
    pub(crate) tls: Option<ClientTls>,
    /// The upgrade request of every client.
    pub(crate) handshake: Vec<u8>,
    /// It asks for permessage-deflate, and the server has to agree.
    pub(crate) compression: bool,
    /// The form that clients ask for.
    pub(crate) form: Form,
    pub(crate) publish_address: SocketAddr,
    /// The publish request up to and including the name of its `Content-Length`.
    pub(crate) publish_head: String,
    /// With several channels: where their five digits stand in both.
    handshake_digits_at: Option<usize>,
    pub(crate) publish_digits_at: Option<usize>,
    pub(crate) channels: usize,
    clients_per_address: usize,
}

impl Target {
    /// Resolves the URLs of a run.
    pub(crate) fn from_args(args: &RunArgs) -> Result<Self> {
        let (client, tls) = client(args)?;
        let channel = match args.channels {
            1 => args.channel.clone(),
            _ => Some(format!("{}.00000", args.channel.as_deref().unwrap_or("load"))),
        };
        let channel = channel.as_deref();
        let default_path = if args.form == Form::Sse { "/sse" } else { "/ws" };
        let client_path = with_channel(client.path.unwrap_or(default_path), channel);
        let publish_url = match &args.publish_url {
            Some(url) => Url::parse(url, "http://")?,
            None => Url { authority: client.authority, path: None },
        };
        let publish_path = publish_url.path.unwrap_or("/broadcast");
        let publish_path = with_channel(publish_path, channel);
        let authorization = match &args.token {
            Some(token) => format!("Authorization: Bearer {token}\r\n"),
            None => String::new(),
        };
        let (host, form) = (client.authority, args.form);
        let handshake = client_request(form, args.compression, host, &client_path, &authorization);
        let publish_head = format!(
            "POST {publish_path} HTTP/1.1\r\nHost: {}\r\nContent-Type: text/plain\r\n\
             {authorization}Content-Length: ",
            publish_url.authority
        );
        let digits_at = |text: &str| {
            let name = channel.filter(|_| args.channels > 1)?;
            Some(text.find(name)? + name.len() - CHANNEL_DIGITS)
        };
        let target = Self {
            handshake_digits_at: digits_at(&handshake),
            publish_digits_at: digits_at(&publish_head),
            channels: args.channels,
            clients_per_address: args.clients_per_address,
            address: client.resolve(args.allow_remote)?,
            tls,
            handshake: handshake.into_bytes(),
            compression: args.compression,
            form: args.form,
            publish_address: publish_url.resolve(args.allow_remote)?,
            publish_head,
        };
        ensure!(
            target.address.ip() != IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])
                || args.clients <= CLIENTS_PER_SOURCE_MAX,
            "[::1] is one source address: {CLIENTS_PER_SOURCE_MAX} clients at most; use 127.0.0.1"
        );
        Ok(target)
    }

    /// Which channel client number `index` listens to.
    pub(crate) fn channel(&self, index: usize) -> usize {
        index % self.channels
    }

    /// The upgrade request of client number `index`.
    pub(crate) fn handshake_of(&self, index: usize) -> Vec<u8> {
        let mut handshake = self.handshake.clone();
        write_channel(&mut handshake, self.handshake_digits_at, self.channel(index));
        handshake
    }

    /// The address client number `index` connects from; none: whatever the kernel picks.
    pub(crate) fn source(&self, index: usize) -> Option<SocketAddr> {
        let beyond = index / self.clients_per_address;
        let is_loopback = self.address.is_ipv4() && self.address.ip().is_loopback();
        (is_loopback && beyond > 0).then(|| {
            let host = u32::from(Ipv4Addr::LOCALHOST) + beyond as u32;
            SocketAddr::from((Ipv4Addr::from(host), 0))
        })
    }
}

/// The request with which a client of this form begins; `headers` are whole lines.
pub fn client_request(
    form: Form,
    compression: bool,
    host: impl Display,
    path: &str,
    headers: &str,
) -> String {
    let extensions = match compression {
        true => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        false => "",
    };
    let subprotocol = match form {
        Form::V1 => "Sec-WebSocket-Protocol: wsbcast.v1\r\n",
        Form::Plain | Form::Sse => "",
    };
    match form {
        Form::Sse => format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n{headers}\r\n"
        ),
        Form::Plain | Form::V1 => {
            upgrade_request(host, path, &[extensions, subprotocol, headers].concat())
        }
    }
}

/// Where clients connect, and what they speak TLS with.
fn client(args: &RunArgs) -> Result<(Url<'_>, Option<ClientTls>)> {
    let is_secure = args.url.starts_with("wss://");
    let client = Url::parse(&args.url, if is_secure { "wss://" } else { "ws://" })?;
    let version = args.tls.or_else(|| is_secure.then_some(TlsVersion::Tls13));
    ensure!(
        version.is_none() || args.publish_url.is_some() || args.mode == Mode::Idle,
        "publishers speak no TLS: --publish-url http://…"
    );
    ensure!(version.is_some() || !args.tls_resume, "--tls-resume needs --tls");
    let tls = version.map(|version| ClientTls::new(version, args.tls_resume, client.host()));
    Ok((client, tls.transpose()?))
}

/// Puts a channel's number into a request; nothing without a place for it.
pub(crate) fn write_channel(request: &mut [u8], digits_at: Option<usize>, channel: usize) {
    let Some(at) = digits_at else { return };
    let mut rest = channel;
    for digit in request[at..at + CHANNEL_DIGITS].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

#[derive(Clone, Copy, Debug)]
struct Url<'a> {
    authority: &'a str,
    path: Option<&'a str>,
}

impl<'a> Url<'a> {
    fn parse(url: &'a str, scheme: &str) -> Result<Self> {
        let Some(rest) = url.strip_prefix(scheme) else {
            bail!("{url:?}: expected {scheme}HOST:PORT[/PATH]");
        };
        ensure!(
            url.bytes().all(|byte| byte.is_ascii_graphic()),
            "{url:?}: blanks and control characters must be percent-encoded"
        );
        let (authority, path) = match rest.find('/') {
            Some(slash) if rest.len() > slash + 1 => (&rest[..slash], Some(&rest[slash..])),
            Some(slash) => (&rest[..slash], None),
            None => (rest, None),
        };
        Ok(Self { authority, path })
    }

    /// The authority without its port, and without the brackets of an IPv6 address.
    fn host(&self) -> &'a str {
        let host = self.authority.rsplit_once(':').map_or(self.authority, |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    fn resolve(&self, allow_remote: bool) -> Result<SocketAddr> {
        let mut addresses = self
            .authority
            .to_socket_addrs()
            .with_context(|| format!("{:?}: expected HOST:PORT", self.authority))?;
        let address = addresses.next().context("the host name has no address")?;
        if !address.ip().is_loopback() && !allow_remote {
            bail!("{address} is not this machine: if it is yours, say --allow-remote");
        }
        Ok(address)
    }
}

fn with_channel(path: &str, channel: Option<&str>) -> String {
    match channel {
        None => path.to_owned(),
        Some(channel) => {
            let separator = if path.contains('?') { '&' } else { '?' };
            format!("{path}{separator}channel={channel}")
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::RunCommand;

    fn target(arguments: &[&str]) -> Result<Target> {
        Target::from_args(&RunCommand::try_parse_from(["run"].iter().chain(arguments))?.run)
    }

    #[test]
    fn channel_and_default_paths_reach_both_requests() {
        let target = target(&["--url", "ws://127.0.0.1:81", "--channel", "a.b"]).unwrap();
        assert!(target.handshake.starts_with(b"GET /ws?channel=a.b HTTP/1.1\r\n"));
        assert!(target.publish_head.starts_with("POST /broadcast?channel=a.b HTTP/1.1\r\n"));
        assert_eq!(target.publish_address, target.address);
    }

    #[test]
    fn clients_spread_over_channels() {
        let target = target(&["--url", "ws://127.0.0.1:81", "--channels", "300"]).unwrap();
        let path = |index| {
            let handshake = String::from_utf8(target.handshake_of(index)).unwrap();
            handshake.split(' ').nth(1).unwrap().to_owned()
        };
        assert_eq!(path(0), "/ws?channel=load.00000");
        assert_eq!(path(299), "/ws?channel=load.00299");
        assert_eq!(path(300), "/ws?channel=load.00000");
        let mut head = target.publish_head.clone().into_bytes();
        write_channel(&mut head, target.publish_digits_at, 42);
        assert!(head.starts_with(b"POST /broadcast?channel=load.00042 HTTP/1.1\r\n"));
    }

    #[test]
    fn remote_servers_need_to_be_allowed_by_name() {
        assert!(target(&["--url", "ws://192.0.2.1:80/"]).is_err());
        assert!(
            target(&["--url", "ws://127.0.0.1:1", "--publish-url", "http://192.0.2.1:80"]).is_err()
        );
        assert!(target(&["--url", "ws://192.0.2.1:80/", "--allow-remote"]).is_ok());
    }

    #[test]
    fn clients_spread_over_source_addresses() {
        let target = target(&["--url", "ws://127.0.0.1:81"]).unwrap();
        assert_eq!(target.source(9_999), None);
        assert_eq!(target.source(10_000).unwrap().to_string(), "127.0.0.2:0");
        assert_eq!(target.source(35_000).unwrap().to_string(), "127.0.0.4:0");
    }

    #[test]
    fn every_client_may_have_an_address_of_its_own() {
        let alone = ["--url", "ws://127.0.0.1:81", "--clients-per-address", "1"];
        let target = target(&alone).unwrap();
        assert_eq!(target.source(0), None);
        assert_eq!(target.source(1).unwrap().to_string(), "127.0.0.2:0");
        assert_eq!(target.source(14_999).unwrap().to_string(), "127.0.58.152:0");
    }

    #[test]
    fn clients_by_tls_leave_publishing_to_a_plain_address() {
        assert!(target(&["--url", "ws://127.0.0.1:1"]).unwrap().tls.is_none());
        for url in [&["--url", "wss://localhost:1"][..], &["--url", "ws://[::1]:1", "--tls", "1.2"]]
        {
            assert!(target(url).is_err(), "publishers speak no TLS");
            assert!(target(&[url, &["--mode", "idle"]].concat()).unwrap().tls.is_some());
            let both = [url, &["--publish-url", "http://127.0.0.1:2"]].concat();
            assert!(target(&both).unwrap().tls.is_some());
        }
        assert!(target(&["--url", "ws://127.0.0.1:1", "--tls-resume"]).is_err());
    }

    #[test]
    fn an_address_cannot_smuggle_a_header() {
        assert!(target(&["--url", "ws://127.0.0.1:81/a\r\nX: y"]).is_err());
    }
}
