//! The claims of a token whose signature is good: checked against the rules, turned into rights.
//!
//! Pure: the time comes in. The claims are those of RFC 7519 §4.1 and one of our own, `wsbcast`,
//! with the lists `subscribe` and `publish`; all others are ignored.

use std::time::Duration;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{
    error::{Quoted, TokenError},
    members::Members,
    rights::Rights,
};
use crate::{
    channel::{ChannelPattern, ChannelPatterns},
    limits::{TOKEN_NBF_LEEWAY, TOKEN_PATTERNS_MAX, TOKEN_TEXT_BYTES_MAX},
};

/// The options about claims.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimRules {
    /// Tokens without `exp` count.
    pub allow_no_exp: bool,
    /// `iss` must be this one.
    pub issuer: Option<String>,
    /// `aud` must be this one, or a list with it; without it a token must have none.
    pub audience: Option<String>,
}

/// The claims of a token, as they came.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Claims(pub(super) Members);

impl Claims {
    /// The rights that these claims give at `now`, the time since the Unix epoch.
    ///
    /// # Errors
    /// The first rule that is broken: those about time and addressees before our own.
    pub(super) fn check(&self, rules: &ClaimRules, now: Duration) -> Result<Rights, TokenError> {
        let expires_at = self.check_exp(rules, now)?;
        self.check_nbf(now)?;
        self.check_issuer(rules)?;
        self.check_audience(rules)?;
        let [subscribe, publish] = self.patterns()?;
        Ok(Rights {
            subscribe,
            publish,
            sub: self.text("sub")?,
            jti: self.text("jti")?,
            expires_at,
            verified_at: now.as_secs(),
        })
    }

    fn check_exp(&self, rules: &ClaimRules, now: Duration) -> Result<Option<u64>, TokenError> {
        let Some(exp) = self.date("exp")? else {
            return match rules.allow_no_exp {
                true => Ok(None),
                false => bad("the claim exp is missing: seconds since 1970 until it is valid"),
            };
        };
        let ago = now.as_secs_f64() - exp;
        match ago >= 0.0 {
            true => Err(TokenError::Expired(span(ago))),
            // Beyond all time it saturates.
            false => Ok(Some(exp as u64)),
        }
    }

    fn check_nbf(&self, now: Duration) -> Result<(), TokenError> {
        let Some(nbf) = self.date("nbf")? else { return Ok(()) };
        let ahead = nbf - now.as_secs_f64();
        match ahead > TOKEN_NBF_LEEWAY.as_secs_f64() {
            true => Err(TokenError::NotYet(span(ahead))),
            false => Ok(()),
        }
    }

    fn check_issuer(&self, rules: &ClaimRules) -> Result<(), TokenError> {
        let Some(expected) = &rules.issuer else { return Ok(()) };
        match self.value::<String>("iss", "no text")? {
            None => bad("the claim iss is missing: this server accepts one issuer only"),
            Some(issuer) if issuer == *expected => Ok(()),
            Some(issuer) => Err(TokenError::Issuer(Quoted::new(&issuer))),
        }
    }

    fn check_audience(&self, rules: &ClaimRules) -> Result<(), TokenError> {
        let audience = self.value::<Audience>("aud", "no text and no list of texts")?;
        match (audience, &rules.audience) {
            (None, None) => Ok(()),
            (None, Some(_)) => {
                bad("the claim aud is missing: this server accepts tokens for itself only")
            }
            (Some(audience), Some(expected)) if audience.names(expected) => Ok(()),
            // Without an audience of its own this server is nobody's (RFC 7519 §4.1.3).
            (Some(audience), _) => Err(TokenError::Audience(Quoted::new(&audience.to_string()))),
        }
    }

    /// The lists of the claim `wsbcast`; without it, or without one of them, none.
    fn patterns(&self) -> Result<[ChannelPatterns; 2], TokenError> {
        let own: Option<Members> = self.value("wsbcast", "no object whose members stand once")?;
        let list = |name| {
            own.as_ref()
                .and_then(|own| own.get(name))
                .map_or_else(|| Ok(ChannelPatterns::default()), |value| patterns(name, value))
        };
        Ok([list("subscribe")?, list("publish")?])
    }

    fn text(&self, name: &str) -> Result<Option<Box<str>>, TokenError> {
        match self.value::<Box<str>>(name, "no text")? {
            Some(text) if text.len() > TOKEN_TEXT_BYTES_MAX => {
                bad(format!("the claim {name} is longer than {TOKEN_TEXT_BYTES_MAX} bytes"))
            }
            text => Ok(text),
        }
    }

    /// A NumericDate (RFC 7519 §2): seconds, also with a fraction.
    fn date(&self, name: &str) -> Result<Option<f64>, TokenError> {
        self.value(name, "no number of seconds since 1970")
    }

    fn value<T: DeserializeOwned>(&self, name: &str, not: &str) -> Result<Option<T>, TokenError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let value = serde_json::from_str(value.get());
        value.map(Some).or_else(|_| bad(format!("the claim {name} is {not}")))
    }
}

fn patterns(name: &str, value: &RawValue) -> Result<ChannelPatterns, TokenError> {
    let Ok(texts) = serde_json::from_str::<Vec<String>>(value.get()) else {
        return bad(format!("the claim wsbcast.{name} is no list of texts"));
    };
    if texts.len() > TOKEN_PATTERNS_MAX {
        return bad(format!(
            "the claim wsbcast.{name} has more than {TOKEN_PATTERNS_MAX} patterns"
        ));
    }
    let pattern = |text: &String| {
        let pattern = ChannelPattern::new(text);
        pattern.or_else(|reason| {
            bad(format!("the claim wsbcast.{name} holds {}: {reason}", Quoted::new(text)))
        })
    };
    texts.iter().map(pattern).collect()
}

fn bad<T>(hint: impl Into<String>) -> Result<T, TokenError> {
    Err(TokenError::Claim(hint.into()))
}

/// `secs` as a duration; the longest there is for more.
fn span(secs: f64) -> Duration {
    Duration::try_from_secs_f64(secs).unwrap_or(Duration::MAX)
}

/// RFC 7519 §4.1.3.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn names(&self, expected: &str) -> bool {
        match self {
            Self::One(one) => one == expected,
            Self::Several(several) => several.iter().any(|one| one == expected),
        }
    }
}

impl std::fmt::Display for Audience {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(one) => f.write_str(one),
            Self::Several(several) => f.write_str(&several.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests;
