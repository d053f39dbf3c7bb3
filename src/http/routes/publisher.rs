//! Publishers over HTTP, and the channels that they may publish to.

use std::sync::Arc;

use crate::{
    broker::Principal,
    channel::ChannelName,
    http::{
        access::{Requester, Right, Verdict},
        answer::Answer,
        authority::{self, Authority, BadCredential},
        context::{Context, Public},
        credentials,
        routes::{access_denied, address_limits, publication::Refused, token_refused},
    },
    metrics::PublishFailure,
    token::Rights,
};

/// The sender of a request that may publish something.
pub(in crate::http) struct Publisher {
    pub(in crate::http) principal: Principal,
    /// Its token's, which name the channels; None: all.
    pub(in crate::http) rights: Option<Arc<Rights>>,
}

impl Publisher {
    /// The requester, if it may publish at all.
    pub(in crate::http) async fn of(
        context: &Context,
        public: &Public,
        requester: &Requester<'_>,
    ) -> Result<Self, Refused> {
        let rules = &context.settings.access;
        let token = credentials::of_page(rules, &context.settings.origins, requester.headers);
        let requester = &Requester { other_tokens: token.as_slice(), ..*requester };
        if context.verifier.is_on() {
            // A good API token is taken all the same, and a token that is known costs nothing.
            if rules.presented(requester) == Some(false) && !is_known(context, requester) {
                still_looked_at(context, public, requester)?;
            }
            match authority::of(context, requester).await {
                Ok(Authority::Nobody) => {}
                Ok(Authority::Api) => return Ok(Self { principal: Principal::Api, rights: None }),
                Ok(Authority::Token(token)) => {
                    let principal = Principal::of_subject(token.rights.sub.as_deref());
                    return Ok(Self { principal, rights: Some(token.rights) });
                }
                Err(bad) => {
                    if let BadCredential::Token { charged, .. } = bad {
                        address_limits::bad_credentials(context, requester, charged);
                    }
                    return Err(refused(&bad));
                }
            }
        }
        match rules.judge(Right::Publish, requester) {
            Verdict::Allowed => Ok(Self { principal: rules.principal(requester), rights: None }),
            verdict => {
                let is_bad = rules.presented(requester) == Some(false);
                let past =
                    is_bad.then(|| address_limits::bad_api_token(context, requester)).flatten();
                Err(past.map_or_else(|| denied(verdict), rate_limited))
            }
        }
    }

    /// Whether it may publish to `channel`.
    ///
    /// # Errors
    /// The answer otherwise; `place` says in its hint where the channel stands.
    pub(in crate::http) fn check(&self, channel: &ChannelName, place: &str) -> Result<(), Refused> {
        let may = |rights: &Arc<Rights>| rights.publish.covers(channel.as_str());
        if self.rights.as_ref().is_none_or(may) {
            return Ok(());
        }
        let hint = format!("{place}the token's publish patterns do not cover the channel");
        let answer = token_refused::forbidden(channel.as_str(), &hint);
        Err(Box::new((PublishFailure::Forbidden, answer)))
    }
}

/// Whether a token that is shown was verified before, and was good.
fn is_known(context: &Context, requester: &Requester<'_>) -> bool {
    let knows = |token: &[u8]| str::from_utf8(token).is_ok_and(|it| context.verifier.knows(it));
    requester.shown_tokens().any(knows)
}

/// 429 if too many bad credentials came from its address.
fn still_looked_at(
    context: &Context,
    public: &Public,
    requester: &Requester<'_>,
) -> Result<(), Refused> {
    let refused = address_limits::credential(context, public, requester);
    refused.map_or(Ok(()), |answer| Err(rate_limited(answer)))
}

fn rate_limited(answer: Answer) -> Refused {
    Box::new((PublishFailure::RateLimited, answer))
}

fn refused(bad: &BadCredential) -> Refused {
    let BadCredential::Token { error, .. } = bad else { return denied(Verdict::Unauthorized) };
    let reason = if error.is_unavailable() {
        PublishFailure::KeysUnavailable
    } else if error.is_kept_out() {
        PublishFailure::Forbidden
    } else {
        PublishFailure::BadToken
    };
    Box::new((reason, token_refused::bad_token(error)))
}

fn denied(verdict: Verdict) -> Refused {
    let reason = match verdict {
        Verdict::Unauthorized => PublishFailure::Unauthorized,
        _ => PublishFailure::Forbidden,
    };
    Box::new((reason, access_denied::denied(verdict)))
}
