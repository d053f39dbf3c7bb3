//! The head of a token: which key and algorithm it names, and whether it asks for more.
//!
//! Pure: it is looked at before the signature, to choose the keys that are tried. Members that
//! bring keys along (`jwk`, `jku`, `x5c`, `x5u`) are never read.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    error::{Quoted, TokenError},
    members::Members,
};
use crate::limits::TOKEN_BYTES_MAX;

/// The members that count (RFC 7515 §4.1).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TokenHeader {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
}

impl TokenHeader {
    /// Reads the head of `token`, a JWS in its compact form (RFC 7515 §7.1).
    pub(super) fn read(token: &str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed("is longer than 8 KiB"));
        }
        let mut parts = token.split('.');
        let (Some(head), Some(_), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed("is no JWT: three parts with dots between them"));
        };
        let json = URL_SAFE_NO_PAD.decode(head).map_err(|_| NO_HEADER)?;
        let members: Members = serde_json::from_slice(&json).map_err(|_| NO_HEADER)?;
        if members.get("crit").is_some() {
            return Err(TokenError::Malformed(
                "has a critical header (crit), of which none is understood here",
            ));
        }
        let named: String = text(members.get("alg")).ok_or(NO_HEADER)?;
        let algorithm = named.parse().map_err(|_| TokenError::Algorithm(Quoted::new(&named)))?;
        let kid = match members.get("kid") {
            None => None,
            kid => Some(text(kid).ok_or(NO_HEADER)?),
        };
        Ok(Self { algorithm, kid })
    }
}

const NO_HEADER: TokenError = TokenError::Malformed("has no header that can be read");

fn text(member: Option<&RawValue>) -> Option<String> {
    String::deserialize(member?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: &str) -> Result<TokenHeader, TokenError> {
        TokenHeader::read(&format!("{}.e30.c2ln", URL_SAFE_NO_PAD.encode(header)))
    }

    #[test]
    fn a_header_names_algorithm_and_key() {
        let header = read(r#"{"typ":"JWT","alg":"ES256","kid":"a"}"#).unwrap();
        let expected = TokenHeader { algorithm: Algorithm::ES256, kid: Some("a".to_owned()) };
        assert_eq!(header, expected);
        // Keys that a token brings along are not read, in whatever form.
        let brought = r#"{"alg":"HS256","jku":"https://evil.example","jwk":7,"x5u":[],"x5c":{}}"#;
        assert_eq!(read(brought).unwrap().kid, None);
    }

    #[test]
    fn bad_headers_are_refused() {
        for header in
            ["", "[]", "{", r#"{"kid":"a"}"#, r#"{"alg":7}"#, r#"{"alg":"ES256","kid":7}"#]
        {
            assert_eq!(read(header), Err(NO_HEADER), "{header}");
        }
        let twice = r#"{"alg":"HS256","alg":"none"}"#;
        assert_eq!(read(twice), Err(NO_HEADER));
        for crit in [r#"["exp"]"#, "[]", r#"["b64"]"#, "null"] {
            let hint = read(&format!(r#"{{"alg":"HS256","b64":true,"crit":{crit}}}"#)).unwrap_err();
            assert!(hint.to_string().contains("crit"), "{hint}");
        }
        for algorithm in ["none", "None", "", "HS1", "hs256"] {
            let refused = read(&format!(r#"{{"alg":"{algorithm}"}}"#));
            assert!(matches!(refused, Err(TokenError::Algorithm(_))), "{algorithm}");
        }
    }

    #[test]
    fn a_token_has_three_parts_and_a_length() {
        for token in ["", ".", "..", "a.b", "e30.e30.c2ln.", "e30.e30.a.b.c", "ä.b.c", "e30=.e30.c"]
        {
            let error = TokenHeader::read(token).unwrap_err();
            assert!(matches!(error, TokenError::Malformed(_)), "{token}: {error}");
        }
        let long = "a".repeat(TOKEN_BYTES_MAX + 1);
        let refused = TokenHeader::read(&long);
        assert_eq!(refused, Err(TokenError::Malformed("is longer than 8 KiB")));
    }
}
