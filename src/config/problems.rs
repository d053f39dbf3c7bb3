//! The errors of a command line, reported all at once.
//!
//! A [`BadValue`] names the option, the value and what would be accepted; secrets are hidden before
//! they get here. [`Stop`] is every way in which reading the options ends without a server, with
//! its exit code; ending the process is left to `main`.

use std::fmt;

use thiserror::Error;

/// The one argument that is not an option: the URL for `health`.
pub(super) const URL: &str = "URL";

/// One value that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadValue {
    /// The option, without dashes, or the word for the argument of `health`.
    pub option: String,
    /// The value as given, or a placeholder for a secret.
    pub value: String,
    /// The environment variable it came from; `None`: typed, or a default.
    pub variable: Option<String>,
    /// The values that would be accepted, or the option it conflicts with.
    pub reason: String,
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dashes = if self.option == URL { "" } else { "--" };
        write!(f, "{dashes}{} {:?}", self.option, self.value)?;
        if let Some(variable) = &self.variable {
            write!(f, " (from {variable})")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// All values of one command line that are not accepted; never empty.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub struct BadValues(pub Vec<BadValue>);

impl BadValues {
    /// All of them, in one line for the log.
    #[must_use]
    pub fn lines(&self) -> String {
        self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }
}

impl fmt::Display for BadValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "" } else { "s" };
        writeln!(f, "error: {} bad value{plural}", self.0.len())?;
        for bad in &self.0 {
            writeln!(f, "  {bad}")?;
        }
        f.write_str("\nFor more information, try 'wsbcast --help'.\n")
    }
}

/// Why there is nothing to run.
#[derive(Debug, Error)]
pub enum Stop {
    /// Help, version, or a line that is not valid (an unknown option, say).
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
    /// Values that are not accepted.
    #[error(transparent)]
    BadValues(#[from] BadValues),
}

impl Stop {
    /// 0 for help and version, else 2.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.answer().is_none() { EXIT_BAD_OPTIONS } else { 0 }
    }

    /// Help or version, if requested, which prints itself to standard output. Everything else is
    /// text for standard error.
    #[must_use]
    pub fn answer(&self) -> Option<&clap::Error> {
        match self {
            Self::CommandLine(answer) if !answer.use_stderr() => Some(answer),
            Self::CommandLine(_) | Self::BadValues(_) => None,
        }
    }
}

const EXIT_BAD_OPTIONS: u8 = 2;
