//! The subject of a refusal, and advice on it.

use crate::metrics::BrokerRefusal;

impl BrokerRefusal {
    /// Whether it is about the server, whatever the channel.
    pub(in crate::broker) fn is_the_servers(self) -> bool {
        !matches!(
            self,
            Self::NoPerm
                | Self::WrongType
                | Self::TryAgain
                | Self::UnexpectedAnswer
                | Self::NoAnswer
                | Self::Other
        )
    }

    /// Whether it says something about the server if a trial with no channel meets it. The rights
    /// of a user are another matter than the abilities of a server.
    pub(in crate::broker) fn counts_without_a_channel(self) -> bool {
        !matches!(self, Self::NoPerm | Self::WrongType | Self::TryAgain | Self::NoAnswer)
    }

    pub(super) fn what(self) -> &'static str {
        match self {
            Self::UnexpectedAnswer => "Redis answers a message as none of our scripts does",
            Self::NoAnswer => "Redis does not answer for messages, though it answers heartbeats",
            _ => "Redis refuses a message",
        }
    }

    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::ReadOnly => "this server is a replica: the URL has to lead to the primary",
            Self::NoReplicas => "too few replicas follow this server: see min-replicas-to-write",
            Self::Misconf => "this server cannot save to its disk: see its own log",
            Self::Oom => "this server's memory is full: see maxmemory and maxmemory-policy",
            Self::NoPerm => "the user lacks a right: docs/redis.md names all of them",
            Self::NoAuth => "the URL needs a user name and a password",
            Self::Moved => {
                "this is a cluster: use redis-cluster:// (with that, a slot is being moved, which \
                 settles by itself)"
            }
            Self::TryAgain => "the slot of this channel has been on its way for long",
            Self::ClusterDown => {
                "the cluster does not serve the slot of this channel (its URL is redis-cluster://)"
            }
            Self::MasterDown => "this server is a replica that has lost its primary",
            Self::Loading => "this server still reads its data",
            Self::Busy => "a script is running in this server for long: see SCRIPT KILL",
            Self::WrongType => "something else has written to our keys: see --redis-prefix",
            Self::UnknownCommand => {
                "this server lacks a command that is needed: see rename-command, and its version"
            }
            Self::UnexpectedAnswer => "is there something between that answers in Redis' place?",
            Self::NoAnswer => "scripts take long there, or something between keeps them",
            Self::Other => "see the error",
        }
    }
}
