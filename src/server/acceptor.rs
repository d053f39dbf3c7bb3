//! The control thread's own accepting: the admin listener, and where the system can't spread
//! connections over several sockets, the one public acceptor that hands them to the shards.

use std::{rc::Rc, sync::Arc};

use tokio::{net::TcpListener, sync::Semaphore, time::sleep};

use crate::{
    http,
    limits::{ACCEPT_BACKOFF, ADMIN_CONNECTIONS_MAX},
    shard::{
        accept::complain,
        mailbox::{Mail, Mailbox},
    },
};

/// Serves the admin routes, for ever.
pub(super) async fn serve_admin(listener: TcpListener, context: Rc<http::Context>) {
    let permits = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let context = context.clone();
                tokio::task::spawn_local(async move {
                    let upgraded = http::serve(stream, peer, &context).await;
                    debug_assert!(upgraded.is_none(), "admin listeners upgrade nothing");
                    drop(permit);
                });
            }
            Err(error) => {
                complain(&error);
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// Accepts for all shards and hands the connections out in turn, for ever.
pub(super) async fn hand_out(listener: TcpListener, mailboxes: Vec<Arc<Mailbox>>) {
    for mailbox in mailboxes.iter().cycle() {
        let stream = loop {
            match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => break stream,
                Err(error) => {
                    complain(&error);
                    sleep(ACCEPT_BACKOFF).await;
                }
            }
        };
        mailbox.post(Mail::Connection(stream));
    }
}
