//! How a command connection's client is made: connected to a primary on which all scripts
//! are loaded.
//!
//! Nothing here repairs a client; see `command_connection`.

use fred::{
    error::{Error, ErrorKind},
    prelude::Server,
};
use futures_util::future::join_all;
use tokio::time::timeout;

pub(super) use crate::broker::redis::net::pipeline::{Client, ConnectionTask};
use crate::{
    broker::redis::{
        discovery::{destination::Destination, node_ids::NodeId, sentinel::is_primary},
        net::connection::{Connection, ConnectionError, refusal},
        protocol::{
            refusal as refusals,
            replies::is_refusal,
            scripts::{Script, Scripts},
        },
    },
    limits::REDIS_READY_DEADLINE,
    metrics::BrokerRefusal,
};

/// Connects to `server`, and makes the scripts known, so that the first publish is as fast as any.
/// In a cluster it tells which node that is.
pub(crate) async fn open(
    destination: &Destination,
    server: &Server,
) -> Result<(Client, ConnectionTask, Option<NodeId>), ConnectionError> {
    let ready = async {
        let (connection, node) = connect(destination, server).await?;
        let (client, task) =
            Client::start(destination.clock, connection, destination.settings.bounds());
        load(&client, &destination.settings.scripts).await?;
        Ok((client, task, node))
    };
    let ready = async {
        if destination.primary.server().is_none() {
            return ready.await;
        }
        tokio::select! {
            ready = ready => ready,
            () = destination.primary.replaced(server) => Err(ConnectionError::Left),
        }
    };
    timeout(REDIS_READY_DEADLINE, ready).await.unwrap_or(Err(ConnectionError::Silent))
}

async fn connect(
    destination: &Destination,
    server: &Server,
) -> Result<(Connection, Option<NodeId>), ConnectionError> {
    let (mut connection, node) = destination.connect(server).await?;
    if let Some(database) = destination.settings.config.database.filter(|database| *database > 0) {
        let answer = connection.ask(&["SELECT", &database.to_string()]).await?;
        if let Some(error) = refusal(&answer) {
            return Err(ConnectionError::Refused(error));
        }
    }
    if destination.primary.server().is_some() && !is_primary(&connection.ask(&["ROLE"]).await?) {
        return Err(ConnectionError::NotPrimary);
    }
    Ok((connection, node))
}

/// Whether a server cannot do anything yet, though it answers.
fn is_loading(error: &Error) -> bool {
    refusals::reason(error.details()) == BrokerRefusal::Loading
}

async fn load(client: &Client, scripts: &Scripts) -> Result<(), ConnectionError> {
    let load = |script: &Script| client.script_load(script.source.clone());
    // At once: Redis may be far away.
    for loaded in join_all(scripts.all().map(load)).await {
        match loaded {
            // A missing right to load is no reason: EVAL loads as well. A server that is loading
            // its data runs no script.
            Err(error) if !is_refusal(&error) || is_loading(&error) => {
                return Err(error_of(&error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn error_of(error: &Error) -> ConnectionError {
    match error.kind() {
        ErrorKind::Timeout => ConnectionError::Silent,
        ErrorKind::IO | ErrorKind::Canceled => ConnectionError::Closed,
        _ => ConnectionError::Refused(error.details().to_owned()),
    }
}

#[cfg(test)]
mod tests;
