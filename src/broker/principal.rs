//! The principal of a publication: the owner of idempotency keys and of shares of bounded
//! resources.

use std::fmt;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// All publishers with the same right. The same key used by two principals names two messages.
///
/// The subjects of tokens may be as many as there are users, so the state that is kept for each
/// principal must be bounded by something else: bounded resources are shared by
/// [`PublisherClass`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Principal {
    /// Holders of an API token, programs of this machine where none is needed, and the server
    /// itself.
    Api,
    /// Holders of tokens with the same `sub`, or of tokens without one.
    Subject(SubjectDigest),
    /// Clients and pages that show no token.
    Anonymous,
}

/// A token's `sub` in a fixed size: half of its SHA-256. Two subjects never share one, even if they
/// choose their names themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SubjectDigest([u8; 16]);

/// Principals that share a bounded resource, so that room is left for the others: those of one
/// class.
///
/// The lesser one has shown more: a history to which several have contributed belongs to the
/// least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PublisherClass {
    /// [`Principal::Api`].
    Api,
    /// All subjects of tokens together.
    Token,
    /// [`Principal::Anonymous`].
    Anonymous,
}

impl Principal {
    /// The principal of a token's publications.
    #[must_use]
    pub fn of_subject(sub: Option<&str>) -> Self {
        Self::Subject(SubjectDigest::of(sub))
    }

    /// The class whose resources it uses.
    #[must_use]
    pub fn class(self) -> PublisherClass {
        match self {
            Self::Api => PublisherClass::Api,
            Self::Subject(_) => PublisherClass::Token,
            Self::Anonymous => PublisherClass::Anonymous,
        }
    }
}

impl SubjectDigest {
    fn of(sub: Option<&str>) -> Self {
        // The letter tells an empty subject from none.
        let text = sub.map_or_else(String::new, |sub| format!("s{sub}"));
        let whole = digest(&SHA256, text.as_bytes());
        let mut half = [0; 16];
        half.copy_from_slice(&whole.as_ref()[..16]);
        Self(half)
    }
}

/// In hexadecimal digits.
impl fmt::Display for SubjectDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A word for the log; subjects are persons, and are not named.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Api => "api",
            Self::Subject(_) => "token",
            Self::Anonymous => "anonymous",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_told_apart_and_share_one_class() {
        let subjects =
            [None, Some(""), Some("a"), Some("sa"), Some("b")].map(Principal::of_subject);
        for (place, subject) in subjects.iter().enumerate() {
            let same = subjects.iter().filter(|other| *other == subject).count();
            assert_eq!((same, subject.class()), (1, PublisherClass::Token), "{place}");
        }
        assert_eq!(Principal::of_subject(Some("a")), subjects[2]);
        assert!(PublisherClass::Api < PublisherClass::Token);
        assert!(PublisherClass::Token < PublisherClass::Anonymous);
    }
}
