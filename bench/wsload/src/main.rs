//! The program `wsload`; its work is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    wsload::command::main()
}
