//! The end of a server's run as a value: `main` alone ends the process.

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All clients left, or were told to.
    Drained,
    /// A client's descriptor was dropped before its Close frame was in the kernel, or the third
    /// signal came.
    CutOff,
    /// A shard died.
    ShardDied,
}

impl Exit {
    /// The process's exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Drained => 0,
            Self::ShardDied => 1,
            Self::CutOff => 3,
        }
    }
}
