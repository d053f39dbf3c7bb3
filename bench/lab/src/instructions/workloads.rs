//! The workloads whose instructions are counted: the same work each time, one measured function
//! each.
//!
//! Preparation happens outside of the measured function, which is never inlined: callgrind
//! knows it by its name.

use std::{
    hint::black_box,
    io::{self, IoSlice},
    sync::Arc,
};

use clap::ValueEnum;
use wsbcast::{
    channel::ChannelName,
    hub::{Budget, Encoding, Hub, HubSettings, Outlet, SlowPolicy, Unchanged},
    ws::{
        Kind,
        decoder::{Decoder, FrameRules},
    },
};

const CLIENTS: u64 = 1000;
const PASSES: u64 = 200;
const BATCH: u64 = 16;
const MESSAGE: [u8; 128] = [b'x'; 128];
const FRAMES: u64 = 64;
/// How often the same bytes are decoded.
const READS: u64 = 100;
const CHANNEL: &str = "notifications";

/// A piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Workload {
    /// A pass that finds one message
    Delivery,
    /// A pass that finds sixteen, one write each
    BatchedDelivery,
    /// A message put into its log
    Append,
    /// A client that comes, subscribes and leaves
    ComeAndGo,
    /// A masked text frame of a client, 32 bytes
    DecodedFrame,
    /// A client's pong
    DecodedPong,
}

impl Workload {
    /// The function whose instructions count.
    pub(super) fn function(self) -> &'static str {
        match self {
            Self::Delivery | Self::BatchedDelivery => "measured_pass",
            Self::Append => "measured_append",
            Self::ComeAndGo => "measured_come_and_go",
            Self::DecodedFrame | Self::DecodedPong => "measured_decode",
        }
    }

    /// The divisor of the count.
    pub(super) fn repetitions(self) -> u64 {
        match self {
            Self::Delivery => PASSES * CLIENTS,
            Self::BatchedDelivery => PASSES * CLIENTS * BATCH,
            Self::Append => PASSES * BATCH,
            Self::ComeAndGo => CLIENTS,
            Self::DecodedFrame | Self::DecodedPong => READS * FRAMES,
        }
    }

    /// Does the work.
    pub(super) fn run(self) {
        match self {
            Self::Delivery => deliver(1),
            Self::BatchedDelivery | Self::Append => deliver(BATCH),
            Self::ComeAndGo => measured_come_and_go(&mut crowd(1), &channel()),
            Self::DecodedFrame => decode(0x81, 32),
            Self::DecodedPong => decode(0x8a, 8),
        }
    }
}

/// Takes everything.
struct Sink(u64);

impl Outlet for Sink {
    type Shared = ();

    fn shared(_budget: &Arc<Budget>) {}

    fn write_vectored(&mut self, (): &mut (), slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        self.0 += bytes as u64;
        Ok(bytes)
    }
}

fn channel() -> ChannelName {
    ChannelName::new(CHANNEL).expect("letters only")
}

fn crowd(clients: u64) -> Hub<Sink> {
    let settings = HubSettings {
        backlog_bytes: 8 << 20,
        slow: SlowPolicy::Close,
        slow_close_frame: Box::from(*b"\x88\x02\x03\xf5"),
    };
    let mut hub = Hub::new(settings, Arc::new(Budget::new(256 << 20)));
    for _ in 0..clients {
        let key = hub.insert(Sink(0));
        hub.subscribe(key, &channel(), Encoding::Plain);
    }
    hub
}

fn deliver(batch: u64) {
    let mut hub = crowd(CLIENTS);
    for _ in 0..PASSES {
        measured_append(&mut hub, batch);
        let deliveries = measured_pass(&mut hub);
        assert_eq!(deliveries, batch * CLIENTS, "everyone has everything");
    }
}

#[inline(never)]
fn measured_pass(hub: &mut Hub<Sink>) -> u64 {
    hub.pass(&mut || true).deliveries
}

#[inline(never)]
fn measured_append(hub: &mut Hub<Sink>, batch: u64) {
    for _ in 0..batch {
        hub.publish(CHANNEL, &mut Unchanged::new(Kind::Text, black_box(&MESSAGE)));
    }
}

#[inline(never)]
fn measured_come_and_go(hub: &mut Hub<Sink>, channel: &ChannelName) {
    let mut keys = [None; CLIENTS as usize];
    for place in &mut keys {
        let key = hub.insert(Sink(0));
        hub.subscribe(key, channel, Encoding::Plain);
        *place = Some(key);
    }
    for key in keys.into_iter().flatten() {
        hub.remove(key);
    }
}

fn decode(first_byte: u8, payload_bytes: u8) {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let payload: Vec<u8> = (0..payload_bytes).map(|i| b'x' ^ mask[i as usize % 4]).collect();
    let frame = [&[first_byte, 0x80 | payload_bytes][..], &mask, &payload].concat();
    let input = frame.repeat(FRAMES as usize);
    let mut decoder = Decoder::default();
    for _ in 0..READS {
        // Decoding unmasks in place.
        let mut buffer = input.clone();
        let events = measured_decode(&mut decoder, &mut buffer);
        assert_eq!(events, FRAMES, "every frame is an event");
    }
}

#[inline(never)]
fn measured_decode(decoder: &mut Decoder, buffer: &mut [u8]) -> u64 {
    let rules = FrameRules { message_bytes_max: 64 * 1024, keep_payload: true, compression: false };
    let (mut at, mut events) = (0, 0);
    while at < buffer.len() {
        let Ok((used, event)) = decoder.next(&mut buffer[at..], &rules) else { break };
        at += used;
        events += u64::from(black_box(event).is_some());
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_runs() {
        Workload::value_variants().iter().for_each(|workload| workload.run());
    }
}
