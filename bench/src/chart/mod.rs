//! Charts as SVG text: for the documentation, where they stand alone, and for the HTML report.
//!
//! Own writer, since a chart here is a few axes and paths, and a plotting crate would draw fixed
//! colours: these follow the reader's light or dark mode by CSS variables. All text is escaped;
//! nothing is loaded from anywhere. Values and functions only: no IO, no clock.

mod bars;
mod canvas;
mod lines;
mod scale;

pub(crate) use self::{
    bars::{Bar, Bars},
    canvas::{STYLE, escape},
    lines::{Axis, Lines, Look, Point, Series},
    scale::{Scale, Unit},
};

/// Where a chart will stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A file of its own, with its colours and a background.
    #[allow(dead_code, reason = "charts of sweeps and records are files")]
    File,
    /// Inside a page that has [`STYLE`].
    Page,
}

#[cfg(test)]
mod tests;
