//! The sizes of logs, sorted so that the largest is found without a look at all of them: pure.
//!
//! Logs are filed in classes, four to a doubling; logs of one class count as equally large. A log
//! changes its class when it gets or loses a chunk, so a publication costs one comparison here.

/// The parts of a log that may be freed; the last variant is freed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stock {
    /// The newest message: only when everything else has been freed.
    Newest,
    /// Chunks that the newest message does not need.
    Old,
    /// A chunk kept for the next messages: all clients have read everything in it.
    Spare,
}

/// Classes of one kind of stock.
const CLASSES: usize = 4 * usize::BITS as usize;

/// The class of every log.
///
/// # Invariants
/// A log with a class is in that class' list once, at the index that is noted.
#[derive(Debug)]
pub(super) struct LogSizes {
    classes: Vec<Vec<u32>>,
    /// The class and index of each log, by the log's number.
    places: Vec<Option<(usize, usize)>>,
}

impl Default for LogSizes {
    fn default() -> Self {
        Self { classes: vec![Vec::new(); 3 * CLASSES], places: Vec::new() }
    }
}

impl LogSizes {
    /// Files a log by the stock that may be freed, `bytes` being not 0; None: nothing may be freed.
    pub(super) fn file(&mut self, log: u32, stock: Option<(Stock, usize)>) {
        let number = log as usize;
        if self.places.len() <= number {
            self.places.resize(number + 1, None);
        }
        let class = stock.map(|(stock, bytes)| class(stock, bytes));
        let before = self.places[number];
        if before.map(|(class, _)| class) == class {
            return;
        }
        if let Some((class, place)) = before {
            self.classes[class].swap_remove(place);
            if let Some(&moved) = self.classes[class].get(place) {
                self.places[moved as usize] = Some((class, place));
            }
        }
        self.places[number] = class.map(|class| {
            self.classes[class].push(log);
            (class, self.classes[class].len() - 1)
        });
    }

    /// One of the largest logs of those whose stock is freed first.
    pub(super) fn next_to_go(&self) -> Option<(Stock, u32)> {
        let class = self.classes.iter().rposition(|class| !class.is_empty())?;
        let stock = [Stock::Newest, Stock::Old, Stock::Spare][class / CLASSES];
        self.classes[class].last().map(|&log| (stock, log))
    }

    /// Panics unless `log` is filed under this stock.
    #[cfg(test)]
    pub(super) fn check(&self, log: u32, stock: Option<(Stock, usize)>) {
        let place = self.places.get(log as usize).copied().flatten();
        assert_eq!(place.map(|(class, _)| class), stock.map(|(stock, bytes)| class(stock, bytes)));
        assert!(place.is_none_or(|(class, at)| self.classes[class][at] == log), "filed there");
    }

    /// How many logs are filed.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.classes.iter().map(Vec::len).sum()
    }
}

fn class(stock: Stock, bytes: usize) -> usize {
    let power = bytes.max(1).ilog2() as usize;
    // The two bits after the leading one.
    let quarter = if power < 2 { 0 } else { bytes >> (power - 2) & 3 };
    stock as usize * CLASSES + 4 * power + quarter
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// The next log to be cut is of the first kind and nearly the largest, however logs change.
    #[test]
    fn the_largest_of_the_first_kind_goes_next() {
        let mut random = fastrand::Rng::with_seed(3);
        let (mut sizes, mut model) = (LogSizes::default(), HashMap::new());
        for round in 0..20_000 {
            let log = random.u32(0..50);
            let stock = match random.u8(0..8) {
                0 => Some(Stock::Spare),
                1..=3 => Some(Stock::Old),
                4..=6 => Some(Stock::Newest),
                _ => None,
            };
            // All sizes, and many that are nearly the same.
            let most = if round % 2 == 0 { 8 << random.u32(0..37) } else { 16 };
            let stock = stock.map(|stock| (stock, random.usize(4..most)));
            sizes.file(log, stock);
            model.insert(log, stock);
            model.iter().for_each(|(&log, &stock)| sizes.check(log, stock));
            let most = model.values().copied().flatten().max();
            let found = sizes.next_to_go();
            let found = found.map(|(stock, log)| (stock, model[&log].expect("it is filed").1));
            assert_eq!(found.map(|found| found.0), most.map(|most| most.0));
            let is_large =
                |(found, most): ((_, usize), (_, usize))| found.1 + found.1 / 4 >= most.1;
            assert!(found.zip(most).is_none_or(is_large), "{found:?} {most:?}");
            assert_eq!(sizes.len(), model.values().flatten().count());
        }
    }
}
