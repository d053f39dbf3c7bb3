//! How the tools' command lines speak: numbers and times with bounds, and exit codes.

use std::{process::ExitCode, time::Duration};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{clock, output};

/// Something was lost, refused or left unanswered: the report says what.
pub const EXIT_PROBLEMS: u8 = 3;

/// A length of time as typed: seconds, fractions allowed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seconds(
    /// How many.
    pub f64,
);

impl Seconds {
    /// As a duration.
    pub fn duration(self) -> Duration {
        Duration::from_secs_f64(self.0)
    }

    /// As nanoseconds.
    pub fn ns(self) -> u64 {
        clock::as_ns(self.duration())
    }
}

/// Understands a number between two bounds.
pub fn count(min: i64, max: i64) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync {
    move |text| match text.parse::<i64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(number as usize),
        _ => Err(format!("expected a number from {min} to {max}")),
    }
}

/// Understands a length of time.
pub fn seconds(text: &str) -> Result<Seconds, String> {
    match text.strip_suffix('s').unwrap_or(text).parse::<f64>() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(Seconds(seconds)),
        _ => Err("expected seconds, 0 to 3600".to_owned()),
    }
}

/// A choice as it is typed.
pub fn name_of(choice: &impl ValueEnum) -> String {
    choice.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// How a tool ends: 0 all is well, 3 something is amiss, 1 it could not run.
pub fn exit_code(outcome: anyhow::Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_PROBLEMS),
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_seconds_have_bounds() {
        assert_eq!(count(1, 9)("9"), Ok(9));
        assert!(count(1, 9)("0").is_err() && count(1, 9)("x").is_err());
        assert!(seconds("3601").is_err() && seconds("-1").is_err() && seconds("NaN").is_err());
        assert_eq!(seconds("0.5s").map(|seconds| seconds.0), Ok(0.5));
    }
}
