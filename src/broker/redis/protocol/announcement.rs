//! How an announcement looks on its Redis channel: a header line, then whom it is about.
//!
//! `1 disconnect SENDER away|return MS STAMP channel|sub|jti\n…`: version, what is to be done, the
//! process that says so, how, for how long they are kept out (0: not at all), when that was
//! commanded by Redis' clock (then; else 0), and what follows.
//! Anyone may publish on the channel, so reading trusts nothing: what is not exactly this is no
//! announcement of ours. The rights to publish there are the rights to announce.
//!
//! Bans are kept in Redis, too, as `sub:…` and `jti:…`, for processes that were away.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    bans::{Bearer, SharedBan},
    broker::{Announcement, Disconnection, Selector},
    channel::ChannelName,
    limits::{ANNOUNCEMENT_BYTES_MAX, BAN_MAX, TOKEN_TEXT_BYTES_MAX},
    position::{is_epoch, offset_in},
};

/// An older process must drop announcements in a newer form.
const VERSION: &str = "1";

/// One that was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Heard<'a> {
    /// The process that sent it.
    pub(crate) sender: &'a str,
    pub(crate) announcement: Announcement,
    /// The moment of a ban by Redis' clock, else 0.
    pub(crate) stamp: u64,
}

/// The text of an announcement by the process `sender`: Redis puts the stamp between the two parts.
pub(crate) fn encode(sender: &str, announcement: &Announcement) -> [String; 2] {
    let Announcement::Disconnect(Disconnection { selector, may_return, banned_for }) = announcement;
    let manner = if *may_return { "return" } else { "away" };
    let (kind, value) = words(selector);
    let ms = banned_for.map_or(0, |time| time.as_millis());
    let before = format!("{VERSION} disconnect {sender} {manner} {ms} ");
    [before, format!(" {kind}\n{value}")]
}

/// Reads one; None if it is not one of ours.
pub(crate) fn decode(payload: &Bytes) -> Option<Heard<'_>> {
    if payload.len() > ANNOUNCEMENT_BYTES_MAX {
        return None;
    }
    let (header, value) = std::str::from_utf8(payload).ok()?.split_once('\n')?;
    let words: Vec<&str> = header.split(' ').collect();
    let [VERSION, "disconnect", sender, manner, ms, stamp, kind] = words[..] else { return None };
    // The name of a process is drawn as epochs are.
    if !is_epoch(sender) {
        return None;
    }
    let may_return = match manner {
        "return" => true,
        "away" => false,
        _ => return None,
    };
    let selector = selector(kind, value)?;
    let banned_for = Some(number(ms)?).filter(|ms| *ms > 0).map(Duration::from_millis);
    let stamp = number(stamp)?;
    let is_possible = match (&selector, banned_for) {
        (_, None) => stamp == 0,
        (Selector::Channel(_), Some(_)) => false,
        (Selector::Bearer(_), Some(time)) => time <= BAN_MAX && !may_return,
    };
    let disconnection = Disconnection { selector, may_return, banned_for };
    let announcement = Announcement::Disconnect(disconnection);
    is_possible.then_some(Heard { sender, announcement, stamp })
}

/// A number as we write it.
fn number(text: &str) -> Option<u64> {
    offset_in(text).filter(|number| number.to_string() == text)
}

/// How a ban of `bearer` is kept in Redis.
pub(crate) fn encode_ban(bearer: &Bearer) -> String {
    let (kind, value) = bearer_words(bearer);
    format!("{kind}:{value}")
}

/// The announcement that `bearer` is kept out for `time`.
pub(crate) fn of_ban(bearer: &Bearer, time: Duration) -> Announcement {
    let selector = Selector::Bearer(bearer.clone());
    let banned_for = Some(time);
    Announcement::Disconnect(Disconnection { selector, may_return: false, banned_for })
}

/// Reads a ban that still lasts for `ms`; None if it is none of ours.
pub(crate) fn decode_ban([text, ms, stamp]: &[String; 3]) -> Option<SharedBan> {
    let (kind @ ("sub" | "jti"), value) = text.split_once(':')? else { return None };
    let time = Duration::from_millis(offset_in(ms)?).min(BAN_MAX);
    let Selector::Bearer(bearer) = selector(kind, value)? else { return None };
    Some(SharedBan { bearer, time, stamp: offset_in(stamp)? })
}

fn words(selector: &Selector) -> (&'static str, &str) {
    match selector {
        Selector::Channel(channel) => ("channel", channel.as_str()),
        Selector::Bearer(bearer) => bearer_words(bearer),
    }
}

fn bearer_words(bearer: &Bearer) -> (&'static str, &str) {
    match bearer {
        Bearer::Subject(sub) => ("sub", sub),
        Bearer::TokenId(jti) => ("jti", jti),
    }
}

fn selector(kind: &str, value: &str) -> Option<Selector> {
    if kind == "channel" {
        return Some(Selector::Channel(ChannelName::new(value).ok()?));
    }
    if value.is_empty() || value.len() > TOKEN_TEXT_BYTES_MAX {
        return None;
    }
    match kind {
        "sub" => Some(Selector::Bearer(Bearer::Subject(value.into()))),
        "jti" => Some(Selector::Bearer(Bearer::TokenId(value.into()))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(selector: Selector, may_return: bool, ban_ms: u64) -> Announcement {
        let banned_for = Some(Duration::from_millis(ban_ms)).filter(|time| !time.is_zero());
        Announcement::Disconnect(Disconnection { selector, may_return, banned_for })
    }

    fn channel(name: &str) -> Selector {
        Selector::Channel(ChannelName::new(name).unwrap())
    }

    fn bearers() -> [Bearer; 4] {
        [
            Bearer::Subject("alice".into()),
            Bearer::Subject("a b:c\nd\0 é".into()),
            Bearer::Subject("x".repeat(TOKEN_TEXT_BYTES_MAX).into()),
            Bearer::TokenId("sub:7".into()),
        ]
    }

    #[test]
    fn announcements_are_read_back() {
        let mut all = vec![of(channel("a:b.c-d_e"), false, 0), of(channel("a"), true, 0)];
        for bearer in bearers() {
            let most = u64::try_from(BAN_MAX.as_millis()).unwrap();
            for ban_ms in [0, 1, 60_000, most] {
                all.push(of(Selector::Bearer(bearer.clone()), ban_ms == 0, ban_ms));
            }
        }
        for announcement in all {
            let Announcement::Disconnect(disconnection) = &announcement;
            let stamp = if disconnection.ban().is_some() { 1_700_000_000_123 } else { 0 };
            let [before, after] = encode("0123456789abcdef", &announcement);
            let text = Bytes::from(format!("{before}{stamp}{after}"));
            let heard = Heard { sender: "0123456789abcdef", announcement, stamp };
            assert_eq!(decode(&text), Some(heard));
        }
        let text = Bytes::from_static(b"1 disconnect p away 0 0 channel\na");
        let announcement = of(channel("a"), false, 0);
        assert_eq!(decode(&text), Some(Heard { sender: "p", announcement, stamp: 0 }));
        let text = Bytes::from_static(b"1 disconnect p away 1500 7 sub\nalice");
        let announcement = of(Selector::Bearer(Bearer::Subject("alice".into())), false, 1500);
        assert_eq!(decode(&text), Some(Heard { sender: "p", announcement, stamp: 7 }));
    }

    #[test]
    fn bans_are_read_back() {
        let read = |text: &str, ms: &str, stamp: &str| {
            decode_ban(&[text, ms, stamp].map(ToOwned::to_owned))
        };
        for bearer in bearers() {
            let kept = encode_ban(&bearer);
            let time = Duration::from_millis(1500);
            assert_eq!(read(&kept, "1500", "7"), Some(SharedBan { bearer, time, stamp: 7 }));
        }
        let far = read("sub:a", "9007199254740991", "0").unwrap();
        assert_eq!(far.time, BAN_MAX);
        let long = format!("sub:{}", "x".repeat(TOKEN_TEXT_BYTES_MAX + 1));
        for text in ["", "sub", "sub:", "Sub:a", "channel:a", "a", ":a", "jti:", &long] {
            assert_eq!(read(text, "1", "1"), None, "{text:?}");
        }
        for number in ["", "-1", "1.5", "1e3", "inf", "nan", "99999999999999999999"] {
            assert_eq!(read("sub:a", number, "1"), None, "{number:?}");
            assert_eq!(read("sub:a", "1", number), None, "{number:?}");
        }
    }

    #[test]
    fn foreign_garbage_is_no_announcement() {
        let garbage = [
            "",
            "\n",
            "hi",
            "1 disconnect p away 0 0 channel",
            "1 disconnect p away 0 0 channel\n",
            "1 disconnect p away 0 0 channel\na\n",
            "1 disconnect p away 0 0 channel\na b",
            "1 disconnect p away 0 0 channel \na",
            " 1 disconnect p away 0 0 channel\na",
            "1  disconnect p away 0 0 channel\na",
            "1 disconnect p away 0 0 channel x\na",
            "1 disconnect p away 0 0 chanel\na",
            "1 disconnect p stay 0 0 channel\na",
            "1 disconnect p  0 0 channel\na",
            "1 disconnect  away 0 0 channel\na",
            "1 disconnect p! away 0 0 channel\na",
            "1 Disconnect p away 0 0 channel\na",
            "1 drain p away 0 0 channel\na",
            "0 disconnect p away 0 0 channel\na",
            "2 disconnect p away 0 0 channel\na",
            "1 disconnect p away 0 0 channel\r\na",
            "1 disconnect p away 0 0 channel\n\0",
            "1 disconnect p away 0 channel\na",
            "1 disconnect p away 0 5 channel\na",
            "1 disconnect p away 0 5 sub\na",
            "1 disconnect p away 1 5 channel\na",
            "1 disconnect p away  5 sub\na",
            "1 disconnect p away 1 sub\na",
            "1 disconnect p away 1  sub\na",
            "1 disconnect p away 1 05 sub\na",
            "1 disconnect p away 1 -5 sub\na",
            "1 disconnect p away 1 99999999999999999999 sub\na",
            "1 disconnect p away -1 5 sub\na",
            "1 disconnect p away 01 5 sub\na",
            "1 disconnect p away +1 5 sub\na",
            "1 disconnect p away 1s 5 sub\na",
            "1 disconnect p away 2592000001 5 sub\na",
            "1 disconnect p away 99999999999999999999 5 sub\na",
            "1 disconnect p return 1 5 sub\na",
            "1 disconnect p away 1 5 sub\n",
            "1 disconnect p away 1 5 jti\n",
            "1 disconnect p away 1 5 jwt\na",
        ];
        for text in garbage {
            assert_eq!(decode(&Bytes::from_static(text.as_bytes())), None, "{text:?}");
        }
        let long_name = format!("1 disconnect {} away 0 0 channel\na", "p".repeat(33));
        let long = format!("1 disconnect p away 0 0 channel\n{}", "a".repeat(129));
        let long_sub = format!("1 disconnect p away 0 0 sub\n{}", "a".repeat(257));
        let huge = format!("1 disconnect p away 0 0 sub\n{}", "a".repeat(1 << 20));
        for text in [long_name, long, long_sub, huge] {
            assert_eq!(decode(&Bytes::from(text)), None);
        }
        for text in
            [&b"1 disconnect p away 0 0 channel\n\xff"[..], b"1 disconnect p away 0 0 sub\n\xff"]
        {
            assert_eq!(decode(&Bytes::from_static(text)), None);
        }
    }

    /// A byte of one is changed: it is read as another one, or as none.
    #[test]
    fn changed_announcements_are_read_strictly() {
        let subject = of(Selector::Bearer(Bearer::Subject("ab".into())), false, 1500);
        let text = |sender: &str, announcement: &Announcement, stamp: u64| {
            let [before, after] = encode(sender, announcement);
            format!("{before}{stamp}{after}")
        };
        for (announcement, stamp) in [(of(channel("abc"), true, 0), 0), (subject, 17)] {
            let text_of_it = text("p", &announcement, stamp);
            for place in 0..text_of_it.len() {
                for byte in 0..=u8::MAX {
                    let mut changed = text_of_it.clone().into_bytes();
                    changed[place] = byte;
                    let changed = Bytes::from(changed);
                    if let Some(Heard { sender, announcement, stamp }) = decode(&changed) {
                        assert_eq!(text(sender, &announcement, stamp).as_bytes(), &changed[..]);
                    }
                }
            }
        }
    }
}
