//! The program `wsload`; what it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    wsload::command::main()
}
