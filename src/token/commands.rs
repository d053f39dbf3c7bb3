//! `wsbcast token check` and `wsbcast token create`: what the server makes of a token, and a token
//! to try with.
//!
//! Both take the server's own options, so that the answer is the server's. The text is for the
//! person who has the token: it shows claims, and neither the token's signature nor a key.

use std::{
    fmt::Write as _,
    io::{self, Read},
    time::{Duration, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};
use tokio::runtime::Builder;

use super::{
    ClaimRules, Rights, Secret, TokenError, TokenSettings, Verifier, crypto, error::visible,
    header::TokenHeader, verifier::claims,
};
use crate::{
    channel::ChannelPatterns,
    clock::Clock,
    limits::{TOKEN_BYTES_MAX, TOKEN_CLAIM_SHOWN_CHARS_MAX},
};

/// `wsbcast token check`.
#[derive(Clone, Debug)]
pub struct CheckToken {
    /// The token, or `-`: it is read from standard input.
    pub token: ShownToken,
    /// Keys and rules.
    pub settings: TokenSettings,
}

/// A token as it was typed; its `Debug` does not show it.
#[derive(Clone)]
pub struct ShownToken(pub String);

impl std::fmt::Debug for ShownToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ShownToken(…)")
    }
}

/// `wsbcast token create`.
#[derive(Clone, Debug)]
pub struct CreateToken {
    /// The secret that signs it.
    pub secret: Secret,
    /// For `iss` and `aud`.
    pub rules: ClaimRules,
    /// For `sub`.
    pub sub: Option<String>,
    /// The channels that may be listened to.
    pub subscribe: ChannelPatterns,
    /// The channels that may be published to.
    pub publish: ChannelPatterns,
    /// From now to `exp`.
    pub expires_in: Duration,
}

/// The end of a command.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    /// For standard output.
    pub text: String,
    /// Whether the token is good.
    pub is_good: bool,
}

impl CheckToken {
    /// Looks at the token as the server does.
    ///
    /// # Errors
    /// When standard input can't be read, or the system refuses a thread or a runtime.
    pub fn run(&self, clock: Clock) -> io::Result<Report> {
        let token = match self.token.0.as_str() {
            "-" => {
                let mut token = String::new();
                io::stdin().take(2 * TOKEN_BYTES_MAX as u64).read_to_string(&mut token)?;
                token
            }
            token => token.to_owned(),
        };
        // As it stands in a header, or in a line that was copied.
        let token = token.trim();
        let token = token.strip_prefix("Bearer ").unwrap_or(token).trim();
        let now = clock.unix_time();
        let mut text = String::new();
        match TokenHeader::read(token) {
            Ok(header) => describe(&mut text, token, &header),
            Err(error) => {
                let _ = writeln!(text, "refused: {error}");
                return Ok(Report { text, is_good: false });
            }
        }
        let by_claims = claims(token).and_then(|claims| claims.check(&self.settings.rules, now));
        if !self.settings.has_keys() {
            let _ = match by_claims {
                Ok(rights) => writeln!(text, "{}claims: nothing is wrong", may(&rights)),
                Err(error) => writeln!(text, "claims: {error}"),
            };
            text += "signature: not verified, since no key is given \
                     (--jwt-secret-file, --jwt-public-key, --jwt-jwks)\n";
            return Ok(Report { text, is_good: false });
        }
        let verifier = Verifier::new(clock, &self.settings)?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        match (runtime.block_on(verifier.verify(token)), by_claims) {
            (Ok(rights), _) => {
                let left = rights.expires_at.map(|at| at.saturating_sub(now.as_secs()));
                let until = left.map_or_else(|| "for ever".to_owned(), |secs| format!("{secs} s"));
                let _ = writeln!(text, "{}good: {until}", may(&rights));
                return Ok(Report { text, is_good: true });
            }
            (Err(error), Err(other)) if error != other && !is_about_time(&error) => {
                let _ = writeln!(text, "refused: {error}\nalso: {other}");
            }
            (Err(error), _) => {
                let _ = writeln!(text, "refused: {error}");
            }
        }
        Ok(Report { text, is_good: false })
    }
}

/// Such an error says a moment later something else, and is no second one.
fn is_about_time(error: &TokenError) -> bool {
    matches!(error, TokenError::Expired(_) | TokenError::NotYet(_))
}

/// Header and claims, as far as they can be read.
fn describe(text: &mut String, token: &str, header: &TokenHeader) {
    let _ = writeln!(text, "algorithm: {:?}", header.algorithm);
    if let Some(kid) = &header.kid {
        let _ = writeln!(text, "key id: {}", shown(kid));
    }
    let Ok(claims) = claims(token) else { return };
    for (name, value) in claims.0.iter() {
        let _ = write!(text, "{}: {}", shown(name), shown(value.get()));
        let time = ["exp", "nbf", "iat"].contains(&name).then(|| value.get().parse().ok());
        if let Some(at) = time.flatten().and_then(|secs| Duration::try_from_secs_f64(secs).ok())
            && let Some(at) = UNIX_EPOCH.checked_add(at)
            && at < UNIX_EPOCH + LAST_TIME
        {
            let _ = write!(text, " ({})", humantime::format_rfc3339_seconds(at));
        }
        text.push('\n');
    }
}

/// The end of the year 9999, which RFC 3339 can still write.
const LAST_TIME: Duration = Duration::from_secs(253_402_300_799);

fn shown(text: &str) -> String {
    visible(text, TOKEN_CLAIM_SHOWN_CHARS_MAX)
}

fn may(rights: &Rights) -> String {
    let list = |patterns: &ChannelPatterns| {
        let patterns: Vec<_> = patterns.iter().map(|pattern| pattern.to_string()).collect();
        if patterns.is_empty() { "nothing".to_owned() } else { patterns.join(" ") }
    };
    let (subscribe, publish) = (list(&rights.subscribe), list(&rights.publish));
    format!("may listen to: {subscribe}\nmay publish to: {publish}\n")
}

impl CreateToken {
    /// A token of HS256, which every secret serves.
    #[must_use]
    pub fn run(&self, clock: Clock) -> String {
        crypto::install();
        let now = clock.unix_time().as_secs();
        let texts =
            [("iss", &self.rules.issuer), ("aud", &self.rules.audience), ("sub", &self.sub)];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text.clone()?)));
        let mut claims: Map<String, Value> =
            texts.map(|(name, text)| (name.to_owned(), text.into())).collect();
        claims.insert("iat".to_owned(), now.into());
        claims.insert("exp".to_owned(), now.saturating_add(self.expires_in.as_secs()).into());
        let own = json!({"subscribe": self.subscribe, "publish": self.publish});
        claims.insert("wsbcast".to_owned(), own);
        let key = EncodingKey::from_secret(self.secret.expose()).expect("a secret is not empty");
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
            .expect("claims can be written, and a secret serves HS256")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn settings(secrets: &[&str]) -> TokenSettings {
        let secrets = secrets.iter().map(|secret| Secret::new(secret).unwrap()).collect();
        TokenSettings { secrets, ..TokenSettings::default() }
    }

    fn created(rules: ClaimRules, expires_in: u64) -> String {
        let create = CreateToken {
            secret: Secret::new(SECRET).unwrap(),
            rules,
            sub: Some("user:7".to_owned()),
            subscribe: serde_json::from_str(r#"["news.*"]"#).unwrap(),
            publish: ChannelPatterns::default(),
            expires_in: Duration::from_secs(expires_in),
        };
        create.run(Clock::start())
    }

    #[track_caller]
    fn check(token: &str, settings: TokenSettings) -> Report {
        CheckToken { token: ShownToken(token.to_owned()), settings }.run(Clock::start()).unwrap()
    }

    #[test]
    fn a_created_token_is_good() {
        let rules = ClaimRules {
            issuer: Some("me".to_owned()),
            audience: Some("you".to_owned()),
            ..ClaimRules::default()
        };
        let token = created(rules.clone(), 3600);
        let of = TokenSettings { rules, ..settings(&[SECRET]) };
        let report = check(&token, of.clone());
        assert!(report.is_good, "{}", report.text);
        for line in [
            "algorithm: HS256",
            "sub: \"user:7\"",
            "iss: \"me\"",
            "may listen to: news.*",
            "may publish to: nothing",
        ] {
            assert!(report.text.lines().any(|one| one == line), "{line}\n{}", report.text);
        }
        assert!(report.text.contains("good: 3600 s") || report.text.contains("good: 3599 s"));
        assert!(check(&format!(" Bearer {token}\n"), of).is_good);
    }

    #[test]
    fn a_bad_token_is_told_why() {
        let token = created(ClaimRules::default(), 0);
        let report = check(&token, settings(&[SECRET]));
        assert!(!report.is_good && report.text.contains("refused: expired 1 s ago"));
        let report = check(&token, settings(&[&SECRET.replace('0', "x")]));
        assert!(!report.is_good && report.text.contains("refused: the signature"));
        assert!(report.text.contains("also: expired"), "{}", report.text);
        assert!(check("a.b", settings(&[SECRET])).text.starts_with("refused: the token is no JWT"));
    }

    /// Without a key the claims are shown all the same, and judged.
    #[test]
    fn without_a_key_the_claims_are_shown() {
        let report = check(&created(ClaimRules::default(), 60), settings(&[]));
        assert!(!report.is_good && report.text.contains("claims: nothing is wrong"));
        assert!(report.text.contains("signature: not verified"), "{}", report.text);
        let report = check(&created(ClaimRules::default(), 0), settings(&[]));
        assert!(report.text.contains("claims: expired"), "{}", report.text);
    }

    #[test]
    fn a_claim_can_not_write_on_the_terminal() {
        let mut secret = String::from("a\u{1b}[2J\u{202e}");
        assert_eq!(shown(&secret), "a?[2J?");
        secret = "x".repeat(10_000);
        assert_eq!(shown(&secret).chars().count(), TOKEN_CLAIM_SHOWN_CHARS_MAX + 1);
    }
}
