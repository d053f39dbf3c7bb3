//! The steps of a hand-over, in their order.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a hand-over is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Step {
    /// Both say who they are.
    Greeting,
    /// The new process builds its server.
    Building,
    /// Large state is sent, while the old process serves.
    Ahead,
    /// The new process is to say that it is ready.
    Ready,
    /// The old process stops serving.
    Pausing,
    /// Clients and the rest are sent.
    State,
    /// The new process is to say that it has all.
    Prepared,
    /// The last word.
    Commit,
    /// Something of a later version.
    #[serde(other)]
    Other,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Greeting => "both said who they are",
            Self::Building => "the new process started",
            Self::Ahead => "histories were sent ahead",
            Self::Ready => "the new process got ready",
            Self::Pausing => "the old process paused",
            Self::State => "clients were handed over",
            Self::Prepared => "the new process checked what it has",
            Self::Commit => "the last word was due",
            Self::Other => "another step was taken",
        })
    }
}
