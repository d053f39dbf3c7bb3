//! SIGUSR2 on its way from the coordinator, which gets all signals, to the upgrades.
//!
//! A server without a control socket has nowhere to send it, and says so.

use tokio::sync::mpsc;
use tracing::info;

/// Where the signal goes; by default nowhere.
#[derive(Debug, Default)]
pub(super) struct UpgradeSignal {
    to: Option<mpsc::Sender<&'static str>>,
}

impl UpgradeSignal {
    /// One that is received by the upgrades.
    #[cfg(target_os = "linux")]
    pub(super) fn channel() -> (Self, mpsc::Receiver<&'static str>) {
        // More than one asks for nothing that one does not.
        let (sender, receiver) = mpsc::channel(1);
        (Self { to: Some(sender) }, receiver)
    }

    /// Passes the signal on, if there is somebody to receive it.
    pub(super) fn pass_on(&self, signal: &'static str) {
        match self.to.as_ref().map(|to| to.try_send(signal)) {
            None => info!("{signal} ignored: an upgrade in place needs --control-socket"),
            Some(Ok(())) => {}
            Some(Err(mpsc::error::TrySendError::Full(_))) => {
                info!("{signal} ignored, busy: an upgrade was asked for just now");
            }
            Some(Err(mpsc::error::TrySendError::Closed(_))) => {
                info!("{signal} ignored: a new process has taken this one's place already");
            }
        }
    }
}
