//! Programs that are started to take over: scripts in place of the server.

use std::{fs::Permissions, io::Write as _, os::unix::fs::PermissionsExt as _, time::Duration};

use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};

use super::*;

/// A folder with a script, as a program.
struct Script {
    folder: tempfile::TempDir,
    program: Program,
}

impl Script {
    fn with(lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("program");
        fs::write(&file, format!("#!/bin/sh\n{lines}\n")).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
        Self { program: Program { file, arguments: vec!["wsbcast".into()] }, folder }
    }

    fn start(&self) -> Result<Successor, String> {
        loop {
            let started = self.program.start(Path::new("/run/control"));
            // Another test starts a process just now, which still has the file open for writing.
            match &started {
                Err(reason) if reason.contains("Text file busy") => {}
                _ => return started,
            }
        }
    }

    fn error(&self) -> String {
        self.start().expect_err("it cannot be started")
    }
}

fn arguments(given: &[&str]) -> Vec<String> {
    let arguments = given.iter().map(Into::into).collect();
    let program = Program { file: "/bin/true".into(), arguments };
    let command = program.command(Path::new("/run/control"));
    command.get_args().map(|argument| argument.to_str().unwrap().to_owned()).collect()
}

/// The options are those of the old process, but that it takes over from that one.
#[test]
fn a_successor_has_the_same_arguments() {
    let ours = "--take-over=/run/control";
    assert_eq!(arguments(&["wsbcast"]), [ours]);
    assert_eq!(arguments(&[]), [ours]);
    let given = ["wsbcast", "--threads", "2", "--listen=[::1]:0"];
    assert_eq!(arguments(&given), [ours, "--threads", "2", "--listen=[::1]:0"]);
    let given = ["wsbcast", "--take-over", "/old", "--echo", "--take-over=/older"];
    assert_eq!(arguments(&given), [ours, "--echo"]);
    let others = ["--take-over-and-over", "--greeting=--take-over", "--", "--take-over"];
    let given: Vec<_> = ["wsbcast"].iter().chain(&others).copied().collect();
    assert_eq!(arguments(&given), [&[ours][..], &others].concat());
    assert_eq!(arguments(&["wsbcast", "--echo", "--take-over"]), [ours, "--echo"]);
}

/// Nothing in the environment is about the old process alone, or names another one.
#[test]
fn a_successor_is_told_of_no_foreign_sockets() {
    let program = Program { file: "/bin/true".into(), arguments: Vec::new() };
    let command = program.command(Path::new("/run/control"));
    let removed: Vec<_> = command.get_envs().filter(|(_, value)| value.is_none()).collect();
    for name in ["WSBCAST_TAKE_OVER", "LISTEN_FDS", "LISTEN_PID", "WATCHDOG_PID"] {
        assert!(removed.iter().any(|(removed, _)| *removed == name), "{name}");
    }
    assert_eq!(command.get_envs().count(), removed.len());
}

/// A new process is in the same folder, of the same group, and gets the arguments.
#[tokio::test]
async fn a_successor_is_started_in_the_same_place() {
    let script = Script::with(
        "cd \"$(dirname \"$0\")\" && echo \"$@\" > arguments && echo \"$OLDPWD\" > folder && \
         cut -d' ' -f5 /proc/self/stat > group; exit 3",
    );
    let mut successor = script.start().unwrap();
    assert_eq!(successor.ended().await, "it has ended with exit code 3, its log says why");
    let written = |name| fs::read_to_string(script.folder.path().join(name)).unwrap();
    assert_eq!(written("arguments"), "--take-over=/run/control\n");
    assert_eq!(written("folder").trim_end(), env::current_dir().unwrap().to_str().unwrap());
    let group = rustix::process::getpgrp().as_raw_nonzero().to_string();
    assert_eq!(written("group").trim_end(), group);
}

#[tokio::test]
async fn the_end_of_a_successor_is_told_in_words() {
    let script = Script::with("kill -KILL $$");
    let mut killed = script.start().unwrap();
    assert_eq!(killed.ended().await, "signal 9 has ended it");
    // It is told as often as it is asked for.
    assert_eq!(killed.ended().await, "signal 9 has ended it");
}

/// A file that is gone or no program is a reason in words, and nothing is started.
#[test]
fn a_file_that_is_no_program_is_a_reason() {
    let script = Script::with("true");
    let file = script.program.file.clone();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let error = script.error();
    assert!(error.contains("cannot be started: Permission denied"), "{error}");
    fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
    fs::write(&file, "no program\n").unwrap();
    let error = script.error();
    assert!(error.contains("cannot be started: Exec format error"), "{error}");
    fs::remove_file(&file).unwrap();
    assert_eq!(script.error(), format!("the program {} is not there", file.display()));
    let error = None::<Program>.launch(Path::new("/run/control")).unwrap_err();
    assert!(error.contains("does not know"), "{error}");
}

/// The file is found by the name that it was called by, also when that leads elsewhere later; any
/// other name is of no use.
#[test]
fn a_program_is_found_by_the_name_it_was_called_by() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("current");
    let own = env::current_exe().unwrap();
    std::os::unix::fs::symlink(&own, &link).unwrap();
    let file = |name: &Path| Program::of_this_process([name.into()]).unwrap().file;
    assert_eq!(file(&link), link);
    assert_eq!(file(Path::new("wsbcast")), own);
    assert_eq!(file(Path::new("/bin/sh")), own);
    assert_eq!(Program::of_this_process([]).unwrap().file, own);
}

/// A new process that hangs is killed after a while, and leaves no zombie.
#[tokio::test(start_paused = true)]
async fn a_successor_that_hangs_is_killed() {
    let script = Script::with("kill -STOP $$; exec sleep 1000");
    let successor = script.start().unwrap();
    let entry = PathBuf::from(format!("/proc/{}", successor.pid()));
    assert!(entry.exists());
    // Hours, of a clock that runs ahead while nothing else is to be done.
    timeout(Duration::from_secs(10 * 3600), successor.end()).await.expect("it is killed");
    assert!(!entry.exists(), "it is there, if only as a zombie");
}

/// From the last word of a hand-over on nobody ends the new process.
#[tokio::test]
async fn a_successor_that_is_free_is_spared() {
    let script = Script::with("read line < \"$(dirname \"$0\")/pipe\"; exit 7");
    let pipe = script.folder.path().join("pipe");
    make_pipe(&pipe);
    // For reading, too: nobody waits then until the other end is open.
    let mut pipe = fs::File::options().read(true).write(true).open(pipe).unwrap();
    let mut successor = script.start().unwrap();
    let pid = successor.pid();
    successor.set_free();
    drop(successor);
    // It waits for this.
    pipe.write_all(b"line\n").unwrap();
    assert_eq!(end_of(pid).exit_status(), Some(7), "not killed");
}

/// One that is not free ends with the process before, however that ends.
#[tokio::test]
async fn a_successor_that_is_dropped_is_killed() {
    let script = Script::with("exec sleep 20");
    let successor = script.start().unwrap();
    let pid = successor.pid();
    drop(successor);
    assert_eq!(end_of(pid).terminating_signal(), Some(9));
}

/// The end of a child that nobody else waits for.
fn end_of(pid: u32) -> WaitStatus {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap());
    waitpid(pid, WaitOptions::empty()).unwrap().unwrap().1
}

fn make_pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}
