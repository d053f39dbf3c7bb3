//! How a lane's fred client comes to be: connected, to a master, and with all scripts known there.
//!
//! Nothing here repairs a client; see `lane`.

use fred::{
    clients::WithOptions,
    error::{Error, ErrorKind},
    prelude::{Client, ClientLike, LuaInterface, Server},
    types::{ClusterHash, ConnectHandle, CustomCommand, Value, config::ServerConfig},
};
use futures_util::future::join_all;
use tokio::time::timeout;

use super::{
    Process,
    answers::is_refusal,
    script::{Script, Scripts},
    target,
};
use crate::limits::REDIS_CONNECT_DEADLINE;

/// fred's connection task, ended with its owner: it closes the socket.
pub(super) struct ConnectionTask(pub(super) ConnectHandle);

impl Drop for ConnectionTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connects to `destination`, or wherever sentinels lead, and makes the scripts known, so that the
/// first publish is as fast as any. Returns the server, too.
pub(super) async fn open(
    process: &Process,
    destination: Option<Server>,
) -> Result<(Client, Server, ConnectionTask), Error> {
    let mut config = process.config.clone();
    let master = process.lead.master();
    let destination = destination.or_else(|| master.clone());
    if let Some(server) = destination.clone() {
        // Without the sentinels: fred would ask the first that answers, and that one may lag.
        config.server = ServerConfig::Centralized { server };
    }
    let performance = Some(target::performance());
    let client = Client::new(config, performance, Some(target::connection()), None);
    let task = ConnectionTask(client.connect());
    let ready = async {
        client.wait_for_connect().await?;
        if master.is_some() {
            check_role(&client).await?;
        }
        load(&client, &process.scripts).await
    };
    let ready = async {
        let Some(master) = &master else { return ready.await };
        tokio::select! {
            ready = ready => ready,
            () = process.lead.left(master) => {
                Err(Error::new(ErrorKind::Sentinel, "another server is the master now"))
            }
        }
    };
    match timeout(REDIS_CONNECT_DEADLINE, ready).await {
        Ok(result) => result?,
        Err(_) => return Err(Error::new(ErrorKind::Timeout, "connecting took too long")),
    }
    // fred tells what it asked sentinels for by the connection's id.
    let server = destination.or_else(|| client.active_connections().into_iter().next());
    let server = server.ok_or_else(|| Error::new(ErrorKind::Auth, "CLIENT ID is refused"))?;
    Ok((client, server, task))
}

/// fred looks itself when it asks the sentinels itself.
async fn check_role(client: &Client) -> Result<(), Error> {
    let client = client.with_options(&target::options());
    let command = CustomCommand::new_static("ROLE", ClusterHash::FirstKey, false);
    let role: Value = client.custom(command, Vec::<Value>::new()).await?;
    let role = role.into_array().into_iter().next();
    match role.and_then(Value::into_string) {
        Some(role) if role == "master" => Ok(()),
        role => Err(Error::new(ErrorKind::Sentinel, format!("no master, but {role:?}"))),
    }
}

async fn load(client: &Client, scripts: &Scripts) -> Result<(), Error> {
    let client: WithOptions<Client> = client.with_options(&target::options());
    let load = |script: &Script| client.script_load::<(), _>(script.source.clone());
    // At once: Redis may be far away.
    for loaded in join_all(scripts.all().map(load)).await {
        match loaded {
            // Not being allowed to load is no reason: EVAL does so too.
            Err(error) if !is_refusal(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
