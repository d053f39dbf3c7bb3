//! Charts with two axes: lines, areas under them, and columns side by side.
//!
//! The order of the series is the order of the colours; a point that is no number interrupts its
//! line. Ranges stand for the spread of repeated measurements.

use std::fmt::Write as _;

use serde_json::json;

use super::{
    Place,
    canvas::{Anchor, Canvas, series_class, text_width},
    scale::{Extent, Scale, Unit, percent_words},
};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
const RIGHT: f64 = 24.0;
/// Below the plot: the ticks' words and the axis's label.
const BOTTOM: f64 = 50.0;
/// With more points than this, dots would be a line of their own.
const DOTS_MAX: usize = 24;

/// An axis.
#[derive(Clone, Debug, Default)]
pub struct Axis {
    /// The quantity, e.g. `deliveries a second`.
    pub label: String,
    /// Of the values along it.
    pub unit: Unit,
    /// How they are spread.
    pub scale: Scale,
}

impl Axis {
    /// An axis.
    pub fn new(label: &str, unit: Unit, scale: Scale) -> Self {
        Self { label: label.to_owned(), unit, scale }
    }

    fn words(&self, value: f64) -> String {
        if self.scale == Scale::Percentile { percent_words(value) } else { self.unit.words(value) }
    }
}

/// A value at a place.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Along the first axis.
    pub x: f64,
    /// Along the second.
    pub y: f64,
    /// Least and greatest of repeated measurements.
    pub range: Option<(f64, f64)>,
}

impl From<(f64, f64)> for Point {
    fn from((x, y): (f64, f64)) -> Self {
        Self { x, y, range: None }
    }
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Look {
    /// A line, with dots if there are few points
    #[default]
    Line,
    /// A line without dots
    Plain,
    /// A line and a wash down to the axis
    Area,
    /// From each point to the next one's place
    Columns,
    /// A grey background between the first and the last point; not in the legend
    Band,
}

/// Points with a name.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// The name in the legend.
    pub name: String,
    /// From left to right.
    pub points: Vec<Point>,
    /// How it is drawn.
    pub look: Look,
}

impl Series {
    /// A line through `points`.
    pub fn line<P: Into<Point>>(name: &str, points: impl IntoIterator<Item = P>) -> Self {
        let points = points.into_iter().map(Into::into).collect();
        Self { name: name.to_owned(), points, look: Look::Line }
    }

    /// The same without dots, however few its points are.
    pub fn without_dots(self) -> Self {
        Self { look: Look::Plain, ..self }
    }
}

/// A chart with two axes.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// The title, which names the quantity.
    pub title: String,
    /// A line of explanation below the title; may be empty.
    pub note: String,
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// The lines, in the order of the legend.
    pub series: Vec<Series>,
}

/// The plot's rectangle and its two extents.
struct Plot {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
    x: Extent,
    y: Extent,
}

impl Plot {
    fn x(&self, value: f64) -> f64 {
        self.left + self.x.place(value) * (self.right - self.left)
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - self.y.place(value) * (self.bottom - self.top)
    }
}

impl Lines {
    /// The chart as an SVG element.
    pub fn svg(&self, place: Place) -> String {
        let mut canvas = Canvas::new(WIDTH, HEIGHT, &self.title);
        let mut top = canvas.heading(&self.title, &self.note);
        let names = || self.series.iter().filter(|series| series.look != Look::Band);
        if names().count() > 1 {
            let names: Vec<&str> = names().map(|series| series.name.as_str()).collect();
            top = canvas.legend(&names, top) + 4.0;
        }
        if !self.y.label.is_empty() {
            canvas.text(16.0, top + 8.0, Anchor::Start, "note", &self.y.label);
            top += 20.0;
        }
        let plot = self.plot(top);
        for band in self.series.iter().filter(|series| series.look == Look::Band) {
            let Plot { top, bottom, .. } = plot;
            let edge = |point: Option<&Point>| plot.x(point.map_or(0.0, |point| point.x));
            let (from, to) = (edge(band.points.first()), edge(band.points.last()));
            canvas.path("band", &format!("M{from:.1} {top:.1}H{to:.1}V{bottom:.1}H{from:.1}Z"));
        }
        self.draw_axes(&mut canvas, &plot);
        for (index, series) in self.series.iter().enumerate() {
            self.draw(&mut canvas, &plot, index, series);
        }
        canvas.hover = self.hover(&plot);
        canvas.finish(place)
    }

    fn plot(&self, top: f64) -> Plot {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let heights = points().flat_map(|point| {
            let (low, high) = point.range.unwrap_or((point.y, point.y));
            [point.y, low, high]
        });
        let y = Extent::of(self.y.scale, self.y.unit, heights, 6, false);
        let widest = y.ticks.iter().map(|(_, words)| text_width(words)).fold(20.0, f64::max);
        let x = Extent::of(self.x.scale, self.x.unit, points().map(|point| point.x), 8, true);
        Plot {
            left: 16.0 + widest + 8.0,
            top: top + 4.0,
            right: WIDTH - RIGHT,
            bottom: HEIGHT - BOTTOM,
            x,
            y,
        }
    }

    fn draw_axes(&self, canvas: &mut Canvas, plot: &Plot) {
        for (value, words) in &plot.y.ticks {
            let y = plot.y(*value);
            canvas.path("grid", &format!("M{:.1} {y:.1}H{:.1}", plot.left, plot.right));
            canvas.text(plot.left - 8.0, y + 4.0, Anchor::End, "tick", words);
        }
        let Plot { left, right, bottom, .. } = plot;
        canvas.path("axis", &format!("M{left:.1} {bottom:.1}H{right:.1}"));
        let mut free_from = f64::NEG_INFINITY;
        for (value, words) in &plot.x.ticks {
            let (x, half) = (plot.x(*value), text_width(words) / 2.0);
            canvas.path("axis", &format!("M{x:.1} {:.1}v4", plot.bottom));
            if x - half > free_from {
                let x = x.min(WIDTH - 8.0 - half);
                canvas.text(x, plot.bottom + 18.0, Anchor::Middle, "tick", words);
                free_from = x + half + 6.0;
            }
        }
        let middle = f64::midpoint(plot.left, plot.right);
        canvas.text(middle, HEIGHT - 12.0, Anchor::Middle, "note", &self.x.label);
    }

    fn draw(&self, canvas: &mut Canvas, plot: &Plot, index: usize, series: &Series) {
        let class = series_class(index);
        match series.look {
            Look::Columns => {
                return canvas.path(&format!("column {class}"), &columns(plot, &series.points));
            }
            Look::Band => return,
            Look::Line | Look::Plain | Look::Area => {}
        }
        for run in series.points.split(|point| !point.y.is_finite()).filter(|run| !run.is_empty()) {
            let mut d = String::new();
            for (at, point) in run.iter().enumerate() {
                let letter = if at == 0 { 'M' } else { 'L' };
                let _ = write!(d, "{letter}{:.1} {:.1}", plot.x(point.x), plot.y(point.y));
            }
            if series.look == Look::Area {
                let (first, last) = (plot.x(run[0].x), plot.x(run[run.len() - 1].x));
                let (floor, area) = (plot.bottom, format!("area {class}"));
                canvas.path(&area, &format!("{d}L{last:.1} {floor:.1}L{first:.1} {floor:.1}Z"));
            }
            canvas.path(&format!("line {class}"), &d);
        }
        for point in series.points.iter().filter(|point| point.y.is_finite()) {
            let x = plot.x(point.x);
            if let Some((low, high)) = point.range {
                let (low, high) = (plot.y(low), plot.y(high));
                let left = x - 4.0;
                let d = format!("M{left:.1} {low:.1}h8m-4 0V{high:.1}m-4 0h8");
                canvas.path("range", &d);
            }
            if series.look == Look::Line && series.points.len() <= DOTS_MAX {
                let tip = format!(
                    "{}: {} at {}",
                    series.name,
                    self.y.words(point.y),
                    self.x.words(point.x)
                );
                canvas.dot(&class, x, plot.y(point.y), &tip);
            }
        }
    }

    /// `[top, bottom, [x, words, [[series, words], …]], …]`, by growing x.
    fn hover(&self, plot: &Plot) -> String {
        let shown = || self.series.iter().filter(|series| series.look != Look::Band);
        let mut places: Vec<f64> =
            shown().flat_map(|series| &series.points).map(|point| point.x).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        let mut cursors = vec![0; self.series.len()];
        let mut found = vec![json!(round(plot.top)), json!(round(plot.bottom))];
        for x in places {
            let mut values = Vec::new();
            for (at, series) in shown().enumerate() {
                while series.points.get(cursors[at]).is_some_and(|point| point.x < x) {
                    cursors[at] += 1;
                }
                let here = series.points.get(cursors[at]).filter(|point| point.x == x);
                if let Some(point) = here.filter(|point| point.y.is_finite()) {
                    values.push(json!([at + 1, series.name, self.y.words(point.y)]));
                }
            }
            found.push(json!([round(plot.x(x)), self.x.words(x), values]));
        }
        json!(found).to_string()
    }
}

fn round(pixels: f64) -> f64 {
    (pixels * 10.0).round() / 10.0
}

/// One path of all columns; the last point only ends the one before it.
fn columns(plot: &Plot, points: &[Point]) -> String {
    let mut d = String::new();
    for pair in points.windows(2).filter(|pair| pair[0].y > 0.0) {
        let (left, right) = (plot.x(pair[0].x), plot.x(pair[1].x));
        let width = (right - left - 1.0).max(0.6);
        let height = (plot.bottom - plot.y(pair[0].y)).max(1.0);
        let _ = write!(d, "M{left:.1} {:.1}v-{height:.1}h{width:.1}v{height:.1}Z", plot.bottom);
    }
    d
}
