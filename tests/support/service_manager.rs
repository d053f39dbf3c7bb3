//! A service manager that hears what it is told, in place of systemd.

use std::{
    cell::RefCell, io::ErrorKind, os::unix::net::UnixDatagram, path::PathBuf, time::Duration,
};

use tempfile::TempDir;

use super::{PATIENCE, now};

/// Its socket, and all that it has heard.
pub(crate) struct Manager {
    folder: TempDir,
    socket: UnixDatagram,
    heard: RefCell<Vec<String>>,
}

impl Manager {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().expect("a folder can be made");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("the path is free");
        Self { folder, socket, heard: RefCell::default() }
    }

    /// The value of `NOTIFY_SOCKET`.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("notify")
    }

    /// The same as text.
    pub(crate) fn address(&self) -> String {
        self.path().to_str().expect("the path is text").to_owned()
    }

    /// All datagrams so far, with those that are waiting.
    pub(crate) fn heard(&self) -> Vec<String> {
        while self.hear(Duration::from_millis(1)) {}
        self.heard.borrow().clone()
    }

    /// Waits for a datagram that is not there yet; the next `wait_for` looks at it.
    fn hear(&self, within: Duration) -> bool {
        let mut datagram = [0; 4096];
        self.socket.set_read_timeout(Some(within)).expect("it is not zero");
        match self.socket.recv(&mut datagram) {
            Ok(length) => {
                let text = String::from_utf8(datagram[..length].to_vec()).expect("it is text");
                self.heard.borrow_mut().push(text);
                true
            }
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {
                false
            }
            Err(error) => panic!("the manager's socket: {error}"),
        }
    }

    /// Waits for the first datagram that contains all `words`; returns its number.
    #[track_caller]
    pub(crate) fn wait_for(&self, words: &[&str]) -> usize {
        self.wait_for_after(0, words)
    }

    /// The same among those from number `begin` on.
    #[track_caller]
    pub(crate) fn wait_for_after(&self, begin: usize, words: &[&str]) -> usize {
        let start = now();
        let mut looked_at = begin;
        loop {
            let heard = self.heard.borrow().clone();
            let has_all = |text: &&String| words.iter().all(|word| text.contains(word));
            if let Some(at) = heard.iter().skip(looked_at).position(|text| has_all(&text)) {
                return looked_at + at;
            }
            looked_at = heard.len().max(begin);
            assert!(start.elapsed() < PATIENCE, "{words:?} is told: {heard:#?}");
            self.hear(PATIENCE.saturating_sub(start.elapsed()).max(Duration::from_millis(1)));
        }
    }

    /// How many datagrams hold `word` in those that come within `time`.
    pub(crate) fn count_during(&self, time: Duration, word: &str) -> usize {
        let begin = self.heard().len();
        let start = now();
        while let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            self.hear(left);
        }
        self.heard.borrow().iter().skip(begin).filter(|text| text.contains(word)).count()
    }
}
