//! `wsbcast upgrade` beside a process that stands for the server: words and exit codes.

use std::{
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    thread,
};

use tempfile::TempDir;
use tokio::runtime::Builder;
use wsbcast::handover::{Asker, ControlSocket, Done, Identity, RefusedFor, Step, Visitor, receive};

use crate::support::server::{Ended, Launch};

fn ask(path: &Path) -> Ended {
    Launch::new(&["upgrade", "--control-socket", path.to_str().unwrap()]).run()
}

/// The command's end when the server treats it so.
fn asked(server: impl AsyncFnOnce(Asker)) -> Ended {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("control");
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = ControlSocket::bind(&path).unwrap();
        let command = thread::spawn(move || ask(&path));
        let link = socket.accept().await.unwrap().unwrap();
        match receive(link, Identity::own("1.0.0")).await.unwrap() {
            Visitor::Asker(asker) => server(asker).await,
            other @ Visitor::NewProcess(_) => panic!("{other:?}"),
        }
        command.join().unwrap()
    })
}

/// An upgrade that is done is told with what it was, and its steps before, each once.
#[test]
fn an_upgrade_that_is_done_exits_0() {
    let ended = asked(async |asker| {
        for step in [Step::Greeting, Step::Building, Step::Ahead, Step::Ahead, Step::Commit] {
            asker.progress(step);
        }
        asker.done(Done { pid: 4711, pause_ms: 23, clients: 18_000 }).await;
    });
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout, "process 4711 serves now: 18000 clients, 23 ms of pause\n");
    let steps: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(steps.len(), 4, "{steps:?}");
    assert_eq!(steps[0], "wsbcast upgrade: a new process starts");
}

#[test]
fn an_upgrade_that_is_rolled_back_exits_1() {
    let ended = asked(async |asker| asker.rolled_back("the program is not there").await);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    let told = "wsbcast upgrade: rolled back, the old process goes on: the program is not there\n";
    assert_eq!(ended.stderr, told);
}

#[test]
fn an_upgrade_that_is_refused_exits_1() {
    let text = "busy: another upgrade is under way";
    let ended = asked(async |asker| asker.refuse(RefusedFor::Busy, text).await);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stderr, format!("wsbcast upgrade: the old process refuses: {text}\n"));
}

/// A server that is lost sight of has not said how it went.
#[test]
fn an_upgrade_without_an_end_exits_1() {
    let ended = asked(async |asker| {
        asker.progress(Step::State);
        drop(asker);
    });
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    assert!(ended.stderr.contains("the other process has closed the connection"), "{ended:?}");
}

/// Nobody is there: no file, a file without a process, another kind of socket.
#[test]
fn nobody_to_be_asked_exits_4() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    drop(UnixListener::bind(at("stale")).unwrap());
    let _other_kind = UnixListener::bind(at("stream")).unwrap();
    for (name, code) in [("nothing", 4), ("stale", 4), ("stream", 1)] {
        let ended = ask(&at(name));
        assert_eq!(ended.code, Some(code), "{name}: {ended:?}");
        assert_eq!(ended.stdout, "", "{name}");
        if code == 4 {
            let told = format!("wsbcast upgrade: no server listens at {}\n", at(name).display());
            assert_eq!(ended.stderr, told);
        }
    }
}

/// Options of a server are none of the command's; without a path there is nobody to be asked.
#[test]
fn bad_options_of_an_upgrade_exit_2() {
    for line in [&["upgrade"][..], &["upgrade", "--control-socket="], &["upgrade", "--threads=2"]] {
        let ended = Launch::new(line).run();
        assert_eq!(ended.code, Some(2), "{line:?}: {ended:?}");
    }
    let path: PathBuf = "/nonexistent/control".into();
    let variable = path.to_str().unwrap();
    let ended = Launch::new(&["upgrade"]).env("WSBCAST_CONTROL_SOCKET", variable).run();
    assert_eq!(ended.code, Some(4), "{ended:?}");
}
