//! The descriptors of a server: none of its own gets into a process that it starts.

use std::{collections::BTreeSet, fs};

use rustix::fs::OFlags;

use crate::support::{client::Client, http::get, server::Launch};

/// Descriptors of a process that a program which it starts would have, too.
fn inheritable(pid: &str) -> BTreeSet<String> {
    let numbers = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    let numbers = numbers.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_inheritable = |number: &String| {
        // One that was closed meanwhile has no flags.
        let Ok(info) = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")) else {
            return false;
        };
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        u32::from_str_radix(flags.trim(), 8).unwrap() & OFlags::CLOEXEC.bits() == 0
    };
    numbers.filter(is_inheritable).collect()
}

/// A new process gets sockets by the hand-over alone: had it others, clients that it does not know
/// of would never see the end of their connection.
#[test]
fn no_descriptor_gets_into_a_new_process() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let unix = format!("unix:{}", path("socket"));
    let args = ["--admin-listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--listen", &unix];
    let control = path("control");
    let args = [&args[..], &["--control-socket", &control]].concat();
    let server = Launch::on_a_free_port(&args).start();
    let client = Client::connect(server.addr());
    get(server.admin(), "/metrics").assert_status(200);
    let pid = server.pid().to_string();
    // Those that this process has for its children, and the standard streams.
    let inherited: BTreeSet<String> =
        inheritable("self").into_iter().chain(["0", "1", "2"].map(String::from)).collect();
    let own: BTreeSet<_> = inheritable(&pid).difference(&inherited).cloned().collect();
    assert_eq!(own, BTreeSet::new());
    client.leave();
}
