//! The command: arguments → configuration → telemetry → bind → run → exit code.
//!
//! This file gives the order of events and nothing else.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use tracing::error;
use wsbcast::{
    clock::Clock,
    config::{self, Config, HealthQuery, Invocation, VERSION},
    health_client,
    server::{Parts, Server, StartError, signals},
    telemetry,
    token::Report,
    upgrade_client::AskUpgrade,
};

/// Could not start, unhealthy, or a bad token.
const EXIT_FAILURE: u8 = 1;

fn main() -> ExitCode {
    signals::prepare();
    let code = match config::parse(std::env::args_os(), std::env::vars_os()) {
        Ok(Invocation::Serve(config)) => serve(*config),
        Ok(Invocation::Health(health)) => check(&health),
        Ok(Invocation::Upgrade(asked)) => upgrade(&asked),
        Ok(Invocation::CheckToken(token)) => report(token.run(Clock::start())),
        Ok(Invocation::CreateToken(token)) => print(&(token.run(Clock::start()) + "\n"), 0),
        Err(stop) => {
            match stop.answer() {
                // A reader who pages through the help may take any time, or be gone.
                Some(answer) => drop(answer.print()),
                None => telemetry::say(stop.to_string()),
            }
            stop.exit_code()
        }
    };
    ExitCode::from(code)
}

fn serve(config: Config) -> u8 {
    // Dropped last: the lines in the queue are written.
    let _log = match telemetry::init(&config.log) {
        Ok(log) => log,
        Err(error) => {
            telemetry::say(format!("wsbcast: {error}\n"));
            return EXIT_FAILURE;
        }
    };
    run(config).map_err(anyhow::Error::from).unwrap_or_else(|error| {
        error!("{error:#}");
        EXIT_FAILURE
    })
}

fn run(config: Config) -> Result<u8, StartError> {
    let parts = Parts::from_env()?;
    let ended = match config.take_over.clone() {
        Some(path) => Server::take_over(config, parts, &path)?,
        None => Server::of(config, parts)?.run_with_os_signals()?,
    };
    Ok(ended.code())
}

fn check(health: &HealthQuery) -> u8 {
    match health_client::check(Clock::start(), &health.targets, &health.host, &health.path) {
        Ok(()) => 0,
        Err(unhealthy) => {
            telemetry::say(format!("wsbcast health: {unhealthy}\n"));
            EXIT_FAILURE
        }
    }
}

fn upgrade(asked: &AskUpgrade) -> u8 {
    let tell = |step: &str| telemetry::say(format!("wsbcast upgrade: {step}\n"));
    match asked.run(VERSION, tell) {
        Ok(done) => print(&(done + "\n"), 0),
        Err(error) => {
            telemetry::say(format!("wsbcast upgrade: {error}\n"));
            error.code()
        }
    }
}

fn report(checked: io::Result<Report>) -> u8 {
    match checked {
        Ok(Report { text, is_good }) => print(&text, if is_good { 0 } else { EXIT_FAILURE }),
        Err(error) => {
            telemetry::say(format!("wsbcast token: {error}\n"));
            EXIT_FAILURE
        }
    }
}

/// Writes an answer to standard output.
fn print(text: &str, code: u8) -> u8 {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => code,
        Err(_) => EXIT_FAILURE,
    }
}
