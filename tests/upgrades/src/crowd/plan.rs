//! The plan: what each client is, from its number alone.

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
};

use wsload::{
    connection::Opening,
    form::Form,
    target::{CLIENTS_PER_SOURCE_MAX, client_request},
};

use crate::args::RunArgs;

/// The first publisher's channel, to which most listen.
pub(crate) const MAIN: &str = "main";
/// The channel of all other publishers.
pub(crate) const FAST: &str = "fast";
/// 127.2.0.0: addresses of this machine that nobody else's clients use.
const SOURCES_FROM: Ipv4Addr = Ipv4Addr::new(127, 2, 0, 1);
const NEWCOMERS_FROM: Ipv4Addr = Ipv4Addr::new(127, 3, 0, 1);
/// So many addresses have ports for all that come and go.
const NEWCOMERS_SOURCES: usize = 32;
/// Those that do not read are behind soon.
const SMALL_BUFFER_BYTES: usize = 4096;

/// The kind of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Listens to the channel with many messages, and does not read around upgrades.
    Laggard,
    /// Listens to it.
    Fast,
    /// Is amid a message of its own.
    Half,
    /// Reads only at the very end.
    NonReader,
    /// Listens.
    Main,
}

/// All clients.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    /// The number in all stamps.
    pub(crate) run: u32,
    pub(crate) clients: usize,
    /// Of the other channel; the first publisher's is that of all.
    pub(crate) fast_publishers: usize,
    laggards: usize,
    fast: usize,
    half: usize,
    non_readers: usize,
}

impl Plan {
    pub(crate) fn new(args: &RunArgs, address: SocketAddr, fast_publishers: usize) -> Self {
        Self {
            address,
            run: fastrand::u32(..),
            clients: args.clients,
            fast_publishers,
            laggards: args.laggards,
            fast: args.fast,
            half: args.half,
            non_readers: args.non_readers,
        }
    }

    /// The clients of a kind.
    pub(crate) fn of(&self, role: Role) -> Range<usize> {
        let half = self.fast + self.half;
        match role {
            Role::Laggard => 0..self.laggards,
            Role::Fast => self.laggards..self.fast,
            Role::Half => self.fast..half,
            Role::NonReader => half..half + self.non_readers,
            Role::Main => half + self.non_readers..self.clients,
        }
    }

    pub(crate) fn role(&self, at: usize) -> Role {
        let roles = [Role::Laggard, Role::Fast, Role::Half, Role::NonReader];
        roles.into_iter().find(|role| self.of(*role).contains(&at)).unwrap_or(Role::Main)
    }

    /// Form, and whether it is compressed: half of all are plain.
    pub(crate) fn form(&self, at: usize) -> (Form, bool) {
        if self.role(at) == Role::Half {
            return (Form::V1, false);
        }
        form_of(at)
    }

    /// How client number `at` begins.
    pub(crate) fn opening(&self, at: usize) -> Opening {
        let role = self.role(at);
        let channel = if matches!(role, Role::Laggard | Role::Fast) { FAST } else { MAIN };
        let host = u32::from(SOURCES_FROM) + (at / CLIENTS_PER_SOURCE_MAX) as u32;
        let stalls = role == Role::NonReader;
        let receive_buffer = (stalls || role == Role::Laggard).then_some(SMALL_BUFFER_BYTES);
        let opening = opening(self.address, self.form(at), channel, host);
        Opening { stalls, receive_buffer, ..opening }
    }

    /// How a client begins that comes and goes.
    pub(crate) fn newcomer(&self, number: usize) -> Opening {
        let host = u32::from(NEWCOMERS_FROM) + (number % NEWCOMERS_SOURCES) as u32;
        opening(self.address, form_of(number), MAIN, host)
    }
}

fn form_of(at: usize) -> (Form, bool) {
    match at % 6 {
        1 => (Form::V1, false),
        3 => (Form::Sse, false),
        5 => (Form::Plain, true),
        _ => (Form::Plain, false),
    }
}

fn opening(
    address: SocketAddr,
    (form, compression): (Form, bool),
    channel: &str,
    host: u32,
) -> Opening {
    let route = if form == Form::Sse { "/sse" } else { "/ws" };
    let path = format!("{route}?channel={channel}");
    Opening {
        address,
        source: Some(SocketAddr::from((Ipv4Addr::from(host), 0))),
        tls: None,
        handshake: client_request(form, compression, address, &path, "").into_bytes(),
        form,
        compression,
        stalls: false,
        receive_buffer: None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    #[test]
    fn every_client_has_one_role() {
        let Command::Run(args) = Args::try_parse_from(["upgrades", "run"]).unwrap().command else {
            unreachable!("it runs")
        };
        let plan = Plan::new(&args, SocketAddr::from(([127, 0, 0, 1], 1)), 3);
        let count = |role| (0..plan.clients).filter(|at| plan.role(*at) == role).count();
        let roles = [Role::Laggard, Role::Fast, Role::Half, Role::NonReader, Role::Main];
        assert_eq!(roles.map(count), [20, 80, 100, 200, 17_600]);
        let plain = (0..plan.clients).filter(|at| plan.form(*at) == (Form::Plain, false)).count();
        assert!((8_900..=9_100).contains(&plain), "{plain} are plain");
    }
}
