//! The only place of the tools that prints: results to standard output, remarks to standard error.
//!
//! Results may be piped into another program, so nothing else may write to standard output.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is this module's job")]

use std::path::Path;

/// A result.
pub fn line(text: &str) {
    println!("{text}");
}

/// A remark for the person who watches.
pub fn remark(text: &str) {
    eprintln!("{}: {text}", program());
}

/// Why the command could not be carried out, with all causes.
pub fn error(error: &anyhow::Error) {
    remark(&format!("{error:#}"));
}

fn program() -> String {
    let path = std::env::args_os().next().unwrap_or_default();
    Path::new(&path).file_name().unwrap_or_default().to_string_lossy().into_owned()
}
