//! The door at which upgrades are asked for: the control socket, and SIGUSR2.
//!
//! Those who connect say what they want before they count; some may do so at the same time, and
//! none makes another wait for long. Nothing is decided here.

use std::pin::Pin;

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Sleep, sleep},
};

use crate::{
    handover::{ControlSocket, Identity, Link, LinkError, RefusedFor, Visitor, receive},
    limits::{ACCEPT_BACKOFF, HANDOVER_VISITORS_MAX},
    shard::accept::complain,
    telemetry::seldom,
};

/// Somebody wants an upgrade.
#[derive(Debug)]
pub(super) enum Wish {
    /// By the control socket.
    Visitor(Visitor),
    /// By the signal of this name.
    Signal(&'static str),
}

/// Where the wishes come in.
#[derive(Debug)]
pub(super) struct ControlDoor {
    pub(super) socket: ControlSocket,
    identity: Identity,
    signals: mpsc::Receiver<&'static str>,
    /// Those who say what they want, and those who are sent away.
    visitors: JoinSet<Option<Visitor>>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl ControlDoor {
    pub(super) fn new(
        socket: ControlSocket,
        signals: mpsc::Receiver<&'static str>,
        identity: Identity,
    ) -> Self {
        Self { socket, identity, signals, visitors: JoinSet::new(), pause: None }
    }

    /// The next wish.
    ///
    /// # Cancel safety
    /// May be dropped: nobody is lost.
    pub(super) async fn next(&mut self) -> Wish {
        loop {
            let has_room = self.visitors.len() < HANDOVER_VISITORS_MAX;
            tokio::select! {
                Some(visitor) = self.visitors.join_next() => {
                    if let Ok(Some(visitor)) = visitor {
                        return Wish::Visitor(visitor);
                    }
                }
                Some(signal) = self.signals.recv() => return Wish::Signal(signal),
                accepted = accept(&self.socket, &mut self.pause), if has_room => match accepted {
                    Some(link) => self.greet(link),
                    None => self.pause = Some(Box::pin(sleep(ACCEPT_BACKOFF))),
                }
            }
        }
    }

    fn greet(&mut self, link: Link) {
        let identity = self.identity.clone();
        self.visitors.spawn_local(async move {
            match receive(link, identity).await {
                Ok(visitor) => Some(visitor),
                Err(error) => {
                    seldom!(info, "a visitor of the control socket is not understood", %error);
                    None
                }
            }
        });
    }

    /// Sends somebody away. `text` is a sentence's end, in lower case.
    pub(super) fn refuse(&mut self, visitor: Visitor, reason: RefusedFor, text: String) {
        self.visitors.spawn_local(async move {
            match visitor {
                Visitor::NewProcess(new) => new.refuse(reason, &text).await,
                Visitor::Asker(asker) => asker.refuse(reason, &text).await,
            }
            None
        });
    }
}

/// The next connection that is let in; `None`: there is no descriptor for it.
///
/// # Cancel safety
/// May be dropped: the pause goes on.
async fn accept(socket: &ControlSocket, pause: &mut Option<Pin<Box<Sleep>>>) -> Option<Link> {
    if let Some(sleep) = pause {
        sleep.await;
        *pause = None;
    }
    loop {
        match socket.accept().await {
            Ok(Ok(link)) => return Some(link),
            Ok(Err(error @ LinkError::Foreign { .. })) => {
                seldom!(warn, "a visitor of the control socket is another user's", %error);
            }
            Ok(Err(error)) => {
                seldom!(warn, "a visitor of the control socket is not let in", %error);
            }
            Err(error) => {
                complain(&error);
                return None;
            }
        }
    }
}
