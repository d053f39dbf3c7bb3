//! Whether a client may listen to what it asks for, and the answers if it may not.

use crate::{
    channel::ChannelName,
    conn::SubscribeRequest,
    http::{
        access::{Requester, Verdict},
        answer::Answer,
        authority::{self, Authority, BadCredential},
        context::Context,
        routes::{access_denied, address_limits, token_refused},
    },
    metrics::Rejection,
};

/// The reason why a client is not let in, and the answer.
pub(in crate::http) type Refused = Box<(Rejection, Answer)>;

/// The authority of a client. Listening may need no token, but one that is shown must be right.
pub(in crate::http) async fn authority(
    context: &Context,
    requester: &Requester<'_>,
) -> Result<Authority, Refused> {
    authority::of(context, requester).await.map_err(|bad| {
        let (reason, answer) = match bad {
            BadCredential::NoApiToken => {
                address_limits::bad_credentials(context, requester, 1);
                (Rejection::Unauthorized, access_denied::denied(Verdict::Unauthorized))
            }
            BadCredential::Token { error, charged } => {
                let reason = if error.is_unavailable() {
                    Rejection::KeysUnavailable
                } else if error.is_kept_out() {
                    Rejection::Forbidden
                } else {
                    Rejection::BadToken
                };
                address_limits::bad_credentials(context, requester, charged);
                (reason, token_refused::bad_token(&error))
            }
        };
        Box::new((reason, answer))
    })
}

/// All channels must be public, or covered by what was shown.
pub(in crate::http) fn check(
    context: &Context,
    authority: &Authority,
    wanted: &[SubscribeRequest],
) -> Result<(), Refused> {
    let is_private = |channel: &&ChannelName| !authority.may_listen(context, channel.as_str());
    let Some(channel) = wanted.iter().map(|one| &one.channel).find(is_private) else {
        return Ok(());
    };
    Err(match authority {
        Authority::Nobody => unauthorized(context, &format!("the channel {channel} is private")),
        Authority::Api | Authority::Token(_) => {
            let hint = "the token's subscribe patterns do not cover the channel";
            Box::new((Rejection::Forbidden, token_refused::forbidden(channel.as_str(), hint)))
        }
    })
}

/// A client that names no channel yet is let in if there may be one that it can subscribe to.
pub(in crate::http) fn check_without_channel(
    context: &Context,
    authority: &Authority,
) -> Result<(), Refused> {
    match authority {
        Authority::Nobody if context.settings.access.public_channels.is_empty() => {
            Err(unauthorized(context, "all channels are private"))
        }
        Authority::Nobody | Authority::Api | Authority::Token(_) => Ok(()),
    }
}

/// 401, and how to show a token.
fn unauthorized(context: &Context, why: &str) -> Refused {
    let query = match context.settings.access.query_tokens {
        true => "or ?token=TOKEN",
        false => "(?token= does not count here: --query-tokens off)",
    };
    let hint = format!(
        "{why}: show a token, by Authorization: Bearer TOKEN, by the subprotocol entry \
         wsbcast.token.TOKEN beside wsbcast.v1 or wsbcast.plain, {query}"
    );
    Box::new((Rejection::Unauthorized, token_refused::unauthorized(&hint)))
}
