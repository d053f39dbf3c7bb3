//! Limits by address, as requests meet them: what is past one is counted, and refused with 429.
//!
//! A handshake past the limit is refused before anything else about it is looked at, so that its
//! refusal is the cheapest answer there is. The times to come back are drawn: clients behind one
//! address, all refused in one second, must not come back in one second.

use std::time::Duration;

use http::StatusCode;

use crate::{
    admission::AddressGuard,
    http::{
        access::Requester,
        answer::{self, Answer},
        context::{Context, Public},
    },
    limits::{ADDRESS_FULL_RETRY_SECS, RATE_BURST},
    metrics::Limit,
};

/// Counts a handshake; the answer, if its address has begun too many.
pub(in crate::http) fn handshake(
    context: &Context,
    public: &Public,
    requester: &Requester<'_>,
) -> Option<Answer> {
    let limits = &public.address_limits;
    let wait = limits.handshake(requester.client, context.clock.now()).err()?;
    let hint = "this address begins more handshakes than --handshakes-per-address allows";
    past(public, Limit::Handshakes, || rate_limited(wait, hint))
}

/// Counts a client of its address. The guard is kept as long as the client is there.
pub(in crate::http) fn enter(
    public: &Public,
    requester: &Requester<'_>,
) -> Result<Option<AddressGuard>, Box<Answer>> {
    let entered = public.address_limits.enter(requester.client);
    let full = || {
        let hint = "this address has as many clients as --max-connections-per-address allows";
        let answer = answer::problem(StatusCode::TOO_MANY_REQUESTS, "address_full", hint);
        answer::retry_after(answer, fastrand::u32(ADDRESS_FULL_RETRY_SECS))
    };
    let refused = entered.is_past_limit.then(|| past(public, Limit::Clients, full)).flatten();
    refused.map_or(Ok(entered.guard), |answer| Err(Box::new(answer)))
}

/// The answer to a credential that is not looked at any more, since too many of this address were
/// bad. To be asked before a credential whose check is expensive is checked.
pub(in crate::http) fn credential(
    context: &Context,
    public: &Public,
    requester: &Requester<'_>,
) -> Option<Answer> {
    let limits = &public.address_limits;
    let wait = limits.credential(requester.client, context.clock.now()).err()?;
    let hint = "too many bad tokens came from this address; see --handshakes-per-address";
    past(public, Limit::Credentials, || rate_limited(wait, hint))
}

/// Counts an API token that was bad; the answer, if too many of this address were. A good one is
/// taken all the same.
pub(in crate::http) fn bad_api_token(
    context: &Context,
    requester: &Requester<'_>,
) -> Option<Answer> {
    let public = context.public.as_ref()?;
    let refused = credential(context, public, requester);
    if refused.is_none() {
        bad_credentials(context, requester, 1);
    }
    refused
}

/// Counts `count` credentials that were bad: one with a handshake twice, then, since that counts
/// itself.
pub(in crate::http) fn bad_credentials(context: &Context, requester: &Requester<'_>, count: u32) {
    let Some(public) = &context.public else { return };
    for _ in 0..count {
        public.address_limits.bad_credential(requester.client, context.clock.now());
    }
}

/// Counts that a limit was passed; its answer, if that is more than counted.
fn past(public: &Public, limit: Limit, answer: impl FnOnce() -> Answer) -> Option<Answer> {
    public.metrics.limited.add(limit as usize, 1);
    (!public.address_limits.is_dry_run()).then(answer)
}

fn rate_limited(wait: Duration, hint: &str) -> Answer {
    let answer = answer::problem(StatusCode::TOO_MANY_REQUESTS, "rate_limited", hint);
    let wait_secs = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
    let window_secs = u32::try_from(RATE_BURST.as_secs()).expect("a window is short");
    let drawn_secs = fastrand::u32(1..=window_secs);
    answer::retry_after(answer, wait_secs.saturating_add(drawn_secs))
}
