//! The limits by address, put together: exempt networks, counts of clients, rates.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use super::{
    address_key::AddressKey,
    client_counts::{AddressGuard, ClientCounts},
    rate::Rate,
    rate_table::RateTable,
};
use crate::{
    clock::Millis,
    peer::{ClientAddress, Networks},
};

/// A bad credential costs as much as so many handshakes.
const FAILURE_COST: u32 = 2;

/// The options about addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressLimitSettings {
    /// Clients of one address at a time; `None`: any number.
    pub clients_max: Option<NonZeroU32>,
    /// Handshakes of one address in a second; `None`: any number.
    pub handshakes_max: Option<NonZeroU32>,
    /// Addresses without limits.
    pub exempt: Networks,
    /// Passed limits are counted, and nobody is refused.
    pub dry_run: bool,
}

/// The use that addresses make of this process. Shared by all shards: `Arc<AddressLimits>`.
#[derive(Debug, Default)]
pub struct AddressLimits {
    settings: AddressLimitSettings,
    clients: Option<Arc<ClientCounts>>,
    handshakes: Option<RateTable>,
    /// Those of TLS, at the same rate: a client begins one of each.
    tls_handshakes: Option<RateTable>,
    /// Bad credentials, at the same rate.
    failures: Option<RateTable>,
}

/// A client that asks to be counted.
#[derive(Debug)]
pub struct Entered {
    /// To be kept as long as the client is there. `None`: it is not counted, or not let in.
    pub guard: Option<AddressGuard>,
    /// Its address has as many clients as it may have.
    pub is_past_limit: bool,
}

impl AddressLimits {
    /// Nobody has used anything.
    #[must_use]
    pub fn new(settings: AddressLimitSettings) -> Self {
        let table = || Some(RateTable::new(Rate::per_second(settings.handshakes_max?)));
        Self {
            clients: settings.clients_max.map(|_| Arc::new(ClientCounts::new())),
            handshakes: table(),
            tls_handshakes: table(),
            failures: table(),
            settings,
        }
    }

    /// Whether limits that are passed are counted only.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        self.settings.dry_run
    }

    /// Whether bad credentials have a limit.
    #[must_use]
    pub fn counts_credentials(&self) -> bool {
        self.failures.is_some()
    }

    /// A client begins a handshake.
    ///
    /// # Errors
    /// When its address has begun too many; after this time it may again.
    pub fn handshake(&self, client: ClientAddress, now: Millis) -> Result<(), Duration> {
        let counted = self.handshakes.as_ref().zip(self.key(client));
        counted.map_or(Ok(()), |(table, address)| table.take(address, now))
    }

    /// A client begins a handshake of TLS.
    ///
    /// # Errors
    /// As of [`AddressLimits::handshake`], which counts for itself.
    pub fn tls_handshake(&self, client: ClientAddress, now: Millis) -> Result<(), Duration> {
        let counted = self.tls_handshakes.as_ref().zip(self.key(client));
        counted.map_or(Ok(()), |(table, address)| table.take(address, now))
    }

    /// Whether a credential that this address shows is looked at, which may be expensive.
    ///
    /// # Errors
    /// When too many of its credentials were bad; after this time the next one is looked at.
    pub fn credential(&self, client: ClientAddress, now: Millis) -> Result<(), Duration> {
        let counted = self.failures.as_ref().zip(self.key(client));
        counted.map_or(Ok(()), |(table, address)| table.check(address, now))
    }

    /// A credential was bad. A handshake with one counts twice, as does whatever else shows one.
    pub fn bad_credential(&self, client: ClientAddress, now: Millis) {
        let Some(address) = self.key(client) else { return };
        if let Some(table) = &self.handshakes {
            table.charge(address, FAILURE_COST - 1, now);
        }
        if let Some(table) = &self.failures {
            table.charge(address, FAILURE_COST, now);
        }
    }

    /// A client comes in; past the limit it is counted in a dry run only.
    #[must_use]
    pub fn enter(&self, client: ClientAddress) -> Entered {
        let Some((counts, address)) = self.clients.as_ref().zip(self.key(client)) else {
            return Entered { guard: None, is_past_limit: false };
        };
        let guard = counts.enter(address, self.settings.clients_max);
        let is_past_limit = guard.is_none();
        let guard = match guard {
            None if self.settings.dry_run => counts.enter(address, None),
            guard => guard,
        };
        Entered { guard, is_past_limit }
    }

    /// A client that was counted in another process, and is there already, counts here.
    #[must_use]
    pub fn restore(&self, counted: AddressKey) -> Option<AddressGuard> {
        self.clients.as_ref()?.enter(counted, None)
    }

    /// A connection of a client has ended without a request. It counts as the handshake that it was
    /// not: else connections that say nothing would have no limit.
    pub fn silent(&self, client: ClientAddress, now: Millis) {
        if let Some((table, address)) = self.handshakes.as_ref().zip(self.key(client)) {
            table.charge(address, 1, now);
        }
    }

    /// The same, of a connection that should have begun with a handshake of TLS.
    pub fn silent_tls(&self, client: ClientAddress, now: Millis) {
        if let Some((table, address)) = self.tls_handshakes.as_ref().zip(self.key(client)) {
            table.charge(address, 1, now);
        }
    }

    /// The part of a client's address by which it is counted; `None`: it has no limits.
    #[must_use]
    pub fn key(&self, client: ClientAddress) -> Option<AddressKey> {
        match client {
            ClientAddress::Ip(ip) if !self.settings.exempt.contain(client) => Some(ip.into()),
            ClientAddress::Ip(_) | ClientAddress::Unix => None,
            ClientAddress::Unnamed => Some(AddressKey::UNNAMED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_000);

    /// Connections that say nothing use up what handshakes have, of each kind its own.
    #[test]
    fn silent_connections_count_as_handshakes() {
        let handshakes_max = NonZeroU32::new(1);
        let limits =
            AddressLimits::new(AddressLimitSettings { handshakes_max, ..Default::default() });
        let one = client("192.0.2.1");
        (0..10).for_each(|_| limits.silent(one, NOW));
        assert!(limits.handshake(one, NOW).is_err());
        assert!(limits.tls_handshake(one, NOW).is_ok());
        (0..10).for_each(|_| limits.silent_tls(one, NOW));
        assert!(limits.tls_handshake(one, NOW).is_err());
        assert!(limits.handshake(client("192.0.2.2"), NOW).is_ok());
    }

    fn client(text: &str) -> ClientAddress {
        ClientAddress::Ip(text.parse().unwrap())
    }

    fn limits(change: impl FnOnce(&mut AddressLimitSettings)) -> AddressLimits {
        let mut settings = AddressLimitSettings {
            clients_max: NonZeroU32::new(2),
            handshakes_max: NonZeroU32::new(1),
            ..AddressLimitSettings::default()
        };
        change(&mut settings);
        AddressLimits::new(settings)
    }

    fn handshakes(limits: &AddressLimits, client: ClientAddress) -> usize {
        (0..100).take_while(|_| limits.handshake(client, NOW).is_ok()).count()
    }

    /// Addresses are limited each for itself, and those that are exempt not at all.
    #[test]
    fn an_exempt_address_has_no_limits() {
        let limits = limits(|settings| settings.exempt.add("10.0.0.0/8").unwrap());
        for (client, expected) in [
            (client("192.0.2.1"), (10, 2)),
            (client("192.0.2.2"), (10, 2)),
            (client("2001:db8::1"), (10, 2)),
            (client("10.1.2.3"), (100, 100)),
            (ClientAddress::Unix, (100, 100)),
            (ClientAddress::Unnamed, (10, 2)),
        ] {
            let entered: Vec<_> = std::iter::repeat_with(|| limits.enter(client))
                .take(100)
                .take_while(|entered| !entered.is_past_limit)
                .collect();
            assert_eq!((handshakes(&limits, client), entered.len()), expected, "{client}");
        }
        assert_eq!(handshakes(&limits, client("2001:db8::2")), 0, "of the same network");
    }

    #[test]
    fn an_address_without_options_has_no_limits() {
        let limits = AddressLimits::default();
        let client = client("192.0.2.1");
        assert_eq!(handshakes(&limits, client), 100);
        limits.bad_credential(client, NOW);
        assert_eq!(limits.credential(client, NOW), Ok(()));
        let entered = limits.enter(client);
        assert!(entered.guard.is_none() && !entered.is_past_limit);
    }

    /// A client by TLS, which begins two handshakes, has as many of each as one without.
    #[test]
    fn tls_handshakes_count_for_themselves() {
        let limits = limits(|settings| settings.exempt.add("10.0.0.0/8").unwrap());
        let granted = |client| {
            let each = || {
                limits.tls_handshake(client, NOW).is_ok() && limits.handshake(client, NOW).is_ok()
            };
            (0..100).take_while(|_| each()).count()
        };
        assert_eq!(granted(client("192.0.2.1")), 10);
        assert_eq!(granted(client("192.0.2.2")), 10);
        assert_eq!(granted(client("10.1.2.3")), 100);
        assert!(limits.tls_handshake(client("192.0.2.1"), NOW).is_err());
    }

    /// In a dry run clients past the limit are counted, so that they leave rightly.
    #[test]
    fn a_dry_run_counts_clients_past_the_limit() {
        let limits = limits(|settings| settings.dry_run = true);
        let client = client("192.0.2.1");
        let all: Vec<_> = (0..4).map(|_| limits.enter(client)).collect();
        let past: Vec<_> = all.iter().map(|entered| entered.is_past_limit).collect();
        assert_eq!(past, [false, false, true, true]);
        assert!(all.iter().all(|entered| entered.guard.is_some()));
        drop(all);
        assert!(!limits.enter(client).is_past_limit);
    }

    /// A handshake with a bad credential counts twice.
    #[test]
    fn a_bad_credential_counts_twice() {
        let limits = limits(|_| {});
        let client = client("192.0.2.1");
        let looked_at = (0..100)
            .take_while(|_| {
                let goes_on = limits.handshake(client, NOW).is_ok();
                limits.bad_credential(client, NOW);
                goes_on
            })
            .count();
        assert_eq!(looked_at, 5);
    }

    /// An address that shows bad credentials to a publisher's route is not looked at any more.
    #[test]
    fn bad_credentials_are_looked_at_half_as_often() {
        let limits = limits(|_| {});
        let (bad, good) = (client("192.0.2.1"), client("192.0.2.2"));
        let looked_at = (0..100)
            .take_while(|_| {
                let goes_on = limits.credential(bad, NOW).is_ok();
                limits.bad_credential(bad, NOW);
                goes_on
            })
            .count();
        assert_eq!(looked_at, 5);
        assert_eq!(limits.credential(good, NOW), Ok(()));
    }
}
