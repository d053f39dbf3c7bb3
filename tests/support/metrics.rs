//! Reads `/metrics`: the Prometheus text, as a scraper would.

use std::{collections::BTreeMap, net::SocketAddr};

use super::http;

/// One scrape.
#[derive(Debug)]
pub(crate) struct Metrics {
    text: String,
}

impl Metrics {
    /// Scrapes the server at `addr`.
    #[track_caller]
    pub(crate) fn of(addr: SocketAddr) -> Self {
        let response = http::get(addr, "/metrics");
        response.assert_status(200);
        Self { text: response.text() }
    }

    /// The text as it came.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The names of all metrics, from their TYPE lines.
    pub(crate) fn names(&self) -> Vec<&str> {
        let types = self.text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        types.filter_map(|rest| rest.split(' ').next()).collect()
    }

    /// The sum of all series of `name` whose labels contain each of `labels`
    /// (`reason="draining"`); 0 if there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let chosen =
            self.series(name).filter(|(l, _)| labels.iter().all(|label| l.contains(label)));
        chosen.map(|(_, value)| value).sum()
    }

    /// The value of each shard's series of `name`.
    pub(crate) fn values_by_shard(&self, name: &str) -> BTreeMap<String, f64> {
        let mut values = BTreeMap::new();
        for (labels, value) in self.series(name) {
            let shard = labels.split("shard=\"").nth(1).and_then(|rest| rest.split('"').next());
            if let Some(shard) = shard {
                *values.entry(shard.to_owned()).or_default() += value;
            }
        }
        values
    }

    /// Labels and value of each series of `name`.
    pub(crate) fn series<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.text.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((labels, value.trim().parse().expect("a value is a number")))
        })
    }
}

/// The sum of a metric's series at the server at `addr`.
#[track_caller]
pub(crate) fn metric(addr: SocketAddr, name: &str, labels: &[&str]) -> f64 {
    Metrics::of(addr).sum(name, labels)
}
