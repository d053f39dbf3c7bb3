//! Commands on their connection: each is written once, or surely not at all, and the answer is
//! judged.
//!
//! Redis gets the commands in the order in which they are handed to the client. A caller that waits
//! for that is told at a command's first poll; `command_order` decides which command goes first.

use std::{future::poll_fn, pin::pin, task::Poll};

use fred::{
    error::{Error, ErrorKind},
    types::Value,
};

use super::{CommandConnection, opening::Client};
use crate::broker::redis::{
    commands::call_error::CallError,
    discovery::generation::Generation,
    protocol::{
        replies::{is_demoted, is_redirection, is_refusal},
        scripts::{By, Script},
    },
};

impl CommandConnection {
    /// Runs `script`, and tells when it was handed over.
    pub(crate) async fn eval(
        &self,
        by: By,
        script: &Script,
        keys: &[String],
        args: &[Value],
        handed_over: impl FnOnce(),
    ) -> Result<Value, CallError> {
        let (client, generation) = self.client().ok_or(CallError::NotSent)?;
        let (command, text) = match by {
            By::Sha1 => ("EVALSHA", &script.sha1),
            By::Source => ("EVAL", &script.source),
        };
        let command = client.script(command, text.clone(), keys.to_vec(), args.to_vec());
        hand_over(command, handed_over).await.map_err(|error| self.judge(error, generation))
    }

    fn client(&self) -> Option<(Client, Generation)> {
        let current = self.current.borrow();
        let current = current.as_ref()?;
        Some((current.client.clone(), current.generation))
    }

    /// The meaning of `error` from a client of `generation`.
    fn judge(&self, error: Error, generation: Generation) -> CallError {
        if matches!(error.kind(), ErrorKind::Canceled) {
            // It was never written: no connection, or gone meanwhile.
            return CallError::NotSent;
        }
        if error.details().starts_with("NOSCRIPT") {
            return CallError::NoScript;
        }
        if is_redirection(&error) {
            return CallError::Elsewhere(error);
        }
        if is_refusal(&error) {
            if is_demoted(&error) && !self.destination.settings.is_cluster() {
                self.destination.generations.suspect(generation);
            }
            return CallError::Refused(error);
        }
        CallError::InDoubt(error)
    }
}

/// Awaits a command, and tells when it was handed to the client: by its first poll.
async fn hand_over(
    command: impl Future<Output = Result<Value, Error>>,
    handed_over: impl FnOnce(),
) -> Result<Value, Error> {
    let mut command = pin!(command);
    let early = poll_fn(|context| Poll::Ready(command.as_mut().poll(context))).await;
    handed_over();
    match early {
        Poll::Ready(answer) => answer,
        Poll::Pending => command.await,
    }
}
