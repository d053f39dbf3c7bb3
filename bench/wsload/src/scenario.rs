//! Scenarios by name: each stands for options of `run`, and typed options take precedence.
//!
//! A preset is put in front of the typed options, and the last of two equal options counts: so a
//! preset can contain nothing that could not be typed, and reports show the outcome.

use std::ffi::OsString;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A kind of load that an operator asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scenario {
    /// 1,000 clients, 128 bytes, 50 messages/s whatever the server does: latency
    Live,
    /// 16 publishers, each as fast as it is answered: throughput, CPU per delivery
    Burst,
    /// One publisher, as fast as it is answered: how long one message takes
    Serial,
    /// 15,000 clients, 8 messages/s: how long a broadcast takes to reach the last one
    Wide,
    /// 18,000 clients and no message: memory per client
    Idle,
    /// Live, while 15,000 others reconnect again and again (see --storm-clients)
    Storm,
    /// 1 KiB, 200 messages/s; 300 of the 1,000 clients never read
    Stall,
    /// Messages of 8 KiB
    Big,
}

impl Scenario {
    /// Its options, as they would be typed.
    pub(crate) fn options(self) -> &'static [&'static str] {
        match self {
            Self::Live => &["--mode=live", "--clients=1000", "--size=128", "--rate=50"],
            Self::Burst => &["--mode=burst", "--clients=1000", "--size=128", "--publishers=16"],
            Self::Serial => &["--mode=burst", "--clients=1000", "--size=128", "--publishers=1"],
            Self::Wide => &[
                "--mode=live",
                "--clients=15000",
                "--size=128",
                // Not 5: receivers that hear nothing for 200 ms, TCP's least retransmission time,
                // acknowledge at once, and every figure would hang on a millisecond.
                "--rate=8",
                "--threads=2",
                "--connect-timeout=120",
            ],
            Self::Idle => {
                &["--mode=idle", "--clients=18000", "--seconds=3", "--connect-timeout=120"]
            }
            Self::Storm => &[
                "--mode=live",
                "--clients=1000",
                "--size=128",
                "--rate=50",
                "--storm-clients=15000",
                "--seconds=20",
            ],
            Self::Stall => &[
                "--mode=live",
                "--clients=1000",
                "--stalled=300",
                "--size=1KiB",
                "--rate=200",
                "--publishers=4",
                "--seconds=60",
            ],
            Self::Big => &["--mode=live", "--clients=1000", "--size=8KiB", "--rate=50"],
        }
    }
}

/// The command line with the options of `run --scenario NAME` in front of the typed ones.
pub(crate) fn expand(typed: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = typed.into_iter().collect();
    if arguments.get(1).is_none_or(|command| command != "run") {
        return arguments;
    }
    let words: Vec<&str> = arguments.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    let named = words.iter().enumerate().rev().find_map(|(at, word)| match *word {
        "--scenario" => words.get(at + 1).copied(),
        _ => word.strip_prefix("--scenario="),
    });
    // A name that is none is told about by the parser.
    if let Some(scenario) = named.and_then(|name| Scenario::from_str(name, false).ok()) {
        arguments.splice(2..2, scenario.options().iter().map(OsString::from));
    }
    arguments
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Mode, RunArgs, RunCommand};

    fn parse(typed: &[&str]) -> Result<RunArgs, clap::Error> {
        let typed = ["wsload", "run"].iter().chain(typed).map(OsString::from);
        Ok(RunCommand::try_parse_from(expand(typed).into_iter().skip(1))?.run)
    }

    #[test]
    fn every_preset_is_a_valid_command_line() {
        for scenario in Scenario::value_variants() {
            let name = scenario.to_possible_value().unwrap().get_name().to_owned();
            let args = parse(&["--scenario", &name]).unwrap();
            args.check().unwrap();
            assert_eq!(args.scenario, Some(*scenario));
            let descriptors = args.descriptors();
            assert!(descriptors < 20_000, "{name} wants {descriptors} descriptors");
        }
    }

    #[test]
    fn typed_options_win_wherever_they_stand() {
        for typed in [
            &["--clients", "7", "--mode", "live", "--scenario", "idle"][..],
            &["--scenario=idle", "--mode=live", "--clients=7"],
        ] {
            let args = parse(typed).unwrap();
            assert_eq!((args.clients, args.mode), (7, Mode::Live));
            assert!((args.seconds.0 - 3.0).abs() < f64::EPSILON, "the rest is the preset's");
        }
        let quiet = parse(&["--scenario", "storm", "--storm-clients", "0"]).unwrap();
        assert_eq!((quiet.storm_clients, quiet.clients), (0, 1000));
    }

    #[test]
    fn several_servers_may_still_be_named() {
        let args = parse(&["--scenario=live", "--server-pid", "1", "--server-pid", "2"]).unwrap();
        assert_eq!(args.server_pid, [1, 2]);
    }

    /// An unknown name is refused together with the names that exist.
    #[test]
    fn an_unknown_name_is_refused_with_the_known() {
        let error = parse(&["--scenario", "calm"]).unwrap_err().to_string();
        assert!(error.contains("calm") && error.contains("storm"), "{error}");
    }
}
