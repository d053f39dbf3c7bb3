//! The options of a process's end as typed: the drain, and the process that takes its place.

use clap::Args;

#[derive(Args, Debug)]
#[command(next_help_heading = "Shutdown")]
pub(in crate::config) struct ShutdownOptions {
    /// After the first signal: not ready, but still accepting, while load balancers catch up
    #[arg(long, value_name = "DURATION", default_value = "0s", allow_negative_numbers = true)]
    pub(in crate::config) drain_pre_delay: String,
    /// Hard limit, from the first signal, pre-delay included
    #[arg(long, value_name = "DURATION", default_value = "30m", allow_negative_numbers = true)]
    pub(in crate::config) drain_timeout: String,
    /// At the end of the drain, close the remaining clients with 1012, evenly over this long
    /// [default: 60s, or what timeout - pre-delay leaves]
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true)]
    pub(in crate::config) drain_close_over: Option<String>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Upgrade")]
pub(in crate::config) struct UpgradeOptions {
    /// Unix socket for this user alone, by which a new process takes over, all clients but those by
    /// TLS: on SIGUSR2, by wsbcast upgrade, or by --take-over; Linux only [default: none]
    #[arg(long, value_name = "PATH")]
    pub(in crate::config) control_socket: Option<String>,
    /// Take over listeners, clients and state from the process with this control socket, which then
    /// ends; Linux only [default: none]
    #[arg(long, value_name = "PATH")]
    pub(in crate::config) take_over: Option<String>,
}

/// The process that is asked.
#[derive(Args, Debug)]
pub(in crate::config) struct AskUpgradeOptions {
    /// As the server has it, from WSBCAST_CONTROL_SOCKET too
    #[arg(long, value_name = "PATH")]
    pub(in crate::config) control_socket: Option<String>,
}
