//! The keys of tokens, read again on SIGHUP.

use std::sync::Arc;

use super::reload::{Prepared, Reload};
use crate::{config::SecretSources, token::Verifier};

/// The files that hold them, and the one who uses them.
pub(super) struct SecretFiles {
    pub(super) sources: SecretSources,
    pub(super) verifier: Arc<Verifier>,
}

impl Reload for SecretFiles {
    fn prepare(&self) -> Result<Prepared, String> {
        let secrets = self.sources.read().map_err(|bad| bad.lines())?;
        let verifier = self.verifier.clone();
        let commit = move || {
            let is_new = verifier.replace_keys(&secrets.tokens);
            let words = "the keys of tokens are new: every token is verified anew";
            is_new.then(|| words.to_owned()).into_iter().collect()
        };
        Ok(Prepared { warnings: secrets.warnings, commit: Box::new(commit) })
    }
}
