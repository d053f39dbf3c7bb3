//! Adds environment variables to the typed options: flag > environment > default.
//!
//! Every option's variable follows from its name, so none can be forgotten. A variable whose option
//! was not typed becomes a typed option (`--name=value`) and is treated like one from there; its
//! origin is kept for error messages. Unknown variables are ignored: Kubernetes injects `WSBCAST_*`
//! of its own.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
};

use clap::{ArgAction, CommandFactory, FromArgMatches, parser::ValueSource};

use super::{args::Arguments, problems::BadValue, values};

/// Variables known from other programs that are read when ours is not set.
const FALLBACKS: [(&str, &str); 2] = [("redis-url", "REDIS_URL"), ("log-level", "RUST_LOG")];

/// Options whose empty variable has a meaning: off, no text, or a secret that went missing.
/// Elsewhere empty means unset, as compose files write it.
const EMPTY_MATTERS: [&str; 4] = ["redis-raw-channel", "notify-text", "api-token", "jwt-secret"];

/// Options whose variable is a single value, however often they may be typed: a secret is never
/// split.
const NEVER_SPLIT: [&str; 2] = ["api-token", "jwt-secret"];

/// The typed options, completed from the environment.
#[derive(Debug)]
pub(super) struct Typed {
    pub(super) args: Arguments,
    /// Option name → the variable it came from.
    pub(super) variables: HashMap<String, String>,
    /// Variables that cannot even become an option.
    pub(super) problems: Vec<BadValue>,
}

/// Reads `arguments` (the program's name first) over `variables`.
pub(super) fn read(
    arguments: Vec<OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Typed, clap::Error> {
    let command = Arguments::command();
    let typed = command.clone().try_get_matches_from(&arguments)?;
    let mut completion = Completion {
        environment: variables.into_iter().collect(),
        options: Vec::new(),
        variables: HashMap::new(),
        problems: Vec::new(),
    };
    // The command whose options count: the last that is named.
    let (mut asked, mut typed, mut depth) = (Some(&command), &typed, 0);
    while let Some((name, inner)) = typed.subcommand() {
        (asked, typed) = (asked.and_then(|outer| outer.find_subcommand(name)), inner);
        depth += 1;
    }
    for option in asked.into_iter().flat_map(clap::Command::get_arguments) {
        let Some(name) = option.get_long() else { continue };
        let was_typed =
            typed.value_source(option.get_id().as_str()) == Some(ValueSource::CommandLine);
        if !was_typed {
            completion.complete(name, option.get_action());
        }
    }
    let Completion { options, variables, problems, .. } = completion;
    // Before the typed options, since these may end with `--`; a subcommand's own come after its
    // name.
    let begin = 1 + depth;
    let head = arguments.iter().take(begin).cloned();
    let line = head.chain(options).chain(arguments.iter().skip(begin).cloned());
    let args = Arguments::from_arg_matches(&command.try_get_matches_from(line)?)?;
    Ok(Typed { args, variables, problems })
}

struct Completion {
    environment: HashMap<OsString, OsString>,
    options: Vec<OsString>,
    variables: HashMap<String, String>,
    problems: Vec<BadValue>,
}

impl Completion {
    /// Takes the option `name` from the environment, if it is there.
    fn complete(&mut self, name: &str, action: &ArgAction) {
        let Some((variable, value)) = self.find(name) else { return };
        self.variables.insert(name.to_owned(), variable);
        let Some(value) = value.to_str() else {
            // Not shown even in part: it may be a secret.
            return self.refuse(name, "(not UTF-8)".to_owned(), "expected UTF-8".to_owned());
        };
        match action {
            ArgAction::SetTrue => match values::word(value) {
                Ok(true) => self.options.push(format!("--{name}").into()),
                Ok(false) => {}
                Err(expected) => self.refuse(name, value.to_owned(), expected),
            },
            ArgAction::Append if NEVER_SPLIT.contains(&name) => {
                self.options.push(format!("--{name}={}", value.trim()).into());
            }
            ArgAction::Append => {
                let parts = value.split(',').map(|part| format!("--{name}={}", part.trim()).into());
                self.options.extend(parts);
            }
            _ => self.options.push(format!("--{name}={value}").into()),
        }
    }

    fn find(&self, name: &str) -> Option<(String, OsString)> {
        let own = format!("WSBCAST_{}", name.to_uppercase().replace('-', "_"));
        let fallback = FALLBACKS.iter().find(|(option, _)| *option == name);
        let candidates = [Some(own), fallback.map(|(_, variable)| (*variable).to_owned())];
        candidates.into_iter().flatten().find_map(|variable| {
            let value = self.environment.get(OsStr::new(&variable))?;
            let counts = !value.is_empty() || EMPTY_MATTERS.contains(&name);
            counts.then(|| (variable, value.clone()))
        })
    }

    fn refuse(&mut self, name: &str, value: String, reason: String) {
        let variable = self.variables.get(name).cloned();
        self.problems.push(BadValue { option: name.to_owned(), value, variable, reason });
    }
}
