//! The position of a log after each of its frames, for clients that miss some frames and can be
//! told which.
//!
//! Nearly always offsets rise by one from frame to frame; a mark is kept only where they do not, so
//! a log of a thousand messages has one mark. Frames are known by their number, not by their bytes.

use std::collections::VecDeque;

use crate::position::Position;

/// The positions from one frame on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PositionMark {
    /// The frame's number, from 0.
    frame: u64,
    /// The position after this frame; None: the same as before all frames.
    position: Option<Position>,
    /// Each further frame has the next position; otherwise the position stays.
    rises: bool,
}

/// The positions of one log's frames.
#[derive(Debug, Default)]
pub(super) struct Track(VecDeque<PositionMark>);

impl Track {
    /// The frame of this number is about to be appended.
    pub(super) fn append(&mut self, frame: u64, position: Option<&Position>) {
        let before = frame.checked_sub(1).and_then(|before| self.after(before));
        let rises = self.0.back().map(|mark| mark.rises);
        let goes_on = match position {
            Some(position) => {
                let is_next = |before: &Position| {
                    before.is_comparable(position) && before.offset + 1 == position.offset
                };
                rises == Some(true) && before.as_ref().is_some_and(is_next)
            }
            None => rises == Some(false),
        };
        if !goes_on {
            let rises = position.is_some();
            self.0.push_back(PositionMark { frame, position: position.cloned().or(before), rises });
        }
    }

    /// The position after the frame of this number; None: the same as before all frames.
    pub(super) fn after(&self, frame: u64) -> Option<Position> {
        let mark = &self.0[self.0.partition_point(|mark| mark.frame <= frame).checked_sub(1)?];
        let position = mark.position.as_ref()?;
        let risen = if mark.rises { frame - mark.frame } else { 0 };
        Some(Position { epoch: position.epoch.clone(), offset: position.offset + risen })
    }

    /// Whether there is anything to forget.
    pub(super) fn is_short(&self) -> bool {
        self.0.len() < 2
    }

    /// Drops marks that are needed only for frames before this one.
    pub(super) fn forget_before(&mut self, frame: u64) {
        while self.0.get(1).is_some_and(|second| second.frame <= frame) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every frame has its position and marks stand only where offsets jump.
    #[test]
    fn every_frame_has_its_position() {
        let mut track = Track::default();
        let frames = [None, Some("e:7"), Some("e:8"), None, None, Some("e:9"), Some("e:12")];
        let frames = frames.into_iter().chain([Some("e:13"), Some("f:14"), Some("f:15")]);
        for (number, position) in frames.enumerate() {
            let position = position.map(|text: &str| text.parse::<Position>().unwrap());
            track.append(number as u64, position.as_ref());
        }
        let after = |track: &Track, frame| track.after(frame).map(|at| at.to_string());
        let expected = ["", "e:7", "e:8", "e:8", "e:8", "e:9", "e:12", "e:13", "f:14", "f:15"];
        for (frame, expected) in expected.into_iter().enumerate() {
            assert_eq!(after(&track, frame as u64).unwrap_or_default(), expected, "{frame}");
        }
        assert_eq!(track.0.len(), 6);
        track.forget_before(7);
        assert_eq!(track.0.len(), 2);
        assert_eq!(after(&track, 7).unwrap(), "e:13");
        for number in 10..1000 {
            let position = Position { epoch: "f".into(), offset: number + 6 };
            track.append(number, Some(&position));
        }
        assert_eq!(track.0.len(), 2);
    }
}
