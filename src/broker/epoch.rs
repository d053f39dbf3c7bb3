//! Names for a channel's unbroken history.
//!
//! An epoch must differ between any two processes and any two starts, so it is drawn from the
//! operating system's randomness (through the standard library's hasher keys) and from no clock.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Sixteen hexadecimal digits that were never used before: a valid epoch.
pub(super) fn random() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn no_two_epochs_are_equal() {
        let drawn: HashSet<String> = (0..1000).map(|_| super::random()).collect();
        assert_eq!(drawn.len(), 1000);
        assert!(drawn.iter().all(|epoch| epoch.len() == 16));
    }
}
