//! The longest connected clients, for an operator that waits for a drain to end.

use crate::{
    clock::Millis,
    conn::table::ConnectionTable,
    drain::Holder,
    limits::{CHANNELS_NAMED, HOLDERS_LOOKED_AT_MAX, HOLDERS_NAMED},
};

impl ConnectionTable {
    /// The [`HOLDERS_NAMED`] longest connected of the first [`HOLDERS_LOOKED_AT_MAX`] clients: one
    /// look, since no client is served meanwhile.
    #[must_use]
    pub fn longest_connected(&self) -> Vec<Holder> {
        let mut found: Vec<_> = (self.entries.iter().enumerate())
            .filter_map(|(index, entry)| Some((entry.as_ref()?, index)))
            .filter(|(entry, _)| entry.is_live())
            .take(HOLDERS_LOOKED_AT_MAX)
            .map(|(entry, index)| (entry.connected_s, entry.key(index)))
            .collect();
        found.sort_unstable();
        found.truncate(HOLDERS_NAMED);
        let holder = |(connected_s, key)| Holder {
            address: self.hub.outlet(key).and_then(|socket| socket.peer_address(self.hub.shared())),
            since: Millis(u64::from(connected_s) * 1000),
            channels: (self.hub.channels(key).take(CHANNELS_NAMED))
                .map(|channel| channel.as_str().to_owned())
                .collect(),
            channels_total: self.hub.subscription_count(key),
        };
        found.into_iter().map(holder).collect()
    }
}
