//! How much each client has said lately, against what one client may say.
//!
//! Kept beside the table of clients, by key, and only where there is a limit: a client that says
//! nothing costs nothing. A message, a ping and a pong count one each, and so do each 4 KiB of
//! input, in whatever pieces they come: so neither many frames nor long ones get round it.

use std::{collections::HashMap, num::NonZeroU32};

use serde::{Deserialize, Serialize};

use crate::{
    admission::{Meter, Rate},
    clock::Millis,
    hub::Key,
    limits::COMMAND_BYTES,
    peer::{ClientAddress, Networks},
};

/// The options about what one client may say.
#[derive(Clone, Debug, Default)]
pub struct ClientRateSettings {
    /// Messages in a second; `None`: any number.
    pub commands_max: Option<NonZeroU32>,
    /// Addresses without limits.
    pub exempt: Networks,
    /// Passed limits are counted, and nobody is closed.
    pub dry_run: bool,
}

/// The allowances of a shard's clients.
#[derive(Debug)]
pub(super) struct ClientRates {
    rate: Option<Rate>,
    exempt: Networks,
    dry_run: bool,
    /// `None`: without limits.
    meters: HashMap<Key, Option<Meter>>,
}

/// How much a client has said lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum RateRecord {
    /// It has no limit.
    Exempt,
    /// After so many nanoseconds its allowance is whole.
    WholeIn(u64),
}

/// A client has said more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PastLimit {
    /// It is to be closed.
    pub(super) is_to_end: bool,
}

impl ClientRates {
    pub(super) fn new(settings: &ClientRateSettings) -> Self {
        Self {
            rate: settings.commands_max.map(Rate::per_second),
            exempt: settings.exempt.clone(),
            dry_run: settings.dry_run,
            meters: HashMap::new(),
        }
    }

    /// A client is there.
    pub(super) fn begin(&mut self, key: Key, client: ClientAddress) {
        if self.rate.is_some() && self.exempt.contain(client) {
            self.meters.insert(key, None);
        }
    }

    /// How much a client has said lately, at `now`.
    pub(super) fn record(&self, key: Key, now: Millis) -> Option<RateRecord> {
        Some(match self.meters.get(&key)? {
            None => RateRecord::Exempt,
            Some(meter) => RateRecord::WholeIn(meter.whole_in_ns(now)),
        })
    }

    /// A client has said so much lately.
    pub(super) fn restore(&mut self, key: Key, record: RateRecord, now: Millis) {
        if self.rate.is_some() {
            let meter = match record {
                RateRecord::Exempt => None,
                RateRecord::WholeIn(left_ns) => Some(Meter::whole_after(left_ns, now)),
            };
            self.meters.insert(key, meter);
        }
    }

    /// A client is gone.
    pub(super) fn end(&mut self, key: Key) {
        if self.rate.is_some() {
            self.meters.remove(&key);
        }
    }

    /// Bytes of a client have come; the error if they are more than it may send.
    pub(super) fn charge_input(
        &mut self,
        key: Key,
        bytes: usize,
        now: Millis,
    ) -> Result<(), PastLimit> {
        let Some(rate) = self.rate else { return Ok(()) };
        let meter = self.meters.entry(key).or_insert_with(|| Some(Meter::default()));
        let Some(meter) = meter else { return Ok(()) };
        rate.charge_part(meter, bytes, COMMAND_BYTES, now);
        match rate.is_in_debt(*meter, now) {
            true => Err(PastLimit { is_to_end: !self.dry_run }),
            false => Ok(()),
        }
    }

    /// A client has said something; the error if it was too much.
    pub(super) fn take(&mut self, key: Key, now: Millis) -> Result<(), PastLimit> {
        let Some(rate) = self.rate else { return Ok(()) };
        let meter = self.meters.entry(key).or_insert_with(|| Some(Meter::default()));
        let taken = meter.as_mut().map_or(Ok(()), |meter| rate.take(meter, 1, now));
        taken.map_err(|_| PastLimit { is_to_end: !self.dry_run })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(7);

    fn rates(commands: u32) -> ClientRates {
        let mut settings = ClientRateSettings {
            commands_max: NonZeroU32::new(commands),
            ..ClientRateSettings::default()
        };
        settings.exempt.add("10.0.0.0/8").unwrap();
        ClientRates::new(&settings)
    }

    fn taken(rates: &mut ClientRates, key: Key) -> usize {
        (0..1_000).take_while(|_| rates.take(key, NOW).is_ok()).count()
    }

    #[test]
    fn a_client_has_an_allowance_until_it_is_gone() {
        let (mut rates, one, other) = (rates(3), Key::new(1, 1), Key::new(2, 1));
        assert_eq!((taken(&mut rates, one), taken(&mut rates, other)), (30, 30));
        rates.end(one);
        assert_eq!(rates.meters.len(), 1);
        assert_eq!(taken(&mut rates, Key::new(1, 2)), 30);
    }

    #[test]
    fn input_counts_in_whatever_pieces_it_comes() {
        for piece in [1, 100, 4096, 16 * 1024] {
            let (mut rates, key) = (rates(1), Key::new(1, 1));
            for _ in 0..16 * 1024 / piece {
                rates.charge_input(key, piece, NOW).unwrap();
            }
            assert_eq!(taken(&mut rates, key), 6, "{piece}");
        }
    }

    /// Input alone is past the limit, too, if nothing is said with it.
    #[test]
    fn more_input_than_allowed_is_past_the_limit() {
        let (mut rates, key) = (rates(1), Key::new(1, 1));
        rates.charge_input(key, 10 * COMMAND_BYTES, NOW).unwrap();
        let past = rates.charge_input(key, 1, NOW).unwrap_err();
        assert!(past.is_to_end);
        rates.charge_input(key, COMMAND_BYTES, Millis(NOW.0 + 2_000)).unwrap();
    }

    #[test]
    fn an_exempt_client_has_no_limit() {
        let (mut rates, key) = (rates(1), Key::new(1, 1));
        rates.begin(key, ClientAddress::Ip([10, 1, 1, 1].into()));
        rates.charge_input(key, 1 << 20, NOW).unwrap();
        assert_eq!(taken(&mut rates, key), 1_000);
        let unnamed = Key::new(2, 1);
        rates.begin(unnamed, ClientAddress::Unnamed);
        assert_eq!(taken(&mut rates, unnamed), 10);
        let mut off = ClientRates::new(&ClientRateSettings::default());
        assert_eq!(taken(&mut off, key), 1_000);
        assert!(off.meters.is_empty());
    }
}
