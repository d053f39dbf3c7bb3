//! Which server of a Redis Cluster owns a slot, as far as is known: pure.
//!
//! A channel's slot follows from its hash tag. Its owner is read from `CLUSTER SLOTS`, and
//! corrected by the redirections of servers that were asked in vain (`MOVED`). A server may not
//! know its own host: then it is the one by which it was reached.

use fred::{prelude::Server, util::redis_keyslot};
use redis_protocol::resp3::types::BytesFrame;

/// A cluster's slots are below this.
const SLOTS: u16 = 16_384;

/// The slot of a key or a sharded channel.
pub(crate) fn slot_of(name: &str) -> u16 {
    redis_keyslot(name.as_bytes())
}

/// The primaries, by the slots that they own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotMap {
    /// First and last slot; a later entry overrides earlier ones.
    ranges: Vec<(u16, u16, Server)>,
}

impl SlotMap {
    /// Reads the answer of `asked` to `CLUSTER SLOTS`; None if it holds no map.
    pub(crate) fn read(answer: &BytesFrame, asked: &Server) -> Option<Self> {
        let BytesFrame::Array { data, .. } = answer else { return None };
        let ranges = data.iter().map(|range| read_range(range, asked));
        let ranges = ranges.collect::<Option<Vec<_>>>()?;
        Some(Self { ranges: ranges.into_iter().flatten().collect() })
    }

    /// The owner of `slot`.
    pub(crate) fn owner(&self, slot: u16) -> Option<&Server> {
        let range = self.ranges.iter().rfind(|(first, last, _)| (first..=last).contains(&&slot));
        range.map(|(_, _, server)| server)
    }

    /// `slot` belongs to `server` now. The earlier entry is forgotten: no slot is there twice.
    pub(super) fn set(&mut self, slot: u16, server: Server) {
        self.ranges.retain(|&(first, last, _)| (first, last) != (slot, slot));
        self.ranges.push((slot, slot, server));
    }

    /// All servers that own slots.
    pub(crate) fn primaries(&self) -> impl Iterator<Item = &Server> {
        self.ranges.iter().map(|(_, _, server)| server)
    }
}

/// None: it is no range. Some(None): the range of a server without a known name.
fn read_range(range: &BytesFrame, asked: &Server) -> Option<Option<(u16, u16, Server)>> {
    let BytesFrame::Array { data, .. } = range else { return None };
    let [first, last, BytesFrame::Array { data: primary, .. }, ..] = &data[..] else { return None };
    let [host, port, ..] = &primary[..] else { return None };
    let number = |frame: &BytesFrame| match frame {
        BytesFrame::Number { data, .. } => u16::try_from(*data).ok(),
        _ => None,
    };
    let (first, last, port) = (number(first)?, number(last)?, number(port)?);
    if last >= SLOTS || first > last {
        return None;
    }
    let host = match host {
        BytesFrame::BlobString { data, .. } | BytesFrame::SimpleString { data, .. } => {
            std::str::from_utf8(data).ok()?
        }
        BytesFrame::Null => "",
        _ => return None,
    };
    Some(server(host, port, asked).map(|server| (first, last, server)))
}

/// The location of a slot that an error gives, if it gives one.
pub(super) fn moved(error: &str, asked: &Server) -> Option<(u16, Server)> {
    let mut words = error.split(' ');
    if words.next()? != "MOVED" {
        return None;
    }
    let slot = words.next()?.parse().ok().filter(|slot| *slot < SLOTS)?;
    // An IPv6 address has colons itself.
    let (host, port) = words.next()?.rsplit_once(':')?;
    Some((slot, server(host, port.parse().ok()?, asked)?))
}

fn server(host: &str, port: u16, asked: &Server) -> Option<Server> {
    let host = match host {
        "" => asked.host.clone(),
        "?" => return None,
        host => host.into(),
    };
    Some(Server { host, port, tls_server_name: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> BytesFrame {
        BytesFrame::BlobString { data: text.to_owned().into(), attributes: None }
    }

    fn number(data: i64) -> BytesFrame {
        BytesFrame::Number { data, attributes: None }
    }

    fn array(data: Vec<BytesFrame>) -> BytesFrame {
        BytesFrame::Array { data, attributes: None }
    }

    fn range(first: i64, last: i64, host: BytesFrame, port: i64) -> BytesFrame {
        let replica = array(vec![text("10.0.0.9"), number(1), text("id")]);
        let primary = array(vec![host, number(port), text("id"), array(Vec::new())]);
        array(vec![number(first), number(last), primary, replica])
    }

    fn asked() -> Server {
        Server::from(("10.0.0.1", 6379))
    }

    #[test]
    fn the_slot_follows_from_the_hash_tag() {
        assert_eq!(slot_of("123456789"), 0x31c3);
        assert_eq!(slot_of("wsbcast:{a}"), slot_of("a"));
        assert_eq!(slot_of("wsbcast:{a}"), slot_of("wsbcast:{a}:stream"));
        assert_eq!(slot_of("wsbcast:{a}:idem:}{"), slot_of("a"));
        assert_ne!(slot_of("wsbcast:{a}"), slot_of("wsbcast:{b}"));
    }

    #[test]
    fn the_map_tells_who_owns_a_slot() {
        let answer = array(vec![
            range(0, 99, text("10.0.0.1"), 6379),
            range(100, 100, text(""), 7000),
            range(200, 16_383, BytesFrame::Null, 7001),
            range(150, 151, text("?"), 7002),
        ]);
        let map = SlotMap::read(&answer, &asked()).unwrap();
        let owner = |slot| map.owner(slot).map(ToString::to_string);
        assert_eq!(owner(0).as_deref(), Some("10.0.0.1:6379"));
        assert_eq!(owner(99).as_deref(), Some("10.0.0.1:6379"));
        assert_eq!(owner(100).as_deref(), Some("10.0.0.1:7000"), "an unknown host is the asked");
        assert_eq!(owner(101), None);
        assert_eq!(owner(150), None, "nobody can name it");
        assert_eq!(owner(16_383).as_deref(), Some("10.0.0.1:7001"));
        assert_eq!(map.primaries().count(), 3);
    }

    #[test]
    fn anything_but_a_map_is_refused() {
        let garbage = [
            number(1),
            array(vec![number(1)]),
            array(vec![array(vec![number(0), number(1)])]),
            array(vec![range(0, 16_384, text("a"), 1)]),
            array(vec![range(5, 4, text("a"), 1)]),
            array(vec![range(-1, 4, text("a"), 1)]),
            array(vec![range(0, 4, text("a"), 70_000)]),
            array(vec![range(0, 4, number(1), 1)]),
        ];
        for answer in garbage {
            assert!(SlotMap::read(&answer, &asked()).is_none(), "{answer:?}");
        }
    }

    #[test]
    fn a_moved_slot_overrides_the_map() {
        let answer = array(vec![range(0, 16_383, text("10.0.0.1"), 6379)]);
        let mut map = SlotMap::read(&answer, &asked()).unwrap();
        for (port, expected) in [(7000, 2), (7001, 2)] {
            let error = format!("MOVED 42 10.0.0.2:{port}");
            let (slot, server) = moved(&error, &asked()).unwrap();
            map.set(slot, server);
            assert_eq!(map.owner(42), Some(&Server::from(("10.0.0.2", port))));
            assert_eq!(map.primaries().count(), expected);
        }
        assert_eq!(map.owner(41), Some(&asked()));
    }

    #[test]
    fn only_a_redirection_is_one() {
        let to = |error| moved(error, &asked()).map(|(slot, server)| (slot, server.to_string()));
        assert_eq!(to("MOVED 3 :7000"), Some((3, "10.0.0.1:7000".to_owned())));
        assert_eq!(to("MOVED 3 ::1:7000"), Some((3, "::1:7000".to_owned())));
        for error in ["", "MOVED", "MOVED 3", "MOVED 16384 a:1", "MOVED 3 a", "MOVED 3 ?:1"] {
            assert_eq!(to(error), None, "{error}");
        }
        assert_eq!(to("ASK 3 a:1"), None);
        assert_eq!(to("ERR unknown command"), None);
    }
}
