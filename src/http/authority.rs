//! The sender of a request, by the credentials that it shows.
//!
//! API tokens are compared first; then the tokens of others are verified, one after the other. A
//! foreign token beside a good one does no harm, but if none is good, the request is refused, also
//! where it would have been granted without: a sender learns that its token is bad.

use futures_util::future::join_all;

use crate::{
    broker::PublisherClass,
    conn::{Credential, VerifiedToken},
    http::{
        access::{Requester, Right, Verdict},
        context::Context,
    },
    token::TokenError,
};

/// A requester, by what it has shown.
#[derive(Debug)]
pub(in crate::http) enum Authority {
    /// It has shown nothing that counts.
    Nobody,
    /// It has shown a token of `--api-token`.
    Api,
    /// It has shown a token with rights of its own.
    Token(VerifiedToken),
}

/// It has shown only what is not good.
#[derive(Debug)]
pub(in crate::http) enum BadCredential {
    /// None of the API tokens, and there are no others.
    NoApiToken,
    /// No token with rights.
    Token {
        /// Why: the server's fault comes before theirs.
        error: TokenError,
        /// How many of those that were shown count against the address.
        charged: u32,
    },
}

/// The requester, by the credentials that it shows.
pub(in crate::http) async fn of(
    context: &Context,
    requester: &Requester<'_>,
) -> Result<Authority, BadCredential> {
    let rules = &context.settings.access;
    let fits = rules.presented(requester);
    if fits == Some(true) {
        return Ok(Authority::Api);
    }
    if !context.verifier.is_on() {
        let is_bad = fits.is_some() && !rules.tokens.is_empty();
        return if is_bad { Err(BadCredential::NoApiToken) } else { Ok(Authority::Nobody) };
    }
    // Bytes that are no text are no token, either.
    let shown = requester.shown_tokens().map(|token| str::from_utf8(token).unwrap_or_default());
    // Together: those whose keys are unknown wait for the issuer at the same time.
    let outcomes =
        join_all(shown.map(|token| context.verifier.verify_in(&context.token_room, token))).await;
    let (mut refusal, mut charged) = (None::<TokenError>, 0);
    for outcome in outcomes {
        match outcome {
            Ok(rights) => {
                let (now, unix_time) = (context.clock.now(), context.clock.unix_time());
                return Ok(Authority::Token(VerifiedToken::new(rights, now, unix_time)));
            }
            Err(error) => {
                charged += u32::from(error.is_charged());
                // It may be the good one.
                let decides = refusal.is_none() || error.is_unavailable();
                refusal = if decides { Some(error) } else { refusal };
            }
        }
    }
    refusal.map_or(Ok(Authority::Nobody), |error| Err(BadCredential::Token { error, charged }))
}

impl Authority {
    /// Whether it may listen to `channel`.
    pub(in crate::http) fn may_listen(&self, context: &Context, channel: &str) -> bool {
        let is_own = match self {
            Self::Nobody => false,
            Self::Api => true,
            Self::Token(token) => token.rights.subscribe.covers(channel),
        };
        is_own || context.settings.access.public_channels.covers(channel)
    }

    /// The class as which a client publishes that has shown this in its handshake, if it may. By a
    /// token it does as the token says: the table of clients knows.
    pub(in crate::http) fn class_of_client(
        &self,
        context: &Context,
        requester: &Requester<'_>,
    ) -> Option<PublisherClass> {
        let rules = &context.settings.access;
        match self {
            Self::Token(_) => None,
            Self::Api => Some(PublisherClass::Api),
            Self::Nobody => (rules.judge(Right::Publish, requester) == Verdict::Allowed)
                .then_some(PublisherClass::Anonymous),
        }
    }

    /// The part that the table of clients needs.
    pub(in crate::http) fn into_credential(self) -> Option<Credential> {
        match self {
            Self::Nobody => None,
            Self::Api => Some(Credential::Api),
            Self::Token(token) => Some(Credential::Token(token)),
        }
    }
}
