//! The outcome of a publication, and the answer to each failure.
//!
//! One message and a batch tell the same: where the message got to, or the word that is counted.

use std::future::Future;

use http::StatusCode;
use serde::{Serialize, Serializer, ser::SerializeStruct};
use tokio::time::timeout;

use crate::{
    broker::{PublishError, Receipt},
    channel::ChannelName,
    http::{
        answer::{self, Answer, Problem},
        context::Public,
    },
    limits,
    metrics::{PublishFailure, Source},
};

/// Why a request published nothing, and its answer.
pub(in crate::http) type Refused = Box<(PublishFailure, Answer)>;

/// A message that went out; as JSON `channel`, `epoch`, `offset`, `scope`, `clients`.
#[derive(Debug)]
pub(in crate::http) struct Published {
    pub(in crate::http) channel: ChannelName,
    pub(in crate::http) receipt: Receipt,
    /// The channel's clients in this process.
    pub(in crate::http) clients: usize,
}

impl Serialize for Published {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (position, scope) = match &self.receipt {
            Receipt::Cluster(position) => (Some(position), "cluster"),
            Receipt::Local => (None, "local"),
        };
        let mut fields = serializer.serialize_struct("Published", 5)?;
        fields.serialize_field("channel", self.channel.as_str())?;
        fields.serialize_field("epoch", &position.map(|position| &*position.epoch))?;
        fields.serialize_field("offset", &position.map(|position| position.offset))?;
        fields.serialize_field("scope", scope)?;
        fields.serialize_field("clients", &self.clients)?;
        fields.end()
    }
}

/// Waits for the broker, for a bounded time, and counts the outcome.
pub(in crate::http) async fn settle(
    public: &Public,
    channel: ChannelName,
    published: impl Future<Output = Result<Receipt, PublishError>>,
) -> Result<Published, PublishError> {
    let result = timeout(limits::PUBLISH_ANSWER_DEADLINE, published)
        .await
        .unwrap_or(Err(PublishError::Unconfirmed));
    match result {
        Ok(receipt) => {
            public.metrics.published.add(Source::Http, receipt.scope(), 1);
            let clients = public.audience.clients(channel.as_str());
            Ok(Published { channel, receipt, clients })
        }
        Err(error) => {
            public.metrics.publish_failures.add(PublishFailure::from(&error) as usize, 1);
            Err(error)
        }
    }
}

/// The word and the hint of a failure.
pub(in crate::http) fn explain(error: &PublishError) -> Problem<'static> {
    let hint = match error {
        PublishError::ShardStalled => "this process is overloaded and delivered nothing; try again",
        PublishError::BrokerLost => {
            "Redis is out of reach, or refuses, and nothing was delivered; try again"
        }
        PublishError::Unconfirmed => {
            "Redis did not answer in time and the message may have gone out; a request with an \
             Idempotency-Key may be repeated, it is published once"
        }
        PublishError::KeysFull => {
            "as many idempotency keys as can be remembered were used within five minutes, and \
             nothing was delivered; try again, or publish without a key"
        }
        PublishError::ChannelsFull => {
            "nobody has published to this channel yet, as many new ones as may be were begun \
             lately, and nothing was delivered; try again, or another channel"
        }
        PublishError::Restarting => {
            "a new process takes this one's place, and nothing was delivered; try again over a new \
             connection"
        }
    };
    Problem { error: PublishFailure::from(error).word(), hint }
}

/// The status of a failure.
pub(in crate::http) fn status(error: &PublishError) -> StatusCode {
    match error {
        PublishError::ShardStalled
        | PublishError::BrokerLost
        | PublishError::KeysFull
        | PublishError::ChannelsFull
        | PublishError::Restarting => StatusCode::SERVICE_UNAVAILABLE,
        PublishError::Unconfirmed => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// The answer's word is the one that is counted.
pub(in crate::http) fn refused(status: StatusCode, reason: PublishFailure, hint: &str) -> Refused {
    Box::new((reason, answer::problem(status, reason.word(), hint)))
}

/// 400: the request is invalid.
pub(in crate::http) fn invalid(hint: &str) -> Refused {
    refused(StatusCode::BAD_REQUEST, PublishFailure::BadRequest, hint)
}

/// 400: the channel's name is invalid.
pub(in crate::http) fn bad_channel(hint: &str) -> Refused {
    refused(StatusCode::BAD_REQUEST, PublishFailure::BadChannel, hint)
}

/// 413: it is larger than allowed.
pub(in crate::http) fn too_big(hint: &str) -> Refused {
    refused(StatusCode::PAYLOAD_TOO_LARGE, PublishFailure::TooBig, hint)
}
