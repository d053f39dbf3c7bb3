//! The right to publish: tokens from the command line and from a file.
//!
//! Also the refusal to let clients publish on a network without any token. Every error here fails
//! closed: a token that can't be read is a bad value, not one token fewer. Error messages never
//! show a token.

use std::net::SocketAddr;

use super::{
    ListenAddr, Token, args,
    checker::Checker,
    listen::{OpenToStrangers, is_loopback_only},
    secret_file,
};
use crate::conn::ClientPublish;

/// Shorter tokens can be guessed, and a token allows publishing and ending the process.
const TOKEN_BYTES_SAFE: usize = 16;
/// The text in error messages instead of a token.
const HIDDEN: &str = "(hidden)";

/// Gathers the tokens from both sources.
pub(super) fn check(checker: &mut Checker, typed: &args::RightsOptions) -> Vec<Token> {
    let mut api_tokens = Vec::new();
    for text in &typed.api_token {
        match Token::new(text) {
            Ok(token) => {
                if text.contains(',') {
                    let file = "several stand in an --api-token-file, one a line";
                    checker.warn(format!("an --api-token holds a comma, and is one token: {file}"));
                }
                api_tokens.push(token);
            }
            Err(reason) => checker.refuse("api-token", shown(text), reason),
        }
    }
    if let Some(path) = &typed.api_token_file {
        let read = secret_file::read(checker, "api-token-file", path);
        match read.and_then(|text| tokens(&text)) {
            Ok(tokens) => api_tokens.extend(tokens),
            Err(reason) => checker.refuse("api-token-file", path, reason),
        }
    }
    let short = api_tokens.iter().filter(|token| token.expose().len() < TOKEN_BYTES_SAFE).count();
    if short > 0 {
        checker.warn(format!(
            "{short} API token(s) shorter than {TOKEN_BYTES_SAFE} characters: everybody who \
             guesses one may publish and end the process; `openssl rand -hex 32` makes a good one"
        ));
    }
    api_tokens
}

/// Without a token and without `--insecure-api`, clients may publish on loopback only.
pub(super) fn check_client_publish(
    checker: &mut Checker,
    listen: &[ListenAddr],
    tls_listen: &[SocketAddr],
    client_publish: ClientPublish,
) {
    const SOURCES: [&str; 7] = [
        "api-token",
        "api-token-file",
        "insecure-api",
        "jwt-secret",
        "jwt-secret-file",
        "jwt-public-key",
        "jwt-jwks",
    ];
    let rights_are_good = checker.are_good(&SOURCES);
    let is_public = !is_loopback_only(listen, tls_listen);
    if rights_are_good && client_publish == ClientPublish::Broadcast && is_public {
        checker.refuse("client-publish", "broadcast", OpenToStrangers.to_string());
    }
}

fn shown(token: &str) -> &'static str {
    if token.is_empty() { "" } else { HIDDEN }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            let token =
                Token::new(line).map_err(|reason| format!("line {}: {reason}", index + 1))?;
            tokens.push(token);
        }
    }
    if tokens.is_empty() { Err("holds no token".to_owned()) } else { Ok(tokens) }
}
