//! API tokens and the keys of tokens, read again on SIGHUP.

use std::sync::Arc;

use super::{
    reload::{Prepared, Reload},
    settings,
};
use crate::{config::SecretSources, http::ApiTokens, token::Verifier};

/// The files that hold them, and where they are used.
pub(super) struct SecretFiles {
    pub(super) sources: SecretSources,
    pub(super) verifier: Arc<Verifier>,
    pub(super) api_tokens: ApiTokens,
}

impl Reload for SecretFiles {
    fn prepare(&self) -> Result<Prepared, String> {
        let secrets = self.sources.read().map_err(|bad| bad.lines())?;
        let (verifier, api_tokens) = (self.verifier.clone(), self.api_tokens.clone());
        let commit = move || {
            let new_keys = verifier.replace_keys(&secrets.tokens);
            let count = secrets.api_tokens.len();
            let new_tokens = api_tokens.replace(settings::api_tokens(&secrets.api_tokens));
            let keys = "the keys of tokens are new: every token is verified anew".to_owned();
            let tokens = format!("the API tokens are new: {count}");
            [(new_keys, keys), (new_tokens, tokens)]
                .into_iter()
                .filter_map(|(is_new, words)| is_new.then_some(words))
                .collect()
        };
        Ok(Prepared { warnings: secrets.warnings, commit: Box::new(commit) })
    }
}
