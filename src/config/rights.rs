//! Who may publish: tokens from the command line and from a file.
//!
//! Also the refusal to let clients publish on a network without any token. Whatever goes wrong
//! here fails closed: a token that can't be read is a bad value, not one token fewer. Error
//! messages never show a token.

use std::{fs::File, io::Read};

use super::{ClientPublish, ListenAddr, Token, args, check::is_loopback_only, checker::Checker};

/// Largest token file; a larger one is no token file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// What error messages show for a token.
const HIDDEN: &str = "(hidden)";

pub(super) struct Rights {
    pub(super) api_tokens: Vec<Token>,
    pub(super) insecure_api: bool,
}

/// Gathers the tokens from both sources.
pub(super) fn check(checker: &mut Checker, typed: &args::Rights) -> Rights {
    let mut api_tokens = Vec::new();
    for text in &typed.api_token {
        match Token::new(text) {
            Ok(token) => api_tokens.push(token),
            Err(reason) => checker.refuse("api-token", shown(text), reason),
        }
    }
    if let Some(path) = &typed.api_token_file {
        match read_tokens(path) {
            Ok(tokens) => api_tokens.extend(tokens),
            Err(reason) => checker.refuse("api-token-file", path, reason),
        }
    }
    Rights { api_tokens, insecure_api: typed.insecure_api }
}

/// Without a token and without `--insecure-api`, clients may publish on loopback only.
pub(super) fn check_client_publish(
    checker: &mut Checker,
    listen: &[ListenAddr],
    client_publish: ClientPublish,
) {
    let rights_are_good = checker.are_good(&["api-token", "api-token-file", "insecure-api"]);
    if rights_are_good && client_publish == ClientPublish::Broadcast && !is_loopback_only(listen) {
        let reason = "whoever reaches a listener off loopback could publish: set --api-token (then \
                      clients show it in the handshake), or allow anyone with --insecure-api";
        checker.refuse("client-publish", "broadcast", reason);
    }
}

fn shown(token: &str) -> &'static str {
    if token.is_empty() { "" } else { HIDDEN }
}

fn read_tokens(path: &str) -> Result<Vec<Token>, String> {
    let mut text = String::new();
    // Bounded, since the path may be anything, a device included.
    let read =
        File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    read.map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err("larger than 1 MiB: not a token file".to_owned());
    }
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
