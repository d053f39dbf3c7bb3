//! How an announcement looks on its Redis channel: a header line, then what it is about.
//!
//! `1 disconnect SENDER away|return channel\n…`: version, what is to be done, the process that says
//! so, how, and what follows. Anyone may publish on the channel, so reading trusts nothing: what is
//! not exactly this is no announcement of ours. The rights to publish there are the rights to
//! announce.

use bytes::Bytes;

use crate::{
    broker::{Announcement, Disconnection, Selector},
    channel::ChannelName,
    limits::ANNOUNCEMENT_BYTES_MAX,
    position::is_epoch,
};

/// An older process must drop announcements in a newer form.
const VERSION: &str = "1";

/// The text of an announcement by the process `sender`.
pub(crate) fn encode(sender: &str, announcement: &Announcement) -> String {
    let Announcement::Disconnect(Disconnection { selector, may_return }) = announcement;
    let manner = if *may_return { "return" } else { "away" };
    let (kind, value) = match selector {
        Selector::Channel(channel) => ("channel", channel.as_str()),
    };
    format!("{VERSION} disconnect {sender} {manner} {kind}\n{value}")
}

/// Reads one, and the process that sent it; None if it is not one of ours.
pub(crate) fn decode(payload: &Bytes) -> Option<(&str, Announcement)> {
    if payload.len() > ANNOUNCEMENT_BYTES_MAX {
        return None;
    }
    let (header, value) = std::str::from_utf8(payload).ok()?.split_once('\n')?;
    let words: Vec<&str> = header.split(' ').collect();
    let [VERSION, "disconnect", sender, manner, kind] = words[..] else { return None };
    // The name of a process is drawn as epochs are.
    if !is_epoch(sender) {
        return None;
    }
    let may_return = match manner {
        "return" => true,
        "away" => false,
        _ => return None,
    };
    let selector = match kind {
        "channel" => Selector::Channel(ChannelName::new(value).ok()?),
        _ => return None,
    };
    Some((sender, Announcement::Disconnect(Disconnection { selector, may_return })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disconnection(name: &str, may_return: bool) -> Announcement {
        let selector = Selector::Channel(ChannelName::new(name).unwrap());
        Announcement::Disconnect(Disconnection { selector, may_return })
    }

    #[test]
    fn announcements_are_read_back() {
        for may_return in [false, true] {
            let announcement = disconnection("a:b.c-d_e", may_return);
            let text = Bytes::from(encode("0123456789abcdef", &announcement));
            assert_eq!(decode(&text), Some(("0123456789abcdef", announcement)));
        }
        let text = Bytes::from_static(b"1 disconnect p away channel\na");
        assert_eq!(decode(&text), Some(("p", disconnection("a", false))));
    }

    #[test]
    fn foreign_garbage_is_no_announcement() {
        let garbage = [
            "",
            "\n",
            "hi",
            "1 disconnect p away channel",
            "1 disconnect p away channel\n",
            "1 disconnect p away channel\na\n",
            "1 disconnect p away channel\na b",
            "1 disconnect p away channel \na",
            " 1 disconnect p away channel\na",
            "1  disconnect p away channel\na",
            "1 disconnect p away channel x\na",
            "1 disconnect p away chanel\na",
            "1 disconnect p stay channel\na",
            "1 disconnect p  channel\na",
            "1 disconnect  away channel\na",
            "1 disconnect p! away channel\na",
            "1 Disconnect p away channel\na",
            "1 drain p away channel\na",
            "0 disconnect p away channel\na",
            "2 disconnect p away channel\na",
            "1 disconnect p away channel\r\na",
            "1 disconnect p away channel\n\0",
        ];
        for text in garbage {
            assert_eq!(decode(&Bytes::from_static(text.as_bytes())), None, "{text:?}");
        }
        let long_name = format!("1 disconnect {} away channel\na", "p".repeat(33));
        let long = format!("1 disconnect p away channel\n{}", "a".repeat(129));
        let huge = format!("1 disconnect p away channel\n{}", "a".repeat(1 << 20));
        for text in [long_name, long, huge] {
            assert_eq!(decode(&Bytes::from(text)), None);
        }
        assert_eq!(decode(&Bytes::from_static(b"1 disconnect p away channel\n\xff")), None);
    }

    /// A byte of one is changed: it is read as another one, or as none.
    #[test]
    fn changed_announcements_are_read_strictly() {
        let text = encode("p", &disconnection("abc", true));
        for place in 0..text.len() {
            for byte in 0..=u8::MAX {
                let mut changed = text.clone().into_bytes();
                changed[place] = byte;
                let changed = Bytes::from(changed);
                if let Some((sender, read)) = decode(&changed) {
                    assert_eq!(encode(sender, &read).as_bytes(), &changed[..]);
                }
            }
        }
    }
}
