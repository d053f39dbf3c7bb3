//! From values to pixels and to the words at the axis.
//!
//! A linear axis starts at zero, so that lengths may be compared; a logarithmic one covers the
//! data in whole steps of 1, 2, 5 (or powers of two for bytes). The percentile scale is that of
//! HdrHistogram's plots: each further nine gets the same room.

/// How an axis divides its length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    #[default]
    /// From zero, evenly.
    Linear,
    /// Each decade as wide as the next.
    Log,
    /// Values are quantiles, 0.0 to below 1.0.
    Percentile,
}

/// The unit of values, for the words at an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// A count, or whatever the axis's label says.
    #[default]
    Plain,
    /// Microseconds, shown as they are best read.
    Micros,
    /// Seconds.
    Seconds,
    /// Bytes, in powers of 1024.
    Bytes,
    /// Of a hundred.
    Percent,
}

const KIB: f64 = 1024.0;

impl Unit {
    /// A value in words: `1.5 M`, `20 ms`, `64 KiB`.
    pub fn words(self, value: f64) -> String {
        let steps: &[(f64, &str)] = match self {
            Self::Plain => &[(1e9, " G"), (1e6, " M"), (1e4, " k"), (0.0, "")],
            Self::Micros => &[(1e6, " s"), (1e3, " ms"), (0.0, " µs")],
            Self::Seconds => &[(0.0, " s")],
            Self::Bytes => {
                &[(KIB * KIB * KIB, " GiB"), (KIB * KIB, " MiB"), (KIB, " KiB"), (0.0, " B")]
            }
            Self::Percent => &[(0.0, " %")],
        };
        let found = steps.iter().find(|(from, _)| value.abs() >= *from);
        let (from, suffix) = *found.unwrap_or(&(0.0, ""));
        // 10 k, but 9,000: the thousands' own step begins late.
        let by = if from == 1e4 {
            1e3
        } else if from == 0.0 {
            1.0
        } else {
            from
        };
        let suffix = if value == 0.0 && self != Self::Percent { "" } else { suffix };
        format!("{}{suffix}", digits(value / by))
    }

    fn is_binary(self) -> bool {
        self == Self::Bytes
    }
}

/// Three digits, no trailing zeros, thousands apart.
fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        size if size < 0.1 => 3,
        size if size < 10.0 => 2,
        size if size < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    match text.len() {
        4.. if decimals == 0 && value >= 1000.0 => {
            let (head, tail) = text.split_at(text.len() - 3);
            format!("{head},{tail}")
        }
        _ => text.to_owned(),
    }
}

/// An axis with its data's extent.
#[derive(Clone, Debug)]
pub(super) struct Extent {
    scale: Scale,
    /// After the scale's own mapping.
    from: f64,
    to: f64,
    /// Marked values, with their words.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Extent {
    /// Covers `values`; `ticks_max` is a wish.
    pub(super) fn of(
        scale: Scale,
        unit: Unit,
        values: impl Iterator<Item = f64>,
        ticks_max: usize,
        is_tight: bool,
    ) -> Self {
        let is_drawn = |value: &f64| value.is_finite() && (scale != Scale::Log || *value > 0.0);
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(is_drawn) {
            (min, max) = (min.min(value), max.max(value));
        }
        if min > max {
            (min, max) = if scale == Scale::Log { (1.0, 10.0) } else { (0.0, 0.9) };
        }
        match scale {
            Scale::Linear => Self::linear(unit, min.min(0.0), max, ticks_max, is_tight),
            Scale::Log => Self::log(unit, min, max, ticks_max, is_tight),
            Scale::Percentile => Self::percentile(max),
        }
    }

    fn linear(unit: Unit, min: f64, max: f64, ticks_max: usize, is_tight: bool) -> Self {
        let span = if max > min { max - min } else { 1.0 };
        let step = nice_step(span / ticks_max.max(1) as f64, unit);
        let last = if is_tight { (max / step).floor() } else { (max / step).ceil().max(1.0) };
        let first = (min / step).floor();
        let count = (last - first) as usize;
        let ticks: Vec<_> = (0..=count)
            .map(|i| (first + i as f64) * step)
            .map(|value| (value, unit.words(value)))
            .collect();
        let to = if is_tight { min + span } else { last * step };
        Self { scale: Scale::Linear, from: first * step, to, ticks }
    }

    fn log(unit: Unit, min: f64, max: f64, ticks_max: usize, is_tight: bool) -> Self {
        let marks = if unit.is_binary() { powers_of_two() } else { one_two_five() };
        // The last mark at or below the data, the first at or above it.
        let first = marks.iter().rposition(|mark| *mark <= min * 1.0001).unwrap_or(0);
        let last = marks.iter().position(|mark| *mark >= max * 0.9999).unwrap_or(marks.len() - 1);
        let last = last.max(first + 1).min(marks.len() - 1);
        let count = last - first + 1;
        // Whole decades if marks would crowd, else every mark.
        let every = if unit.is_binary() { count.div_ceil(ticks_max.max(2)) } else { 3 };
        let is_crowded = count > ticks_max;
        let ticks = (first..=last)
            .filter(|at| !is_crowded || at % every == 0)
            .map(|at| (marks[at], unit.words(marks[at])))
            .filter(|(mark, _)| !is_tight || (*mark >= min * 0.999 && *mark <= max * 1.001))
            .collect();
        let (from, to) =
            if is_tight && max > min { (min, max) } else { (marks[first], marks[last]) };
        Self { scale: Scale::Log, from: from.log10(), to: to.log10(), ticks }
    }

    fn percentile(max: f64) -> Self {
        let to = nines(max.clamp(0.9, 0.999_999_9));
        let ticks = [0.0, 0.5, 0.9, 0.99, 0.999, 0.999_9, 0.999_99, 0.999_999, 0.999_999_9]
            .into_iter()
            .filter(|quantile| nines(*quantile) <= to + 1e-9)
            .map(|quantile| (quantile, percent_words(quantile)))
            .collect();
        Self { scale: Scale::Percentile, from: 0.0, to, ticks }
    }

    /// The part of the axis, 0.0 to 1.0, at which `value` stands.
    pub(super) fn place(&self, value: f64) -> f64 {
        let mapped = match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
            Scale::Percentile => nines(value),
        };
        ((mapped - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }
}

/// A quantile as a percentile without noise: `99.9 %`.
pub(super) fn percent_words(quantile: f64) -> String {
    let percent = format!("{:.5}", quantile * 100.0);
    format!("{} %", percent.trim_end_matches('0').trim_end_matches('.'))
}

fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile.clamp(0.0, 0.999_999_999)).log10()
}

fn one_two_five() -> Vec<f64> {
    (-9..=15).flat_map(|power| [1.0, 2.0, 5.0].map(|mark| mark * 10_f64.powi(power))).collect()
}

fn powers_of_two() -> Vec<f64> {
    (0..=50).map(|power| 2_f64.powi(power)).collect()
}

/// At least `step`, round in the unit.
fn nice_step(step: f64, unit: Unit) -> f64 {
    if unit.is_binary() && step > 1.0 {
        return 2_f64.powf(step.log2().ceil());
    }
    let power = 10_f64.powf(step.log10().floor());
    let nice = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|nice| nice * power >= step * 0.999_999);
    nice.unwrap_or(10.0) * power
}
