//! The points of a sweep: `VALUE=RUN ARGUMENTS`, and where a value stands on the axis.

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use wsload::chart::Unit;

/// A place on the axis, and how a run gets there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Point {
    /// As typed: `1000`, `64KiB`, `4ms`.
    pub(super) value: String,
    pub(super) arguments: Vec<String>,
}

/// Units that a value may end in: what to multiply with, and what the axis shows.
const UNITS: &[(&str, f64, Unit)] = &[
    ("MiB", 1024.0 * 1024.0, Unit::Bytes),
    ("KiB", 1024.0, Unit::Bytes),
    ("B", 1.0, Unit::Bytes),
    ("ms", 1e3, Unit::Micros),
    ("", 1.0, Unit::Plain),
];

/// Understands every `--point`.
pub(super) fn parse(typed: &[String]) -> Result<Vec<Point>> {
    let mut points: Vec<Point> = Vec::new();
    for text in typed {
        let (value, arguments) =
            text.split_once('=').with_context(|| format!("--point {text:?}: VALUE=ARGUMENTS"))?;
        let arguments = arguments.split_whitespace().map(str::to_owned).collect();
        let point = Point { value: value.to_owned(), arguments };
        ensure!(point.place().is_some(), "--point {text:?}: {value:?} has no place on an axis");
        ensure!(points.iter().all(|other| other.value != value), "--point {value} comes twice");
        points.push(point);
    }
    Ok(points)
}

impl Point {
    /// Its number in the unit's base, and the unit.
    pub(super) fn place(&self) -> Option<(f64, Unit)> {
        let (digits, by, unit) = UNITS
            .iter()
            .find_map(|(suffix, by, unit)| Some((self.value.strip_suffix(suffix)?, by, unit)))?;
        let number = digits.parse::<f64>().ok().filter(|number| *number >= 0.0)?;
        number.is_finite().then_some((number * by, *unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(text: &str) -> Result<Point> {
        Ok(parse(&[text.to_owned()])?.remove(0))
    }

    #[test]
    fn a_point_is_a_place_and_arguments() {
        let point = point("64KiB=--size 64KiB --rate 5").unwrap();
        assert_eq!(point.arguments, ["--size", "64KiB", "--rate", "5"]);
        assert_eq!(point.place(), Some((65_536.0, Unit::Bytes)));
    }

    #[test]
    fn values_have_units() {
        let place = |text: &str| point(&format!("{text}=")).unwrap().place().unwrap();
        assert_eq!(place("16B"), (16.0, Unit::Bytes));
        assert_eq!(place("4ms"), (4000.0, Unit::Micros));
        assert_eq!(place("0ms"), (0.0, Unit::Micros));
        assert_eq!(place("19000"), (19_000.0, Unit::Plain));
        for wrong in ["x", "", "-1", "inf", "NaN", "1kB"] {
            assert!(point(&format!("{wrong}=")).is_err(), "{wrong}");
        }
        assert!(point("7").is_err());
        assert!(parse(&["1=a", "1=b"].map(str::to_owned)).is_err());
    }
}
