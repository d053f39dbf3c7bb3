//! The sheet a chart is drawn on: SVG elements as text, with classes instead of colours.
//!
//! Coordinates are pixels of the view box with one decimal, so that files stay small and diffs
//! of committed charts readable. Text goes through [`escape`] here and nowhere else.

use std::fmt::Write as _;

/// Where a chart will stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file of its own, with its colours and a background.
    File,
    /// Inside a page that has [`STYLE`].
    Page,
}

/// Colours and sizes of all charts; the series' colours are told apart by colour-blind readers
/// too, in this order.
pub const STYLE: &str = include_str!("chart.css");

/// Colours before they repeat, dashed.
const COLOURS: usize = 8;

/// Width of a letter of the small text, near enough for layout.
const LETTER_WIDTH: f64 = 6.9;

/// Room for `text` in the small size.
pub(super) fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * LETTER_WIDTH
}

/// Text for the content of an element or the value of an attribute, in XML and HTML alike.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(' '),
            // XML has no way to write these.
            '\u{fffe}' | '\u{ffff}' => {}
            _ if letter.is_control() => {}
            _ => escaped.push(letter),
        }
    }
    escaped
}

/// The classes that give an element the colour of series number `index`.
pub(super) fn series_class(index: usize) -> String {
    let dashed = if (index / COLOURS) % 2 == 1 { " dashed" } else { "" };
    format!("s{}{dashed}", index % COLOURS + 1)
}

/// Where a text's coordinates point to.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A sheet.
pub(super) struct Canvas {
    pub(super) width: f64,
    pub(super) height: f64,
    /// The description for screen readers.
    label: String,
    /// Attribute `data-hover`: what the page's script shows under the pointer.
    pub(super) hover: String,
    body: String,
}

impl Canvas {
    /// An empty sheet.
    pub(super) fn new(width: f64, height: f64, label: &str) -> Self {
        let label = label.to_owned();
        Self { width, height, label, hover: String::new(), body: String::new() }
    }

    /// A title and, below it, a line of explanation; returns where the next thing may begin.
    pub(super) fn heading(&mut self, title: &str, note: &str) -> f64 {
        let mut y = 12.0;
        for (text, class, height) in [(title, "title", 18.0), (note, "note", 18.0)] {
            if !text.is_empty() {
                y += height;
                self.text(16.0, y, Anchor::Start, class, text);
            }
        }
        y + 12.0
    }

    /// Swatches and names in rows; returns where the next thing may begin.
    pub(super) fn legend(&mut self, names: &[&str], mut y: f64) -> f64 {
        let mut x = 16.0;
        for (index, name) in names.iter().enumerate() {
            let width = text_width(name) + 34.0;
            if x + width > self.width && x > 16.0 {
                (x, y) = (16.0, y + 20.0);
            }
            let class = format!("line {}", series_class(index));
            self.path(&class, &format!("M{x:.1} {:.1}h16", y + 4.0));
            self.text(x + 22.0, y + 8.0, Anchor::Start, "label", name);
            x += width + 6.0;
        }
        y + 20.0
    }

    /// A text.
    pub(super) fn text(&mut self, x: f64, y: f64, anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " mid",
            Anchor::End => " end",
        };
        let text = escape(text);
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}{anchor}\">{text}</text>"
        );
    }

    /// A path, ready-made.
    pub(super) fn path(&mut self, class: &str, d: &str) {
        let _ = writeln!(self.body, "<path class=\"{class}\" d=\"{d}\"/>");
    }

    /// A dot with a ring in the background's colour, so that dots on lines stay apart.
    pub(super) fn dot(&mut self, class: &str, x: f64, y: f64, tip: &str) {
        let tip = escape(tip);
        let _ = writeln!(
            self.body,
            "<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\">\
             <title>{tip}</title></circle>"
        );
    }

    /// The whole element.
    pub(super) fn finish(self, place: Place) -> String {
        let Self { width, height, label, hover, body } = self;
        let label = escape(&label);
        let hover = match (place, hover.as_str()) {
            (Place::File, _) | (_, "") => String::new(),
            (Place::Page, hover) => format!(" data-hover=\"{}\"", escape(hover)),
        };
        // HTML knows what an svg element is.
        let (namespace, style, card) = match place {
            Place::Page => ("", String::new(), String::new()),
            Place::File => (
                " xmlns=\"http://www.w3.org/2000/svg\"",
                format!("<style>\n{STYLE}</style>\n"),
                format!(
                    "<rect class=\"card\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" \
                     rx=\"8\"/>\n",
                    width - 1.0,
                    height - 1.0
                ),
            ),
        };
        format!(
            "<svg{namespace} class=\"chart\" viewBox=\"0 0 {width} \
             {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" \
             aria-label=\"{label}\"{hover}>\n{style}{card}{body}</svg>\n"
        )
    }
}
