//! A process that Redis knows by a user of its own, so that it alone can be shut out and let in
//! again.

use crate::{process::Process, redis_server::RedisServer, repair::settings};

/// A process that Redis knows by a user of its own, so that it can be shut out.
pub(crate) async fn start_guest(server: &RedisServer, shards: usize) -> Process {
    let rules = ["on", ">pass", "~*", "&*", "+@all"];
    assert_eq!(server.cli(&[&["ACL", "SETUSER", "guest"], &rules[..]].concat()), "OK");
    let mut settings = settings(server);
    let url = format!("redis://guest:pass@{}", server.address());
    settings.redis.as_mut().unwrap().url = url;
    Process::start(settings, shards).await
}

pub(crate) async fn shut_out(server: &RedisServer, guest: &Process) {
    assert_eq!(server.cli(&["ACL", "SETUSER", "guest", "off"]), "OK");
    server.cli(&["CLIENT", "KILL", "USER", "guest"]);
    guest.lost().await;
}

pub(crate) fn let_in(server: &RedisServer) {
    assert_eq!(server.cli(&["ACL", "SETUSER", "guest", "on"]), "OK");
}
