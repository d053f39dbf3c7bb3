//! The figures of `lab hub`: as JSON for the record, as a table for people.
//!
//! A figure is a name, a number and a unit, so that parts differ only in what they measure.

use std::fmt;

use serde::{Deserialize, Serialize};
use testkit::machine::Machine;

use super::HubArgs;
use crate::compare::figures::Spread;

/// All parts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) wsload: String,
    pub(super) scenario: HubArgs,
    pub(super) machine: Machine,
    pub(super) parts: Vec<Part>,
}

/// The measurements of one process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) figures: Vec<Figure>,
}

/// One number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Figure {
    pub(super) what: String,
    pub(super) value: f64,
    pub(super) unit: String,
}

impl Report {
    /// Without any part yet.
    pub(super) fn new(args: &HubArgs, machine: Machine) -> Self {
        Self {
            wsload: env!("CARGO_PKG_VERSION").to_owned(),
            scenario: args.clone(),
            machine,
            parts: Vec::new(),
        }
    }
}

impl Part {
    /// Without any figure yet.
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), figures: Vec::new() }
    }

    /// Adds a figure.
    pub(super) fn add(&mut self, what: impl Into<String>, value: f64, unit: &str) {
        self.figures.push(Figure { what: what.into(), value, unit: unit.to_owned() });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cpu, cores, .. } = &self.machine;
        write!(f, "the hub alone, no sockets; {cpu}, {cores} cores, one in use")?;
        let figures = self.parts.iter().flat_map(|part| &part.figures);
        let width = figures.map(|figure| figure.what.chars().count()).max().unwrap_or(0);
        for part in &self.parts {
            write!(f, "\n\n{}", part.name)?;
            for Figure { what, value, unit } in &part.figures {
                let digits = if *value < 100.0 && value.fract() != 0.0 { 1 } else { 0 };
                write!(f, "\n  {what:<width$}  {value:>12.digits$} {unit}")?;
            }
        }
        Ok(())
    }
}

/// The middle one; 0 of none.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    Spread::of(values).map_or(0.0, |spread| spread.median)
}

/// The largest.
pub(super) fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// Their mean.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
