//! `Wsbcast-Position`: from where on a client hears each of its channels.

use http::{HeaderName, HeaderValue};

use crate::{broker::Position, channel::ChannelName};

/// Tells a client from where on it hears each of its channels.
pub(in crate::http) const HEADER: HeaderName = HeaderName::from_static("wsbcast-position");

/// `NAME=EPOCH:OFFSET, …`: everything after these will come.
pub(in crate::http) fn value(positions: &[(ChannelName, Position)]) -> HeaderValue {
    let one = |(channel, position): &(ChannelName, Position)| format!("{channel}={position}");
    let text = positions.iter().map(one).collect::<Vec<_>>().join(", ");
    HeaderValue::try_from(text).expect("names, epochs and offsets are valid in a header")
}
