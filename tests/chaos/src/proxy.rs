//! The way between the servers and Redis, as something that can fail.
//!
//! A black hole takes bytes and connections and passes nothing on, in either direction, until it
//! ends; then everything goes on, as TCP does after lost packets. A cut resets all connections.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinSet, spawn_local},
};

const PIECE_BYTES: usize = 16 * 1024;
/// After an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// The state of the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) is_black_hole: bool,
    /// Connections of a lower number are reset.
    pub(super) cuts: u32,
}

/// Carries connections to `upstream` until its thread ends.
pub(super) async fn run(
    listener: std::net::TcpListener,
    upstream: SocketAddr,
    way: watch::Receiver<Way>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                spawn_local(carry(client, upstream, way.clone()));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn carry(client: TcpStream, upstream: SocketAddr, mut way: watch::Receiver<Way>) {
    let born = way.borrow().cuts;
    let mut tasks = JoinSet::new();
    let mut open = way.clone();
    tasks.spawn_local(async move {
        if open.wait_for(|way| !way.is_black_hole).await.is_err() {
            return;
        }
        let Ok(server) = TcpStream::connect(upstream).await else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        // A cut is to be seen at once, whatever is still in a buffer.
        let _ = (client.set_zero_linger(), server.set_zero_linger());
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = server.into_split();
        tokio::select! {
            () = pass(client_read, server_write, open.clone()) => {}
            () = pass(server_read, client_write, open) => {}
        }
    });
    tokio::select! {
        _ = tasks.join_next() => {}
        _ = way.wait_for(|way| way.cuts != born) => {}
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
) {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let Ok(taken) = from.read(&mut piece).await else { return };
        let is_open = way.wait_for(|way| !way.is_black_hole).await.is_ok();
        if taken == 0 || !is_open || to.write_all(&piece[..taken]).await.is_err() {
            return;
        }
    }
}
