//! Horizontal bars: one figure of several things, with the range of repeated measurements.
//!
//! Names stand at the left, where long ones have room, and every bar says its value, so that the
//! picture can be read without its axis. Lengths start at zero.

use super::{
    Place,
    canvas::{Anchor, Canvas, series_class, text_width},
    scale::{Extent, Scale, Unit},
};

const WIDTH: f64 = 720.0;
const ROW: f64 = 30.0;
const BAR: f64 = 18.0;
/// Between groups.
const GAP: f64 = 14.0;
const CORNER: f64 = 4.0;

/// One bar.
#[derive(Clone, Debug, Default)]
pub struct Bar {
    /// The bar's label.
    pub name: String,
    /// Its length.
    pub value: f64,
    /// Least and greatest of repeated measurements.
    pub range: Option<(f64, f64)>,
    /// Which colour; bars of one thing in several groups share theirs.
    pub series: usize,
}

/// Bars below each other.
#[derive(Clone, Debug, Default)]
pub struct Bars {
    /// The title, which names the quantity.
    pub title: String,
    /// A line of explanation below the title; may be empty.
    pub note: String,
    /// Of the values.
    pub unit: Unit,
    /// Heading of each group (may be empty) and its bars.
    pub groups: Vec<(String, Vec<Bar>)>,
}

impl Bars {
    /// The chart as an SVG element.
    pub fn svg(&self, place: Place) -> String {
        let bars = || self.groups.iter().flat_map(|(_, bars)| bars);
        let mut canvas = Canvas::new(WIDTH, 0.0, &self.title);
        let mut y = canvas.heading(&self.title, &self.note);
        let widest = bars().map(|bar| text_width(&bar.name)).fold(40.0, f64::max);
        let left = 16.0 + widest.min(WIDTH / 3.0) + 10.0;
        let words: Vec<f64> = bars().map(|bar| text_width(&self.words(bar))).collect();
        let right = WIDTH - 16.0 - 12.0 - words.into_iter().fold(40.0, f64::max);
        let values = bars().flat_map(|bar| [bar.value, bar.range.map_or(0.0, |(_, high)| high)]);
        let extent = Extent::of(Scale::Linear, self.unit, values, 5, true);
        let top = y;
        for (index, (heading, bars)) in self.groups.iter().enumerate() {
            if index > 0 {
                y += GAP;
            }
            if !heading.is_empty() {
                canvas.text(16.0, y + 12.0, Anchor::Start, "label", heading);
                y += 20.0;
            }
            for bar in bars {
                let x = |value: f64| left + extent.place(value) * (right - left);
                self.draw(&mut canvas, bar, left, y, x);
                y += ROW;
            }
        }
        canvas.path("axis", &format!("M{left:.1} {top:.1}V{y:.1}"));
        canvas.height = y + 12.0;
        canvas.finish(place)
    }

    fn draw(&self, canvas: &mut Canvas, bar: &Bar, left: f64, y: f64, x: impl Fn(f64) -> f64) {
        let middle = y + ROW / 2.0;
        canvas.text(left - 10.0, middle + 4.0, Anchor::End, "value", &bar.name);
        let end = x(bar.value);
        let (from, height) = (middle - BAR / 2.0, BAR - 2.0 * CORNER);
        let flat = (end - left - CORNER).max(0.0);
        // Square at the axis, round at the data's end.
        let d = format!(
            "M{left:.1} {from:.1}h{flat:.1}q{CORNER} 0 {CORNER} {CORNER}v{height:.1}\
             q0 {CORNER} -{CORNER} {CORNER}h-{flat:.1}Z"
        );
        canvas.path(&format!("bar {}", series_class(bar.series)), &d);
        let mut words_at = end;
        if let Some((low, high)) = bar.range {
            let (low, high) = (x(low), x(high));
            let whisker = format!("M{low:.1} {:.1}v8m0 -4H{high:.1}m0 -4v8", middle - 4.0);
            canvas.path("range", &whisker);
            words_at = words_at.max(high);
        }
        canvas.text(words_at + 10.0, middle + 4.0, Anchor::Start, "value", &self.words(bar));
    }

    fn words(&self, bar: &Bar) -> String {
        self.unit.words(bar.value)
    }
}
