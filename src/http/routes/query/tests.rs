//! The values read from a query, and the refusals.

use super::*;
use crate::position::for_each_number;

fn channels(query: &str) -> Vec<String> {
    wanted(Some(query)).unwrap().iter().map(|one| one.channel.to_string()).collect()
}

/// Channels are decoded, deduplicated and kept in order.
#[test]
fn channels_are_decoded_once_and_in_order() {
    assert_eq!(channels(""), ["notifications"]);
    assert_eq!(channels("x=1&_=7"), ["notifications"]);
    assert_eq!(channels("channel=b&channel=a&channel=b"), ["b", "a"]);
    assert_eq!(channels("channel=a%3Ab&x=%zz&ch%61nnel=c"), ["a:b", "c"]);
}

/// A stranger's numbers are bounded in the address and in the header.
#[test]
fn numbers_in_a_query_are_bounded() {
    let offset = |one: Result<SubscribeRequest, BadQuery>| match one.ok()?.since? {
        Since::After(position) => Some(position.offset),
        Since::Newest(_) => None,
    };
    for_each_number(|number, expected| {
        let id = format!("e:{number}");
        assert_eq!(offset(event_stream(None, id.as_bytes())), expected, "{number}");
        let query = format!("since={id}");
        let asked = wanted(Some(&query)).map(|mut wanted| wanted.remove(0));
        assert_eq!(offset(asked), expected, "{number}");
        // However many: as many as there are.
        let _ = wanted(Some(&format!("last={number}")));
    });
}

/// Each since belongs to the channel in its place and last to the others.
#[test]
fn each_since_belongs_to_its_channel() {
    let since = |query: &str| -> Vec<String> {
        let text = |one: SubscribeRequest| match one.since {
            None => "now".to_owned(),
            Some(Since::After(position)) => position.to_string(),
            Some(Since::Newest(count)) => count.to_string(),
        };
        wanted(Some(query)).unwrap().into_iter().map(text).collect()
    };
    assert_eq!(since("channel=a&since=e:1&channel=b&since=e:2"), ["e:1", "e:2"]);
    assert_eq!(since("channel=a&channel=b&since=&since=e%3A2"), ["now", "e:2"]);
    assert_eq!(since("channel=a&channel=a&since=&since=e:2"), ["e:2"]);
    assert_eq!(since("channel=a&channel=b&since=e:1"), ["e:1", "now"]);
    assert_eq!(since("channel=a&channel=b&since=e:1&last=5"), ["e:1", "5"]);
    assert_eq!(since("since=e:7"), ["e:7"]);
    assert_eq!(since("last=0"), ["0"]);
}

#[test]
fn bad_positions_are_refused() {
    for query in [
        "since=7",
        "since=e:x",
        "since=e:1&since=e:2",
        "last=",
        "last=-1",
        "last=x",
        "last=1&last=2",
        "last=1&l%61st=1",
        "channel=a&since=e:1&since=e:2",
        "since=%ff",
    ] {
        assert!(wanted(Some(query)).is_err(), "{query}");
    }
}

/// An event stream has one channel and its last id counts for more than the query.
#[test]
fn an_event_streams_last_id_beats_the_query() {
    let since = |query, id: &str| match event_stream(Some(query), id.as_bytes()) {
        Ok(SubscribeRequest { since: Some(Since::After(position)), .. }) => position.to_string(),
        Ok(SubscribeRequest { since: Some(Since::Newest(count)), .. }) => count.to_string(),
        Ok(SubscribeRequest { since: None, .. }) => "now".to_owned(),
        Err(bad) => bad.hint.into_owned(),
    };
    assert_eq!(since("channel=a", ""), "now");
    assert_eq!(since("channel=a&since=e:1", ""), "e:1");
    assert_eq!(since("channel=a&since=e:1&last=5", "e:7"), "e:7");
    assert_eq!(since("last=5", "e:7"), "e:7");
    assert_eq!(since("channel=a&channel=a", ""), "now");
    assert!(since("channel=a&channel=b", "").starts_with("one channel"));
    assert!(since("channel=a", "7").starts_with("Last-Event-ID"));
    assert!(event_stream(None, b"\xff").is_err());
}

#[test]
fn bad_channels_are_refused() {
    for query in ["channel=", "channel", "channel=a%2", "channel=%ff", "channel=a+b"] {
        assert!(wanted(Some(query)).is_err(), "{query}");
        assert!(one_channel(Some(query)).is_err(), "{query}");
    }
    let many: String = (0..=CHANNELS_PER_CLIENT_MAX).map(|n| format!("&channel=c{n}")).collect();
    assert!(wanted(Some(&many)).is_err());
    assert!(wanted(Some(&many[..many.rfind('&').unwrap()])).is_ok());
}

#[test]
fn a_publication_names_one_channel() {
    assert_eq!(one_channel(None).unwrap().as_str(), "notifications");
    assert_eq!(one_channel(Some("channel=a")).unwrap().as_str(), "a");
    assert!(one_channel(Some("channel=a&channel=a")).is_err());
}

#[test]
fn a_token_is_decoded_and_keeps_its_pluses() {
    assert_eq!(token(Some("token=a+b%2Fc%3D")).unwrap().as_deref(), Some("a+b/c="));
    assert!(token(Some("token=a&token=a")).is_err(), "which one counts, nobody knows");
    assert_eq!(token(Some("channel=a")).unwrap(), None);
}

/// Listening refuses names that are nearly right and ignores the others.
#[test]
fn listening_refuses_misspelt_names() {
    for (name, meant) in [
        ("chanel", "channel"),
        ("Channel", "channel"),
        ("CHANNEL", "channel"),
        ("channel[]", "channel"),
        ("channel%5B%5D", "channel"),
        ("channels[0]", "channel"),
        ("chnanel", "channel"),
        ("cahnnle", "channel"),
        ("chann", "channel"),
        ("Since", "since"),
        ("sicne", "since"),
        ("lats", "last"),
        ("last[]", "last"),
        ("toke", "token"),
        ("tokens", "token"),
        ("amp;since", "since"),
        ("amp;chanel", "channel"),
    ] {
        let query = format!("x=1&{name}=a");
        let hint = nearly_known(Some(&query)).unwrap_err().hint;
        assert!(hint.contains(&format!("is {meant} meant")), "{name}: {hint}");
    }
    for name in ["lst", "lasst", "lest", "snice", "sinc", "tokn", "cannel", "chanal"] {
        assert!(nearly_known(Some(&format!("{name}=1"))).is_err(), "{name}");
    }
    for name in ["lang", "size", "test", "list", "host", "lat", "fast", "change", "cancel", "east"]
    {
        assert_eq!(nearly_known(Some(&format!("{name}=1"))).unwrap(), [name], "a word of its own");
    }
    let query = "channel=a&since=&last=1&token=t&_=1&v=2&cb=3&utm_source=x&t&&=1&%zz=1&chan=x";
    let ignored = nearly_known(Some(query)).unwrap();
    assert_eq!(ignored, ["_", "v", "cb", "utm_source", "t", "", "%zz", "chan"]);
    assert!(nearly_known(None).unwrap().is_empty());
}

#[test]
fn publishing_takes_no_other_name() {
    for query in ["chan=x", "Channel=x", "channel[]=x", "x=1", "channel=a&_=1", "=x", "since=e:1"] {
        let hint = takes_only(Some(query), &["channel"]).unwrap_err().hint;
        assert!(hint.contains("is channel meant"), "{query}: {hint}");
    }
    for query in ["", "channel=a", "ch%61nnel=a", "&channel=a&"] {
        assert!(takes_only(Some(query), &["channel"]).is_ok(), "{query}");
    }
}

/// Thousands of parameters that nobody knows cost no more comparisons than a few.
#[test]
fn few_unknown_parameters_are_compared() {
    let strange: String = (0..7_800).map(|number| format!("&z{number:06}")).collect();
    let ignored = nearly_known(Some(&format!("channel=a{strange}&chanel=b"))).unwrap();
    assert_eq!(ignored.len(), PARAMETERS_COMPARED_MAX);
    let misspelt = nearly_known(Some(&format!("channel=a&chanel=b{strange}")));
    assert!(misspelt.unwrap_err().hint.contains("chanel"));
}
