//! Limits by address and client: how much of each, and addresses that are exempt.

use std::{num::NonZeroU32, ops::RangeInclusive};

use super::{args, checker::Checker};
use crate::{
    admission::AddressLimitSettings, conn::ClientRateSettings, limits::NETWORKS_MAX, peer::Networks,
};

const CLIENTS: RangeInclusive<u64> = 0..=10_000_000;
/// More would come back faster than the clock is read.
const PER_SECOND: RangeInclusive<u64> = 0..=1_000_000;

/// The limits of each address, and those of each client.
pub(super) fn check(
    checker: &mut Checker,
    typed: &args::LimitOptions,
) -> (AddressLimitSettings, ClientRateSettings) {
    let (exempt, dry_run) = (exempt(checker, &typed.limit_exempt), typed.limits_dry_run);
    let clients = &typed.max_connections_per_address;
    let handshakes = &typed.handshakes_per_address;
    let commands = &typed.commands_per_client;
    let of_address = AddressLimitSettings {
        clients_max: count(checker, "max-connections-per-address", clients, CLIENTS),
        handshakes_max: count(checker, "handshakes-per-address", handshakes, PER_SECOND),
        exempt: exempt.clone(),
        dry_run,
    };
    let commands_max = count(checker, "commands-per-client", commands, PER_SECOND);
    (of_address, ClientRateSettings { commands_max, exempt, dry_run })
}

/// A limit; `None`: there is none.
fn count(
    checker: &mut Checker,
    option: &str,
    text: &str,
    range: RangeInclusive<u64>,
) -> Option<NonZeroU32> {
    let count = checker.number(option, text, range);
    NonZeroU32::new(u32::try_from(count).unwrap_or(u32::MAX))
}

fn exempt(checker: &mut Checker, typed: &[String]) -> Networks {
    let mut networks = Networks::default();
    if typed.len() > NETWORKS_MAX {
        checker.refuse("limit-exempt", typed.len(), format!("at most {NETWORKS_MAX} networks"));
        return networks;
    }
    for text in typed {
        if let Err(reason) = networks.add(text) {
            checker.refuse("limit-exempt", text, reason);
        }
    }
    networks
}
