//! Where API tokens and keys come from: read at the start, and again when their files are new.
//!
//! Both times by the same code, so that a file that is refused at the start is refused later, too.

use std::{collections::HashMap, fmt};

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
        let mut checker = Checker::new(HashMap::new(), Vec::new());
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
