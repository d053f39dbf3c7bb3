//! Where API tokens and keys come from: read at the start, and again when their files are new.
//!
//! Both times by the same code, so that a file that is refused at the start is refused later, too.

use std::fmt;

use super::{BadValues, Token, args, checker::Checker, rights, tokens};
use crate::token::TokenSettings;

/// The options that name secrets and keys. `Debug` shows none of them.
#[derive(Clone)]
pub struct SecretSources {
    rights: args::RightsOptions,
    tokens: args::TokenOptions,
}

/// The secrets of a moment.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// The values of `--api-token` and of its file.
    pub api_tokens: Vec<Token>,
    /// The keys for tokens.
    pub tokens: TokenSettings,
    /// Accepted values that should not stay so.
    pub warnings: Vec<String>,
}

impl SecretSources {
    pub(super) fn new(rights: &args::RightsOptions, tokens: &args::TokenOptions) -> Self {
        Self { rights: rights.clone(), tokens: tokens.clone() }
    }

    /// Reads all files again.
    ///
    /// # Errors
    /// When one of them can't be used any more.
    pub fn read(&self) -> Result<Secrets, BadValues> {
        let mut checker = Checker::of_files_again();
        let secrets = self.check(&mut checker);
        checker.finish()?;
        Ok(Secrets { warnings: checker.warnings(), ..secrets })
    }

    /// The same, as a part of a larger check, which has the warnings.
    pub(super) fn check(&self, checker: &mut Checker) -> Secrets {
        Secrets {
            api_tokens: rights::check(checker, &self.rights),
            tokens: tokens::check(checker, &self.tokens),
            warnings: Vec::new(),
        }
    }
}

impl fmt::Debug for SecretSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretSources(…)")
    }
}

#[cfg(all(test, unix))]
mod tests {
    use clap::Parser as _;

    use super::*;

    /// A file that has become a pipe is refused, and nobody waits for its writer: what is bad about
    /// one file must not keep the others from being read for ever.
    #[test]
    fn a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe").to_str().unwrap().to_owned();
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        for option in ["api-token-file", "jwt-secret-file", "jwt-public-key", "jwt-jwks"] {
            let typed = args::Arguments::parse_from(["wsbcast", &format!("--{option}"), &path]);
            let sources = SecretSources::new(&typed.rights, &typed.tokens);
            let (done, outcome) = std::sync::mpsc::sync_channel(1);
            std::thread::spawn(move || done.send(sources.read().map(drop)));
            let refused = outcome.recv_timeout(std::time::Duration::from_secs(20));
            let refused = refused.expect("it waits for nobody").unwrap_err().lines();
            assert!(refused.contains("no regular file"), "{option}: {refused}");
        }
    }
}
