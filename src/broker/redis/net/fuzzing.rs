//! Properties of the frames on a connection to Redis.

use bytes::BytesMut;
use futures_util::FutureExt;
use redis_protocol::resp3::types::BytesFrame;

use super::{
    connection::{Input, encode},
    frames::{Bounds, Scanner},
};
use crate::limits::REDIS_FRAME_DEPTH_MAX;

/// Small bounds, so that an input gets past them.
const BOUNDS: Bounds = Bounds { bytes: 200, elements: 20 };

/// The frames that some bytes hold, and whether an error ended them.
pub(in crate::broker::redis) type Verdict = (Vec<BytesFrame>, bool);

/// Any bytes give the same frames however they are cut; each is within the bounds; and a command
/// is written as the array of its words.
pub(in crate::broker::redis) fn frames(input: &[u8]) {
    let Some((&cut, bytes)) = input.split_first() else { return };
    let whole = read([bytes]);
    let (first, second) = bytes.split_at(usize::from(cut).min(bytes.len()));
    let pieces = bytes.chunks(usize::from(cut) % 16 + 1);
    for parts in [read([first, second]), read(pieces)] {
        // A NaN is not equal to itself.
        let is_same = parts == whole || format!("{whole:?}").contains("NaN");
        assert!(is_same, "cut: {parts:?}, whole: {whole:?}");
    }
    for frame in &whole.0 {
        assert!(depth(frame) <= REDIS_FRAME_DEPTH_MAX + 1, "{} deep", depth(frame));
    }
    bounded(bytes);
    commanded(bytes);
}

/// The frames of pieces that are read one after another.
pub(in crate::broker::redis) fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Verdict {
    let (mut input, mut frames) = (Input::default(), Vec::new());
    for mut piece in pieces {
        while !piece.is_empty() {
            let read = input.read(&mut piece).now_or_never();
            read.expect("memory is ready").expect("there is some of it");
            loop {
                match input.next_frame() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => {
                        assert!(!error.to_string().contains('\n'), "{error}");
                        return (frames, true);
                    }
                }
            }
        }
    }
    (frames, false)
}

fn bounded(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some(end)) = Scanner::new(BOUNDS).end_of_frame(rest) {
        assert!((1..=BOUNDS.bytes).contains(&end), "a frame of {end} bytes");
        for frame in read([&rest[..end]]).0 {
            assert!(elements(&frame) <= BOUNDS.elements, "{frame:?}");
        }
        rest = &rest[end..];
    }
}

fn commanded(bytes: &[u8]) {
    let words: Vec<&[u8]> = bytes.split(|&byte| byte == b' ').collect();
    let mut output = BytesMut::new();
    encode(&mut output, &words);
    let (frames, _) = read([&*output]);
    let [BytesFrame::Array { data, .. }] = &*frames else { panic!("{frames:?} is no array") };
    let read = data.iter().map(|word| match word {
        BytesFrame::BlobString { data, .. } => data.as_ref(),
        other => panic!("{other:?} is no word"),
    });
    assert_eq!(read.collect::<Vec<_>>(), words);
}

fn parts(frame: &BytesFrame) -> Vec<&BytesFrame> {
    match frame {
        BytesFrame::Array { data, .. } | BytesFrame::Push { data, .. } => data.iter().collect(),
        BytesFrame::Set { data, .. } => data.iter().collect(),
        BytesFrame::Map { data, .. } => data.iter().flat_map(|(key, value)| [key, value]).collect(),
        _ => Vec::new(),
    }
}

fn depth(frame: &BytesFrame) -> usize {
    1 + parts(frame).into_iter().map(depth).max().unwrap_or(0)
}

fn elements(frame: &BytesFrame) -> usize {
    1 + parts(frame).into_iter().map(elements).sum::<usize>()
}

/// Of a key that comes twice in a map the same value counts each time.
#[test]
fn a_map_with_a_key_twice_is_read_the_same_each_time() {
    let twice = "%5\r\n+a\r\n:1\r\n+b\r\n:1\r\n+a\r\n:2\r\n+c\r\n:3\r\n+a\r\n:4\r\n";
    let first = read([twice.as_bytes()]);
    assert!(!first.1, "it is a frame");
    for _ in 0..64 {
        assert_eq!(read([twice.as_bytes()]), first);
    }
}
