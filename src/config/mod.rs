//! From the command line and the environment to a [`Config`] that cannot be wrong.
//!
//! There are two stages: `args` holds the typed text; `check` turns it into a [`Config`] and
//! gathers every bad value on the way, so that an operator can correct them all at once.
//! `environment` adds `WSBCAST_*` variables below the flags. Argument list and environment come in
//! as values: nothing here reads those of the process. No lower module may import this one; the
//! server hands each its part.

mod address;
mod addresses;
mod args;
mod check;
mod checker;
mod credentials;
mod environment;
mod health;
mod history;
mod listen;
mod origins;
mod problems;
mod proxies;
mod redis_tls;
mod rights;
mod secret_file;
mod secrets;
mod sources;
mod tls;
mod tokens;
mod upgrade;
mod valid;
mod values;
mod version;

use std::ffi::OsString;

pub use listen::{ListenAddr, Listening, OpenToStrangers};
pub use problems::{BadValue, BadValues, Stop};
pub use secrets::{RedisUrl, Token};
pub use sources::{SecretSources, Secrets};
pub use valid::{Compression, Config, HealthQuery, Invocation, Notify, Ping, RedisConfig};
pub use version::{COMMIT, VERSION};

/// Reads a command line (the program's name first) and environment variables.
///
/// # Errors
/// When there is nothing to run: help or version was requested, the command line is not valid, or
/// values are bad; [`Stop`] has the text to print and the exit code.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Invocation, Stop> {
    let typed = environment::read(arguments.into_iter().collect(), variables)?;
    match &typed.args.command {
        Some(args::Subcommand::Health(options)) => {
            let mut checker = checker::Checker::new(typed.variables, typed.problems);
            Ok(Invocation::Health(health::check(&mut checker, options)?))
        }
        Some(args::Subcommand::Upgrade(options)) => {
            let mut checker = checker::Checker::new(typed.variables, typed.problems);
            Ok(Invocation::Upgrade(upgrade::to_ask(&mut checker, options)?))
        }
        Some(args::Subcommand::Token(command)) => {
            let mut checker = checker::Checker::new(typed.variables, typed.problems);
            Ok(match command {
                args::TokenCommand::Check(options) => {
                    Invocation::CheckToken(tokens::to_check(&mut checker, options)?)
                }
                args::TokenCommand::Create(options) => {
                    Invocation::CreateToken(tokens::to_create(&mut checker, options)?)
                }
            })
        }
        None => Ok(Invocation::Serve(Box::new(check::config(typed)?))),
    }
}

#[cfg(test)]
mod tests;
