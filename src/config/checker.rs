//! Gathers the bad values while the pass over the options continues.
//!
//! Each method checks one value by itself and returns it, or records it and returns a stand-in of
//! the same type. Relations between options are not checked here.

use std::{collections::HashMap, fmt::Display, ops::RangeInclusive, time::Duration};

use super::{
    BadValue, BadValues,
    values::{self, Expected, OptionWord, show_size},
};

/// Every bad value so far.
pub(super) struct Checker {
    variables: HashMap<String, String>,
    problems: Vec<BadValue>,
    warnings: Vec<String>,
    reads_again: bool,
}

impl Checker {
    pub(super) fn new(variables: HashMap<String, String>, problems: Vec<BadValue>) -> Self {
        Self { variables, problems, warnings: Vec::new(), reads_again: false }
    }

    /// One for files that were read before, by a server that runs.
    pub(super) fn of_files_again() -> Self {
        Self { reads_again: true, ..Self::new(HashMap::new(), Vec::new()) }
    }

    /// Whether files are read that were read before.
    pub(super) fn reads_again(&self) -> bool {
        self.reads_again
    }

    /// Records that `value` is not accepted.
    pub(super) fn refuse(&mut self, option: &str, value: impl Display, reason: impl Display) {
        self.problems.push(BadValue {
            option: option.to_owned(),
            value: value.to_string(),
            variable: self.variables.get(option).cloned(),
            reason: reason.to_string(),
        });
    }

    /// Whether `option`, which has a value, was typed and does not come from a variable.
    pub(super) fn is_typed(&self, option: &str) -> bool {
        !self.variables.contains_key(option)
    }

    /// Records a value that is accepted and should not stay so.
    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// The warnings so far.
    pub(super) fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Whether none of `options` was refused.
    pub(super) fn are_good(&self, options: &[&str]) -> bool {
        !self.problems.iter().any(|bad| options.contains(&bad.option.as_str()))
    }

    pub(super) fn number(&mut self, option: &str, text: &str, range: RangeInclusive<u64>) -> usize {
        let value = values::number(text, &range).and_then(|value| {
            usize::try_from(value).map_err(|_| "too large for this machine".to_owned())
        });
        self.take(option, text, value, 1)
    }

    pub(super) fn size(&mut self, option: &str, text: &str, range: RangeInclusive<u64>) -> usize {
        self.take(option, text, values::size(text, &range), 0)
    }

    pub(super) fn duration(
        &mut self,
        option: &str,
        text: &str,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let stand_in = *range.start();
        self.take(option, text, values::duration(text, &range), stand_in)
    }

    pub(super) fn word<T: OptionWord>(&mut self, option: &str, text: &str) -> T {
        self.take(option, text, values::word(text), T::WORDS[0].1)
    }

    /// A text of our own that is sent as one message.
    pub(super) fn text_fits(&mut self, option: &str, text: &str, bytes_max: usize) {
        if self.are_good(&["max-broadcast-size"]) && text.len() > bytes_max {
            let most = show_size(bytes_max as u64);
            let value = format!("({} bytes)", text.len());
            self.refuse(option, value, format!("at most {most}, by --max-broadcast-size"));
        }
    }

    fn take<T>(&mut self, option: &str, text: &str, value: Result<T, Expected>, stand_in: T) -> T {
        value.unwrap_or_else(|expected| {
            self.refuse(option, text, expected);
            stand_in
        })
    }

    /// Ends the pass.
    pub(super) fn finish(&mut self) -> Result<(), BadValues> {
        let problems = std::mem::take(&mut self.problems);
        if problems.is_empty() { Ok(()) } else { Err(BadValues(problems)) }
    }
}
