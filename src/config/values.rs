//! Single values: text in, value out, or a description of what would be accepted.
//!
//! Pure functions that know nothing of options. Their errors are the second half of a sentence
//! whose first half names option and value.

use std::{ops::RangeInclusive, time::Duration};

use crate::{
    broker::{OnLoss, Subscribers},
    conn::{ClientPublish, ResumeMiss},
    hub::SlowPolicy,
    telemetry::Format,
};

/// A description of the values that would be accepted.
pub(super) type Expected = String;

const KIB: u64 = 1024;
const UNITS: [(&str, u64); 5] =
    [("", 1), ("b", 1), ("kib", KIB), ("mib", KIB * KIB), ("gib", KIB * KIB * KIB)];

/// A value chosen from a few words.
pub(super) trait OptionWord: Copy + 'static {
    /// The words and their meanings.
    const WORDS: &'static [(&'static str, Self)];
}

/// The state of something that an option turns on or off by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switch {
    Off,
    On,
}

impl OptionWord for OnLoss {
    const WORDS: &'static [(&'static str, Self)] =
        &[("local", Self::Local), ("reject", Self::Reject)];
}

impl OptionWord for Subscribers {
    const WORDS: &'static [(&'static str, Self)] =
        &[("per-shard", Self::PerShard), ("per-process", Self::PerProcess)];
}

impl OptionWord for ClientPublish {
    const WORDS: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("broadcast", Self::Broadcast)];
}

impl OptionWord for SlowPolicy {
    const WORDS: &'static [(&'static str, Self)] = &[("close", Self::Close), ("skip", Self::Skip)];
}

impl OptionWord for ResumeMiss {
    const WORDS: &'static [(&'static str, Self)] =
        &[("close", Self::Close), ("continue", Self::Continue)];
}

impl OptionWord for Switch {
    const WORDS: &'static [(&'static str, Self)] = &[("off", Self::Off), ("on", Self::On)];
}

impl OptionWord for Format {
    const WORDS: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

impl OptionWord for bool {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("true", true),
        ("false", false),
        ("1", true),
        ("0", false),
        ("yes", true),
        ("no", false),
        ("on", true),
        ("off", false),
    ];
}

pub(super) fn word<T: OptionWord>(text: &str) -> Result<T, Expected> {
    let found = T::WORDS.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = T::WORDS.iter().map(|(word, _)| *word).collect();
        format!("expected {}", words.join(" or "))
    })
}

pub(super) fn number(text: &str, range: &RangeInclusive<u64>) -> Result<u64, Expected> {
    let value = if is_digits(text) { text.parse().ok() } else { None };
    value
        .filter(|value| range.contains(value))
        .ok_or_else(|| format!("expected a whole number from {} to {}", range.start(), range.end()))
}

/// `64KiB`, `8MiB`, `1GiB`, or plain bytes.
pub(super) fn size(text: &str, range: &RangeInclusive<u64>) -> Result<usize, Expected> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let unit = unit.trim().to_ascii_lowercase();
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let bytes = digits.parse::<u64>().ok().zip(factor).and_then(|(n, by)| n.checked_mul(by));
    bytes
        .filter(|bytes| range.contains(bytes))
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| {
            let (from, to) = (show_size(*range.start()), show_size(*range.end()));
            format!("expected a size from {from} to {to}, such as 65536, 64KiB or 8MiB")
        })
}

/// `500ms`, `10s`, `1m30s`, or a bare `0`.
pub(super) fn duration(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, Expected> {
    let value = if text == "0" { Ok(Duration::ZERO) } else { humantime::parse_duration(text) };
    value.ok().filter(|value| range.contains(value)).ok_or_else(|| {
        let (from, to) = (show_duration(*range.start()), show_duration(*range.end()));
        format!("expected a duration from {from} to {to}, such as 500ms, 10s or 1m30s")
    })
}

/// A size as it would be typed.
pub(super) fn show_size(bytes: u64) -> String {
    let units = UNITS.iter().zip(["", "B", "KiB", "MiB", "GiB"]).rev();
    for ((_, factor), name) in units {
        if bytes >= *factor && bytes.is_multiple_of(*factor) {
            return format!("{}{name}", bytes / factor);
        }
    }
    bytes.to_string()
}

/// A duration as it would be typed.
pub(super) fn show_duration(duration: Duration) -> String {
    if duration.is_zero() {
        return "0s".to_owned();
    }
    humantime::format_duration(duration).to_string().replace(' ', "")
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes read as bytes or with a binary unit and show the same way.
    #[test]
    fn sizes_read_and_show_the_same_way() {
        let range = 0..=u64::MAX;
        for (text, bytes) in [
            ("0", 0),
            ("1", 1),
            ("512B", 512),
            ("64KiB", 65_536),
            ("64kib", 65_536),
            ("8 MiB", 8 << 20),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(size(text, &range), Ok(bytes), "{text}");
        }
        for bad in ["", "KiB", "-1", "+1", "1.5MiB", "64KB", "64K", "1e3", "99999999999GiB"] {
            assert!(size(bad, &range).is_err(), "{bad}");
        }
        assert!(size("9", &(1..=8)).unwrap_err().contains("from 1B to 8B"));
        for text in ["64KiB", "8MiB", "1GiB", "1000B"] {
            let bytes = size(text, &range).unwrap();
            assert_eq!(show_size(u64::try_from(bytes).unwrap()), text);
        }
    }

    /// Durations read with units combined or as a bare zero and show the same way.
    #[test]
    fn durations_read_and_show_the_same_way() {
        let range = Duration::ZERO..=Duration::MAX;
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("500ms", 500),
            ("10s", 10_000),
            ("30m", 1_800_000),
            ("1m30s", 90_000),
            ("1h 5m", 3_900_000),
        ] {
            assert_eq!(duration(text, &range), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "10", "s", "-1s", "ten seconds", "1x", "99999999999999999999s"] {
            assert!(duration(bad, &range).is_err(), "{bad}");
        }
        for text in ["500ms", "10s", "30m", "1m30s"] {
            assert_eq!(show_duration(duration(text, &range).unwrap()), text);
        }
    }

    #[test]
    fn numbers_are_digits_in_range() {
        assert_eq!(number("8", &(1..=8)), Ok(8));
        for bad in ["", "0", "9", "+1", "-1", " 1", "1.0", "0x1", "99999999999999999999999"] {
            let expected = "expected a whole number from 1 to 8";
            assert_eq!(number(bad, &(1..=8)).unwrap_err(), expected, "{bad}");
        }
    }
}
