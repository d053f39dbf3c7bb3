//! `Wsbcast-Position`: the position from which on a client hears each of its channels.

use http::{HeaderName, HeaderValue};

use crate::{broker::Position, channel::ChannelName};

/// Tells a client the positions from which on it hears its channels.
pub(in crate::http) const HEADER: HeaderName = HeaderName::from_static("wsbcast-position");

/// `NAME=EPOCH:OFFSET, …`: everything after these will come. None: an epoch is no text for a
/// header, as it may be if another program wrote it into Redis.
pub(in crate::http) fn value(positions: &[(ChannelName, Position)]) -> Option<HeaderValue> {
    let one = |(channel, position): &(ChannelName, Position)| format!("{channel}={position}");
    let text = positions.iter().map(one).collect::<Vec<_>>().join(", ");
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_that_is_no_text_is_not_told() {
        let told = |epoch: &str| {
            let position = Position { epoch: epoch.into(), offset: 7 };
            value(&[(ChannelName::new("news").unwrap(), position)])
        };
        assert_eq!(told("e1").unwrap(), "news=e1:7");
        assert_eq!(told("e\r\nX-Other: 1"), None);
    }
}
