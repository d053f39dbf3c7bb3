//! `wsbcast upgrade`: asks a server to be replaced by its program as it is installed now.
//!
//! The server starts the new process and hands over to it; this side waits and tells how it goes.
//! Nothing depends on it: if it ends, the upgrade goes on.

use std::{io, path::PathBuf};

use thiserror::Error;

/// `wsbcast upgrade`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskUpgrade {
    /// Where the server listens for it.
    pub control_socket: PathBuf,
}

/// No new process serves, or nobody knows.
#[derive(Debug, Error)]
pub enum NotUpgraded {
    /// Nobody listens at the path.
    #[error("no server listens at {}", .0.display())]
    NobodyThere(PathBuf),
    /// The old process goes on; why.
    #[error("rolled back, the old process goes on: {0}")]
    RolledBack(String),
    /// It is not begun, or nobody knows how it went.
    #[error("{0}")]
    Failed(String),
    /// The system refuses a runtime.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl NotUpgraded {
    /// The exit code of the command.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::NobodyThere(_) => 4,
            Self::RolledBack(_) | Self::Failed(_) | Self::System(_) => 1,
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use tokio::runtime::Builder;

    use super::*;
    use crate::handover::{AskError, Done, Identity, Outcome, Step, ask_upgrade};

    impl AskUpgrade {
        /// Asks and waits. `tell` gets a line for each step; the result is the line about the new
        /// process. `version` is this program's.
        ///
        /// # Errors
        /// [`NotUpgraded`]
        pub fn run(
            &self,
            version: &str,
            mut tell: impl FnMut(&str),
        ) -> Result<String, NotUpgraded> {
            let mut last = None;
            let progress = |step| {
                if last.replace(step) != Some(step) {
                    tell(in_words(step));
                }
            };
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let ours = Identity::own(version);
            let asked = runtime.block_on(ask_upgrade(&self.control_socket, ours, progress));
            match asked {
                Ok(Outcome::Done(Done { pid, pause_ms, clients })) => Ok(format!(
                    "process {pid} serves now: {clients} clients, {pause_ms} ms of pause"
                )),
                Ok(Outcome::RolledBack(reason)) => Err(NotUpgraded::RolledBack(reason)),
                Err(AskError::NobodyThere) => {
                    Err(NotUpgraded::NobodyThere(self.control_socket.clone()))
                }
                Err(AskError::Failed(failure)) => Err(NotUpgraded::Failed(failure.to_string())),
            }
        }
    }

    fn in_words(step: Step) -> &'static str {
        match step {
            Step::Greeting => "a new process starts",
            Step::Building => "it builds its server",
            Step::Ahead => "it gets the histories",
            Step::Ready => "it gets ready",
            Step::Pausing => "the old process pauses",
            Step::State => "the new one gets the clients",
            Step::Prepared => "it checks them",
            Step::Commit => "it has the last word",
            Step::Other => "it goes on",
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl AskUpgrade {
    /// Upgrades in place need Linux.
    ///
    /// # Errors
    /// Always.
    pub fn run(&self, _version: &str, _tell: impl FnMut(&str)) -> Result<String, NotUpgraded> {
        Err(NotUpgraded::Failed("an upgrade in place needs Linux".to_owned()))
    }
}
