//! Each reason why a requester has no right, with a remedy: a bare refusal helps no operator.

use http::{HeaderValue, StatusCode, header};

use crate::http::{
    access::Verdict,
    answer::{self, Answer},
    owner,
};

/// The answer to a requester without the right to administer or to look.
pub(in crate::http) fn denied_to_administer(verdict: Verdict) -> Answer {
    match verdict {
        Verdict::Unauthorized => unauthorized(
            "send Authorization: Bearer TOKEN with a token of --api-token: no other one counts \
             here, and one that is shown has to be right",
        ),
        verdict => denied(verdict),
    }
}

/// The answer to a requester without the right.
pub(in crate::http) fn denied(verdict: Verdict) -> Answer {
    let hint = match verdict {
        Verdict::Unauthorized | Verdict::Allowed => {
            return unauthorized(
                "send Authorization: Bearer TOKEN with a token of --api-token, or one whose claims \
                 name the channel",
            );
        }
        Verdict::Forbidden if owner::we_are_nobody() => {
            "without --api-token only programs of root on this machine may do this: the server \
             runs as user 65534 (nobody), and so may strangers whom the system does not know; \
             run it as a user of its own, or set --api-token TEXT and send Authorization: Bearer \
             TEXT"
        }
        Verdict::Forbidden => {
            "without --api-token only programs of the server's own user or root on this machine \
             may do this: loopback peer and Host, no proxy; a page needs a token or the same \
             origin; set --api-token TEXT and send Authorization: Bearer TEXT"
        }
        Verdict::NotHere => {
            "without --api-token this is for --admin-listen only; else set --api-token TEXT and \
             send Authorization: Bearer TEXT"
        }
        Verdict::ForeignName => {
            "a page may have made this name its own: ask by address, by localhost or by a name \
             without a dot, or send Authorization: Bearer TEXT with a token of --api-token"
        }
    };
    answer::problem(StatusCode::FORBIDDEN, "forbidden", hint)
}

fn unauthorized(hint: &str) -> Answer {
    let mut answer = answer::problem(StatusCode::UNAUTHORIZED, "unauthorized", hint);
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}
