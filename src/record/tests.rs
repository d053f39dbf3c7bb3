//! Records between versions, and bytes that are none.

use bytes::Bytes;
use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Old {
    name: String,
    payload: Bytes,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct New {
    /// Fields stand in another order, too.
    payload: Bytes,
    #[serde(default)]
    tags: Vec<Tag>,
    name: String,
    #[serde(with = "serde_bytes", default)]
    rest: Vec<u8>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Tag {
    Plain,
    Counted(Count),
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Count {
    left_ms: Option<u64>,
}

fn old() -> Old {
    Old { name: "lobby".into(), payload: Bytes::from_static(&[0, 1, 255]) }
}

fn new() -> New {
    New {
        payload: Bytes::from_static(&[0, 1, 255]),
        tags: vec![Tag::Plain, Tag::Counted(Count { left_ms: Some(u64::MAX) })],
        name: "lobby".into(),
        rest: vec![200; 300],
    }
}

#[test]
fn a_record_is_read_as_it_was_written() {
    assert_eq!(from_bytes::<New>(&to_bytes(&new())).unwrap(), new());
}

#[test]
fn fields_unknown_are_skipped_and_missing_ones_filled() {
    assert_eq!(from_bytes::<Old>(&to_bytes(&new())).unwrap(), old());
    let read: New = from_bytes(&to_bytes(&old())).unwrap();
    assert_eq!(read, New { tags: Vec::new(), rest: Vec::new(), ..new() });
}

#[test]
fn an_unknown_variant_is_an_error_or_the_other_one() {
    #[derive(Serialize)]
    enum Later {
        Dashed,
    }
    #[derive(Debug, Deserialize)]
    enum Strict {
        Plain,
    }
    assert_eq!(from_bytes::<Tag>(&to_bytes(&Later::Dashed)).unwrap(), Tag::Unknown);
    let error = from_bytes::<Strict>(&to_bytes(&Later::Dashed)).unwrap_err();
    assert!(error.to_string().contains("Dashed"), "{error}");
}

#[test]
fn bytes_take_a_byte_each() {
    let length = to_bytes(&Bytes::from(vec![200; 300])).len();
    assert!(length < 310, "{length}");
    assert!(to_bytes(&new()).len() < 400, "a vector with serde_bytes, too");
}

#[test]
fn depth_is_bounded_also_in_what_is_skipped() {
    // A map of one field, unknown here, which holds lists in lists.
    let mut nested = vec![0x81, 0xa1, b'x'];
    nested.extend(vec![0x91; 100_000]);
    nested.push(0xc0);
    let error = from_bytes::<Count>(&nested).unwrap_err();
    assert!(error.to_string().contains("depth"), "{error}");
}

#[test]
fn lengths_that_lie_reserve_nothing() {
    // A list, a text and bytes that say to be 4 GiB long.
    let claims: [&[u8]; 3] = [
        &[0xdd, 255, 255, 255, 255, 0xc0],
        &[0xdb, 255, 255, 255, 255, b'a'],
        &[0xc6, 255, 255, 255, 255, 0],
    ];
    assert!(from_bytes::<Vec<Tag>>(claims[0]).is_err());
    assert!(from_bytes::<String>(claims[1]).is_err());
    assert!(from_bytes::<Bytes>(claims[2]).is_err());
}

#[test]
fn bytes_cut_off_or_too_many_are_no_record() {
    let bytes = to_bytes(&new());
    for end in 0..bytes.len() {
        assert!(from_bytes::<New>(&bytes[..end]).is_err(), "{end} bytes");
    }
    let longer = [&bytes[..], &[0xc0]].concat();
    assert!(matches!(from_bytes::<New>(&longer), Err(BadRecord::Surplus(1))));
}

proptest! {
    #[test]
    fn damage_never_panics(at in 0_usize..400, with: u8, noise: Vec<u8>) {
        let mut bytes = to_bytes(&new());
        let at = at % bytes.len();
        bytes[at] = with;
        let _ = from_bytes::<New>(&bytes);
        let _ = from_bytes::<New>(&noise);
    }
}
