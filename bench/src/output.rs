//! The only place that prints: results to standard output, remarks to standard error.
//!
//! Results may be piped into another program, so nothing else may write to standard output.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is this module's job")]

/// A result.
pub(crate) fn line(text: &str) {
    println!("{text}");
}

/// A remark for whoever watches.
pub(crate) fn remark(text: &str) {
    eprintln!("wsload: {text}");
}

/// Why the command could not be carried out, with all causes.
pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("wsload: {error:#}");
}
