//! Sends notices to the service manager that has started this process, if one has.
//!
//! Nothing here waits: a notice that the manager does not take now is an error. The socket is found
//! by its address each time, so a manager that comes back hears the next notice. Linux only;
//! elsewhere nothing is ever sent.

use std::{io, process::Command, time::Duration};

use super::Notice;

/// The way to the service manager.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<system::Socket>,
    watchdog: Option<Duration>,
}

/// Variables that are about one process, which a child is not.
const OF_THIS_PROCESS: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

impl Notifier {
    /// How many descriptors it holds.
    #[must_use]
    pub fn descriptors(&self) -> u64 {
        u64::from(self.socket.is_some())
    }

    /// The manager that this process's environment names, if it names one.
    ///
    /// # Errors
    /// When its address is of no kind that is known.
    pub fn from_env() -> io::Result<Self> {
        system::from_env()
    }

    /// Whether there is a manager that listens.
    #[must_use]
    pub fn has_manager(&self) -> bool {
        self.socket.is_some()
    }

    /// The time without [`Notice::Watchdog`] after which the manager restarts the process, if it
    /// watches this process.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog.filter(|limit| !limit.is_zero())
    }

    /// Sends all of these at once, in one datagram. Without a manager that is nothing.
    ///
    /// # Errors
    /// When the manager is not there, or its queue is full.
    pub fn send(&self, notices: &[Notice]) -> io::Result<()> {
        match &self.socket {
            Some(socket) if !notices.is_empty() => socket.send(notices),
            _ => Ok(()),
        }
    }

    /// Tells the manager that the process `pid` takes this one's place. Only the process that the
    /// manager knows as the main one is heard, so the old one says it of the new one.
    ///
    /// # Errors
    /// As of [`Notifier::send`].
    pub fn main_pid(&self, pid: u32) -> io::Result<()> {
        self.send(&[Notice::MainPid(pid)])
    }
}

/// Leaves out of the environment of a child that is to take this process's place what is about this
/// process alone. The manager's socket and the watchdog's limit hold for the child, too.
pub fn prepare_successor(command: &mut Command) {
    for variable in OF_THIS_PROCESS {
        command.env_remove(variable);
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::{
        ffi::OsStr,
        os::{
            linux::net::SocketAddrExt as _,
            unix::{
                ffi::OsStrExt as _,
                net::{SocketAddr, UnixDatagram},
            },
        },
    };

    use sd_notify::NotifyState;

    use super::*;

    /// An own socket, and the manager's address. The crate's own way of sending waits for a full
    /// queue, and knows no abstract addresses.
    #[derive(Debug)]
    pub(super) struct Socket {
        own: UnixDatagram,
        manager: SocketAddr,
    }

    pub(super) fn from_env() -> io::Result<Notifier> {
        match std::env::var_os("NOTIFY_SOCKET") {
            Some(address) if !address.is_empty() => {
                Notifier::at(&address, sd_notify::watchdog_enabled())
            }
            _ => Ok(Notifier::default()),
        }
    }

    impl Notifier {
        /// The manager that listens at `address`: a path, or `@` and an abstract name.
        ///
        /// # Errors
        /// When it is neither.
        pub fn at(address: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
            Ok(Self { socket: Some(Socket::to(address)?), watchdog })
        }
    }

    impl Socket {
        fn to(address: &OsStr) -> io::Result<Self> {
            let manager = match address.as_bytes() {
                [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
                [b'/', ..] => SocketAddr::from_pathname(address)?,
                _ => return Err(io::ErrorKind::Unsupported.into()),
            };
            let own = UnixDatagram::unbound()?;
            own.set_nonblocking(true)?;
            Ok(Self { own, manager })
        }

        pub(super) fn send(&self, notices: &[Notice]) -> io::Result<()> {
            let mut datagram = String::new();
            for notice in notices {
                for word in words(notice)? {
                    datagram += &word;
                    datagram.push('\n');
                }
            }
            self.own.send_to_addr(datagram.as_bytes(), &self.manager).map(drop)
        }
    }

    fn words(notice: &Notice) -> io::Result<Vec<String>> {
        let word = match notice {
            Notice::Ready => NotifyState::Ready,
            Notice::Reloading => {
                let time = NotifyState::monotonic_usec_now()?;
                return Ok(vec![NotifyState::Reloading.to_string(), time.to_string()]);
            }
            Notice::Stopping => NotifyState::Stopping,
            Notice::Status(words) => NotifyState::Status(words),
            Notice::MainPid(pid) => NotifyState::MainPid(*pid),
            Notice::Watchdog => NotifyState::Watchdog,
            Notice::ExtendTimeout(time) => {
                let time = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
                NotifyState::ExtendTimeoutUsec(time)
            }
        };
        Ok(vec![word.to_string()])
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::*;

    /// There is none.
    #[derive(Debug)]
    pub(super) enum Socket {}

    pub(super) fn from_env() -> io::Result<Notifier> {
        Ok(Notifier::default())
    }

    impl Socket {
        pub(super) fn send(&self, _notices: &[Notice]) -> io::Result<()> {
            match *self {}
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        ffi::{OsStr, OsString},
        os::{
            linux::net::SocketAddrExt as _,
            unix::net::{SocketAddr, UnixDatagram},
        },
    };

    use super::*;

    fn heard(manager: &UnixDatagram) -> String {
        let mut datagram = [0; 4096];
        let length = manager.recv(&mut datagram).expect("a datagram");
        String::from_utf8(datagram[..length].to_vec()).expect("text")
    }

    /// The manager at a path hears each notice in its own words, all of one time in one datagram.
    #[test]
    fn a_manager_at_a_path_hears_the_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::at(path.as_os_str(), None).unwrap();
        let status = Notice::Status("serving 3 clients".to_owned());
        notifier.send(&[Notice::Ready, status, Notice::Watchdog]).unwrap();
        assert_eq!(heard(&manager), "READY=1\nSTATUS=serving 3 clients\nWATCHDOG=1\n");
        let more = Notice::ExtendTimeout(Duration::from_millis(30_001));
        notifier.send(&[Notice::Stopping, more]).unwrap();
        assert_eq!(heard(&manager), "STOPPING=1\nEXTEND_TIMEOUT_USEC=30001000\n");
        notifier.send(&[Notice::Reloading]).unwrap();
        let reloading = heard(&manager);
        let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(time.trim_end().parse::<u64>().unwrap() > 0);
        notifier.main_pid(4711).unwrap();
        assert_eq!(heard(&manager), "MAINPID=4711\n");
    }

    /// The manager at an abstract address is heard of too.
    #[test]
    fn a_manager_at_an_abstract_address_hears() {
        let name = format!("wsbcast-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let notifier = Notifier::at(&OsString::from(format!("@{name}")), None).unwrap();
        notifier.send(&[Notice::Ready]).unwrap();
        assert_eq!(heard(&manager), "READY=1\n");
    }

    /// A manager that takes nothing makes nobody wait, and one that is gone does no harm; each
    /// hears the next notice when it is there again.
    #[test]
    fn a_manager_that_is_full_or_gone_makes_nobody_wait() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let notifier = Notifier::at(path.as_os_str(), None).unwrap();
        notifier.send(&[Notice::Ready]).unwrap_err();
        let manager = UnixDatagram::bind(&path).unwrap();
        // Far more than any queue holds.
        let sent = (0..100_000).take_while(|_| notifier.send(&[Notice::Watchdog]).is_ok()).count();
        assert!((1..100_000).contains(&sent), "{sent}");
        assert_eq!(heard(&manager), "WATCHDOG=1\n");
        notifier.send(&[Notice::Ready]).expect("there is room again");
    }

    /// An address of another kind is refused at the start, without a manager nothing is sent, and a
    /// watchdog without a limit does not watch.
    #[test]
    fn without_a_manager_nothing_is_sent() {
        for address in ["relative", "vsock:2:9999", ""] {
            Notifier::at(OsStr::new(address), Some(Duration::from_secs(1))).unwrap_err();
        }
        Notifier::default().send(&[Notice::Ready]).unwrap();
        let path = OsStr::new("/nonexistent/notify");
        let watchdog = |limit| Notifier::at(path, Some(limit)).unwrap().watchdog();
        assert_eq!(watchdog(Duration::ZERO), None);
        assert_eq!(watchdog(Duration::from_secs(1)), Some(Duration::from_secs(1)));
    }

    /// A child that takes this process's place is told the manager's socket, and nothing that is
    /// about this process.
    #[test]
    fn a_successor_is_not_told_what_is_about_this_process() {
        let mut command = Command::new("env");
        command.env_clear();
        command.envs(OF_THIS_PROCESS.map(|variable| (variable, "1")));
        command.envs([("NOTIFY_SOCKET", "/run/notify"), ("WATCHDOG_USEC", "1000000")]);
        prepare_successor(&mut command);
        let shown = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let mut shown: Vec<_> = shown.lines().collect();
        shown.sort_unstable();
        assert_eq!(shown, ["NOTIFY_SOCKET=/run/notify", "WATCHDOG_USEC=1000000"]);
    }
}
