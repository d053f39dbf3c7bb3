//! Charts as SVG text: for the documentation, where they stand alone, and for the HTML report.
//!
//! Own writer, since a chart here is a few axes and paths, and a plotting crate would draw fixed
//! colours: these follow the reader's light or dark mode by CSS variables. All text is escaped;
//! nothing is loaded from anywhere. Values and functions only: no IO, no clock.

mod bars;
mod canvas;
mod lines;
mod scale;

pub use self::{
    bars::{Bar, Bars},
    canvas::{Place, STYLE, escape},
    lines::{Axis, Lines, Look, Point, Series},
    scale::{Scale, Unit},
};

#[cfg(test)]
mod tests;
