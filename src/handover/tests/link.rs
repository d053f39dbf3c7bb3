//! A link with good messages, bad messages, and none.

use std::{
    io::IoSlice,
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd},
    time::Duration,
};

use super::{super::link::is_admitted, *};
use crate::limits::{LINK_DESCRIPTORS_MAX, LINK_MESSAGE_BYTES_MAX};
use rustix::{
    cmsg_space,
    io::fcntl_getfd,
    net::{
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg, sockopt::set_socket_passcred,
    },
};

const SOON: Duration = Duration::from_secs(5);

/// A message as only a program with other rules sends it.
fn misuse(link: &Link, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    sendmsg(link.raw(), &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
}

#[tokio::test]
async fn messages_arrive_whole_with_their_descriptors() {
    let (one, mut other) = Link::pair().unwrap();
    let longest = vec![7; LINK_MESSAGE_BYTES_MAX];
    let (near, far) = traced();
    let lent = vec![near.as_fd(); LINK_DESCRIPTORS_MAX];
    one.send(b"first", &lent, SOON).await.unwrap();
    one.send(&longest, &[], SOON).await.unwrap();
    let first = other.receive(SOON).await.unwrap();
    assert_eq!((&*first.bytes, first.descriptors.len()), (&b"first"[..], LINK_DESCRIPTORS_MAX));
    for descriptor in &first.descriptors {
        let flags = fcntl_getfd(descriptor).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "no child inherits it");
    }
    let second = other.receive(SOON).await.unwrap();
    assert_eq!((second.bytes, second.descriptors.len()), (longest, 0));
    drop(first.descriptors);
    assert!(!is_closed(&far), "the sender's own stays");
    drop(near);
    assert!(is_closed(&far));
}

#[tokio::test]
async fn messages_that_are_not_allowed_are_not_sent() {
    let (one, mut other) = Link::pair().unwrap();
    let (near, _far) = traced();
    let long = vec![0; LINK_MESSAGE_BYTES_MAX + 1];
    for bytes in [&b""[..], &long] {
        let error = one.send(bytes, &[], SOON).await.unwrap_err();
        assert!(matches!(error, LinkError::BadLength), "{error}");
    }
    let many = vec![near.as_fd(); LINK_DESCRIPTORS_MAX + 1];
    let error = one.send(b"x", &many, SOON).await.unwrap_err();
    assert!(matches!(error, LinkError::BadLength), "{error}");
    one.send(b"x", &[], SOON).await.unwrap();
    assert_eq!(other.receive(SOON).await.unwrap().bytes, b"x", "nothing came before");
}

#[tokio::test]
async fn descriptors_of_a_bad_message_are_closed() {
    let (one, mut other) = Link::pair().unwrap();
    let long = vec![0; LINK_MESSAGE_BYTES_MAX + 1000];
    // Too many descriptors for the receiver; too long; empty.
    for (bytes, count) in [(&b"x"[..], 253), (&long, 3), (b"", 3)] {
        let (near, far) = traced();
        misuse(&one, bytes, &vec![near.as_fd(); count]);
        let error = other.receive(SOON).await.unwrap_err();
        match bytes.len() {
            1 => assert!(matches!(error, LinkError::DescriptorsLost), "{error}"),
            _ => assert!(matches!(error, LinkError::BadLength), "{error}"),
        }
        drop(near);
        assert!(is_closed(&far), "{} bytes, {count} descriptors", bytes.len());
    }
}

/// The system installs as many as there is room for, and says so.
#[tokio::test]
async fn descriptors_that_came_without_others_are_closed() {
    let (one, mut other) = Link::pair().unwrap();
    let (near, far) = traced();
    // The sender's credentials take some of the room.
    set_socket_passcred(other.raw(), true).unwrap();
    one.send(b"x", &vec![near.as_fd(); LINK_DESCRIPTORS_MAX], SOON).await.unwrap();
    let error = other.receive(SOON).await.unwrap_err();
    assert!(matches!(error, LinkError::DescriptorsLost), "{error}");
    drop(near);
    assert!(is_closed(&far));
}

#[tokio::test]
async fn descriptors_that_nobody_received_are_closed() {
    let (one, other) = Link::pair().unwrap();
    let (near, far) = traced();
    one.send(b"x", &[near.as_fd()], SOON).await.unwrap();
    drop(near);
    assert!(!is_closed(&far), "it is on its way");
    drop(other);
    assert!(is_closed(&far));
}

#[tokio::test(start_paused = true)]
async fn a_silent_or_full_peer_does_not_hold_anyone_up() {
    let (one, mut other) = Link::pair().unwrap();
    let error = other.receive(Duration::from_secs(2)).await.unwrap_err();
    assert!(matches!(error, LinkError::TimedOut), "{error}");
    assert!(matches!(other.receive_now(), Err(LinkError::TimedOut)));
    let piece = vec![0; LINK_MESSAGE_BYTES_MAX];
    let mut sent = 0;
    let error = loop {
        match one.send(&piece, &[], Duration::from_secs(2)).await {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LinkError::TimedOut) && (1..1000).contains(&sent), "{error}, {sent}");
    assert!(matches!(one.send_now(&piece), Err(LinkError::TimedOut)));
}

/// The system tells of the end first; what the peer had said before must not be lost with it.
#[tokio::test]
async fn a_peers_last_words_come_before_its_end() {
    for now in [false, true] {
        let (one, mut other) = Link::pair().unwrap();
        other.send(b"unread", &[], SOON).await.unwrap();
        one.send(b"last", &[], SOON).await.unwrap();
        drop(one);
        let last = if now { other.receive_now() } else { other.receive(SOON).await };
        assert_eq!(last.unwrap().bytes, b"last");
        assert!(matches!(other.receive(SOON).await, Err(LinkError::Closed)));
        assert!(matches!(other.send(b"x", &[], SOON).await, Err(LinkError::Closed)));
    }
}

/// Of a message and the end that is put before it exactly one comes first, for both sides.
#[tokio::test]
async fn a_peer_can_send_nothing_once_the_end_is_closed() {
    let (one, mut other) = Link::pair().unwrap();
    one.send(b"before", &[], SOON).await.unwrap();
    other.close_for_peer().unwrap();
    assert!(matches!(one.send(b"after", &[], SOON).await, Err(LinkError::Closed)));
    assert!(matches!(one.send_now(b"after"), Err(LinkError::Closed)));
    assert_eq!(other.receive_now().unwrap().bytes, b"before");
    assert!(matches!(other.receive_now(), Err(LinkError::Closed)));
    other.send(b"back", &[], SOON).await.expect("the other way stays open");
}

#[tokio::test]
async fn a_disturbance_is_a_message_or_the_end() {
    let (one, mut other) = Link::pair().unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(1), other.disturbed()).await;
    assert!(waited.is_err(), "nothing has happened");
    one.send(b"x", &[], SOON).await.unwrap();
    other.disturbed().await;
    assert_eq!(other.receive_now().unwrap().bytes, b"x");
    drop(one);
    other.disturbed().await;
}

#[tokio::test]
async fn both_ends_know_the_other_process() {
    let (one, other) = Link::pair().unwrap();
    let own = Peer { pid: Some(std::process::id()), user: rustix::process::geteuid().as_raw() };
    assert_eq!((one.peer(), other.peer()), (own, own));
}

#[test]
fn users_other_than_oneself_and_root_are_kept_out() {
    assert!(is_admitted(1000, 1000) && is_admitted(0, 1000) && is_admitted(0, 0));
    assert!(!is_admitted(1001, 1000) && !is_admitted(1000, 0));
}
