//! The API tokens of the moment: one list for all threads, which can be replaced while they serve.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use subtle::{Choice, ConstantTimeEq as _};

/// The values of `--api-token`, any of which is sufficient. Clones share the list.
#[derive(Clone, Default)]
pub struct ApiTokens(Arc<RwLock<Arc<[String]>>>);

impl ApiTokens {
    /// Whether there is none: then the local rule decides.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.now().is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.now().len()
    }

    /// Whether `shown` is one of them. All are compared, whichever fits: the time tells at most
    /// their lengths.
    #[must_use]
    pub fn have(&self, shown: &[u8]) -> bool {
        let tokens = self.now();
        let equal = |token: &String| token.as_bytes().ct_eq(shown);
        tokens.iter().fold(Choice::from(0), |fits, token| fits | equal(token)).into()
    }

    /// Takes others in their place, for every thread. True: they are others.
    pub fn replace(&self, tokens: Vec<String>) -> bool {
        let mut now = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = **now != *tokens;
        *now = tokens.into();
        is_new
    }

    fn now(&self) -> Arc<[String]> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl From<Vec<String>> for ApiTokens {
    fn from(tokens: Vec<String>) -> Self {
        Self(Arc::new(RwLock::new(tokens.into())))
    }
}

impl fmt::Debug for ApiTokens {
    /// Without the tokens: they must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiTokens({})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_replaced_for_everybody() {
        let tokens = ApiTokens::from(vec!["old".to_owned(), "other".to_owned()]);
        let shared = tokens.clone();
        assert!(shared.have(b"old") && shared.have(b"other"));
        assert!(!shared.have(b"") && !shared.have(b"ol") && !shared.have(b"new"));
        assert!(!tokens.replace(vec!["old".to_owned(), "other".to_owned()]));
        assert!(tokens.replace(vec!["new".to_owned()]));
        assert!(shared.have(b"new") && !shared.have(b"old") && shared.len() == 1);
        assert!(!format!("{shared:?}").contains("new"));
    }
}
