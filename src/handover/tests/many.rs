//! Five thousand clients, in batches, each acknowledged.

use std::{
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use super::*;
use crate::{clock::Clock, limits::HANDOVER_BATCH_MAX};

const CLIENTS: usize = 5_000;
const SOON: Duration = Duration::from_secs(60);

/// As many as this process may have: three descriptors each, in three quarters of what there is.
fn clients() -> usize {
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap();
    (usize::try_from(limit).unwrap_or(usize::MAX) / 4).min(CLIENTS)
}

#[tokio::test]
async fn clients_by_the_thousand_arrive() {
    let count = clients();
    assert!(count > 100, "a process may have more descriptors: {count}");
    let (near, far): (Vec<OwnedFd>, Vec<_>) = (0..count).map(|_| traced()).unzip();
    let (mut one, mut other) = Link::pair().unwrap();
    let clock = Clock::start();
    let started = clock.instant();
    let sending = async {
        for batch in near.chunks(HANDOVER_BATCH_MAX) {
            let lent: Vec<_> = batch.iter().map(|client| client.as_fd()).collect();
            one.send(&vec![1; 100 * batch.len()], &lent, SOON).await.unwrap();
            one.receive(SOON).await.unwrap();
        }
        one.send(b"end", &[], SOON).await.unwrap();
    };
    let receiving = async {
        let mut came = Vec::new();
        loop {
            let packet = other.receive(SOON).await.unwrap();
            if packet.bytes == b"end" {
                return came;
            }
            came.extend(packet.descriptors);
            other.send(b"ack", &[], SOON).await.unwrap();
        }
    };
    let ((), came) = tokio::join!(sending, receiving);
    let took = clock.instant() - started;
    eprintln!("{count} clients in {took:?}, {:?} each", took / u32::try_from(count).unwrap());
    assert_eq!(came.len(), count);
    drop(near);
    let mut text = [0; 8];
    for (client, mut far) in came.into_iter().zip(&far) {
        UnixStream::from(client).write_all(b"message").unwrap();
        let length = far.read(&mut text).unwrap();
        assert_eq!(&text[..length], b"message");
        assert!(is_closed(far));
    }
}
