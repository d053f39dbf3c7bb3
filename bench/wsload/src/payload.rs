//! The content of messages after their stamp.
//!
//! The kind matters only where messages are compressed: filler of one letter would shrink to
//! nothing, which no real message does.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A kind of filler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Payload {
    /// One letter
    #[default]
    X,
    /// JSON as services publish it: field names repeat, numbers differ; a third when compressed
    Json,
}

impl Payload {
    /// Fills a message; its stamp is written over the start.
    pub(crate) fn fill(self, bytes: &mut [u8]) {
        match self {
            Self::X => bytes.fill(b'x'),
            Self::Json => fill_json(bytes),
        }
    }
}

fn fill_json(mut bytes: &mut [u8]) {
    const SYMBOLS: [&str; 5] = ["BTC-USD", "ETH-USD", "SOL-USD", "DOGE-EUR", "ADA-EUR"];
    let mut state = 1_u32;
    while !bytes.is_empty() {
        // Any generator will do: the messages of all runs are to be the same.
        let mut number = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        let item = format!(
            "{{\"symbol\":\"{}\",\"price\":{}.{:02},\"size\":{},\"side\":\"{}\",\
             \"time\":\"2026-01-01T12:{:02}:{:02}.{:03}Z\"}},",
            SYMBOLS[number(5) as usize],
            number(70_000),
            number(100),
            number(5_000),
            ["buy", "sell"][number(2) as usize],
            number(60),
            number(60),
            number(1_000),
        );
        let (here, rest) = bytes.split_at_mut(item.len().min(bytes.len()));
        here.copy_from_slice(&item.as_bytes()[..here.len()]);
        bytes = rest;
    }
}
