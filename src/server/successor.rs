//! The process that is to take this one's place: the same program as it is installed now.
//!
//! [`Program`] is what a process remembers of its own start: the path that it was called by, which
//! an installation may have given to a newer file since, and its arguments. A [`Successor`] is the
//! child that was started of it. It has the environment, the working directory, the standard
//! streams and the process group of this one, so that whatever held for the first start holds for
//! it. Until the last word of the hand-over it is this process' to end; from there on it is free.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::MetadataExt as _,
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
};

use tokio::{
    task::spawn_local,
    time::{sleep, timeout},
};

use super::upgrades::{Launch, Launched};
use crate::{
    limits::{SUCCESSOR_END_GRACE, SUCCESSOR_LOOK_INTERVAL},
    service_manager::prepare_successor,
};

/// The option that makes a process take over.
const TAKE_OVER: &str = "--take-over";
/// Its variable.
const TAKE_OVER_VARIABLE: &str = "WSBCAST_TAKE_OVER";
/// The file that this process was started from, whatever its name is now.
const RUNNING_FILE: &str = "/proc/self/exe";

/// The program of a process, and how it was called.
#[derive(Clone, Debug)]
pub struct Program {
    file: PathBuf,
    /// The name that it was called by first.
    arguments: Vec<OsString>,
}

impl Program {
    /// This process' own, to be asked for at its start: later its file may have another name. The
    /// arguments begin with the name that it was called by. If that leads to its file, a new
    /// process is found by it, too, also where a symbolic link leads to another file by then.
    ///
    /// # Errors
    /// When the system does not say which file it is.
    pub fn of_this_process(arguments: impl IntoIterator<Item = OsString>) -> io::Result<Self> {
        let arguments: Vec<_> = arguments.into_iter().collect();
        let called = arguments.first().and_then(|name| path_of(name));
        let file = match called.filter(|path| is_running_file(path)) {
            Some(path) => path,
            None => env::current_exe()?,
        };
        Ok(Self { file, arguments })
    }

    /// Starts it so that it takes over from the process that listens at `control_socket`.
    ///
    /// # Errors
    /// A sentence's end for people: it is not there, or no program.
    pub(super) fn start(&self, control_socket: &Path) -> Result<Successor, String> {
        let file = self.file.display();
        let child = self.command(control_socket).spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("the program {file} is not there"),
            _ => format!("the program {file} cannot be started: {error}"),
        })?;
        Ok(Successor { child, is_free: false })
    }

    fn command(&self, control_socket: &Path) -> Command {
        let mut command = Command::new(&self.file);
        let mut arguments = self.arguments.iter();
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        let mut take_over = OsString::from(TAKE_OVER);
        take_over.push("=");
        take_over.push(control_socket);
        // Before all others, since these may end with `--`.
        command.arg(take_over).args(without_take_over(arguments));
        command.env_remove(TAKE_OVER_VARIABLE);
        prepare_successor(&mut command);
        command
    }
}

/// The arguments without the option to take over, in either of its forms.
fn without_take_over<'a>(
    arguments: impl Iterator<Item = &'a OsString>,
) -> impl Iterator<Item = &'a OsString> {
    let mut is_its_value = false;
    let mut are_options = true;
    arguments.filter(move |argument| {
        if std::mem::take(&mut is_its_value) {
            return false;
        }
        are_options &= *argument != "--";
        let is_it = are_options && *argument == TAKE_OVER;
        is_its_value = is_it;
        let prefix = [TAKE_OVER.as_bytes(), b"="].concat();
        !(is_it || are_options && argument.as_bytes().starts_with(&prefix))
    })
}

/// The path that a name leads to, as it does for a shell.
fn path_of(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return std::path::absolute(name).ok();
    }
    let folders = env::var_os("PATH")?;
    let paths = env::split_paths(&folders).map(|folder| folder.join(name));
    let path = { paths }.find(|path| path.is_file())?;
    std::path::absolute(path).ok()
}

fn is_running_file(path: &Path) -> bool {
    let number = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    number(path).is_some_and(|found| number(Path::new(RUNNING_FILE)) == Some(found))
}

/// A child that is to take over. Unless it was set free, it is ended when this is dropped.
#[derive(Debug)]
pub(super) struct Successor {
    child: Child,
    is_free: bool,
}

impl Successor {
    /// Its end, once it has come; `None`: the system does not say how.
    ///
    /// # Cancel safety
    /// May be dropped.
    async fn status(&mut self) -> Option<ExitStatus> {
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Err(_) => return None,
                Ok(None) => sleep(SUCCESSOR_LOOK_INTERVAL).await,
            }
        }
    }

    /// Has it end if it is not free, and takes note of its end, as nobody else would.
    async fn end(mut self) {
        if !self.is_free && timeout(SUCCESSOR_END_GRACE, self.status()).await.is_err() {
            // It hangs, with copies of sockets that it has not touched.
            let _ = self.child.kill();
        }
        self.status().await;
    }
}

impl Launch for Option<Program> {
    type Child = Successor;

    fn launch(&self, control_socket: &Path) -> Result<Successor, String> {
        let unknown = || "this process does not know the file of its own program".to_owned();
        self.as_ref().ok_or_else(unknown)?.start(control_socket)
    }
}

impl Launched for Successor {
    fn pid(&self) -> u32 {
        self.child.id()
    }

    async fn ended(&mut self) -> String {
        match self.status().await {
            Some(status) => in_words(status),
            None => "it has ended".to_owned(),
        }
    }

    fn set_free(&mut self) {
        self.is_free = true;
    }

    fn let_go(self) {
        spawn_local(self.end());
    }

    fn end_at_once(mut self) {
        // It fails for one that has ended.
        let _ = self.child.kill();
        spawn_local(self.end());
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        // Its end is not waited for, since this process ends, too.
        if !self.is_free && matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
        }
    }
}

/// How a process has ended.
fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it has ended with exit code {code}, its log says why"),
        (None, Some(signal)) => format!("signal {signal} has ended it"),
        (None, None) => "it has ended".to_owned(),
    }
}

#[cfg(test)]
mod tests;
