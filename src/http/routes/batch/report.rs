//! The answer to a batch: each line's result at its place, and the first failure's status.
//!
//! The results are most of what a batch takes up, several times its own text. So they are text from
//! the start, and none is longer than a batch is charged for.

use http::StatusCode;
use serde::Serialize;

use crate::{
    broker::PublishError,
    http::{
        answer::{self, Answer, Problem},
        routes::publication::{self, Published},
    },
    metrics::PublishFailure,
};

/// The outcome of a line; None: it was not begun in time.
pub(in crate::http) type Fate = Option<Result<Published, PublishError>>;

/// How the answer begins.
const BEGINNING: &[u8] = b"{\"results\":[";
/// The size of most results.
const RESULT_BYTES_USUAL: usize = 96;
/// The error of a line that was not begun.
const TOO_LATE: Problem<'static> = Problem {
    error: PublishFailure::DeadlineExceeded.word(),
    hint: "the batch's time was over before its turn; it was not published: send it again",
};

/// The answer in the making. It is text from the start: a batch's results are most of its memory.
pub(in crate::http) struct Report {
    text: Vec<u8>,
    pub(in crate::http) lines: usize,
    /// The status of the first line that failed.
    failed: Option<StatusCode>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Outcome {
    Published(Published),
    Failed(Problem<'static>),
}

impl Report {
    pub(in crate::http) fn new(lines: usize) -> Self {
        let mut text = Vec::with_capacity(lines * RESULT_BYTES_USUAL);
        text.extend(BEGINNING);
        Self { text, lines: 0, failed: None }
    }

    pub(in crate::http) fn add(&mut self, fate: Fate) {
        let (outcome, failed) = match fate {
            Some(Ok(published)) => (Outcome::Published(published), None),
            Some(Err(error)) => {
                (Outcome::Failed(publication::explain(&error)), Some(publication::status(&error)))
            }
            None => (Outcome::Failed(TOO_LATE), Some(StatusCode::SERVICE_UNAVAILABLE)),
        };
        if self.lines > 0 {
            self.text.push(b',');
        }
        self.lines += 1;
        self.failed = self.failed.or(failed);
        serde_json::to_writer(&mut self.text, &outcome)
            .expect("answers are plain structs, which always encode");
    }

    pub(in crate::http) fn answer(mut self) -> Answer {
        self.text.extend(b"]}\n");
        // Room for longer results is freed.
        self.text.shrink_to_fit();
        answer::json_text(self.failed.unwrap_or(StatusCode::ACCEPTED), self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::{Position, Receipt},
        channel::ChannelName,
        limits,
    };

    #[test]
    fn no_result_is_longer_than_it_is_reckoned_at() {
        let long = Published {
            channel: ChannelName::new(&"c".repeat(limits::CHANNEL_NAME_BYTES_MAX)).unwrap(),
            receipt: Receipt::Cluster(Position {
                epoch: "e".repeat(limits::EPOCH_BYTES_MAX).as_str().into(),
                offset: limits::OFFSET_MAX,
            }),
            clients: usize::MAX,
        };
        let errors = [
            PublishError::ShardStalled,
            PublishError::BrokerLost,
            PublishError::Unconfirmed,
            PublishError::KeysFull,
            PublishError::ChannelsFull,
            PublishError::Restarting,
        ];
        let fates = errors.map(|error| Some(Err(error)));
        for fate in fates.into_iter().chain([Some(Ok(long)), None]) {
            let mut report = Report::new(0);
            report.add(fate);
            let result = report.text.len() - BEGINNING.len() + 1;
            assert!(result <= limits::BATCH_RESULT_BYTES_MAX, "{result} bytes");
        }
    }
}
