//! The queue over outputs that block, fail and tear lines.

use std::sync::{Condvar, Mutex};

use super::*;

/// An output that a test holds shut, or lets fail.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<Inside>, Condvar)>);

#[derive(Default)]
struct Inside {
    shut: bool,
    fails: bool,
    written: Vec<u8>,
}

impl Gate {
    fn set(&self, change: impl FnOnce(&mut Inside)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.0.lock().unwrap().written.clone()).unwrap()
    }
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let inside = self.0.0.lock().unwrap();
        let mut inside = self.0.1.wait_while(inside, |inside| inside.shut).unwrap();
        if inside.fails {
            return Err(ErrorKind::StorageFull.into());
        }
        inside.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn start(gate: &Gate) -> LogQueue {
    let notice = |missing: &LostLines| {
        let LostLines { unread, unwritten, error } = missing;
        let error = error.as_deref().unwrap_or("none");
        format!("missing {unread} and {unwritten}: {error}\n").into_bytes()
    };
    LogQueue::start(Clock::start(), gate.clone(), notice, |_| {}).unwrap()
}

/// A thread that logs never waits, and lost lines are counted and reported.
/// One test, since dropped lines are counted for the whole process.
#[test]
fn logging_never_waits() {
    let gate = Gate::default();
    gate.set(|inside| inside.shut = true);
    let queue = start(&gate);
    for n in 0..LOG_QUEUE_LINES_MAX + 1_000 {
        queue.push(format!("{n}\n").as_bytes());
    }
    // The thread may have taken one.
    let dropped = lines_dropped();
    assert!((999..=1_000).contains(&dropped), "{dropped}");
    gate.set(|inside| inside.shut = false);
    queue.flush();
    let text = gate.text();
    let kept = LOG_QUEUE_LINES_MAX + 1_000 - usize::try_from(dropped).unwrap();
    assert_eq!(text.lines().count(), kept + 1);
    assert!(text.starts_with("0\n1\n2\n"), "in order");
    let told = format!("missing {dropped} and 0: none\n");
    assert!(text.ends_with(&told), "once, when it goes on");

    gate.set(|inside| inside.shut = true);
    let before = lines_dropped();
    let line = [b'x'; 64 * 1024];
    for _ in 0..LOG_QUEUE_BYTES_MAX / line.len() + 10 {
        queue.push(&line);
    }
    assert!(lines_dropped() >= before + 10, "bytes are bounded as well");
    let unread = lines_dropped() - dropped;
    gate.set(|inside| (inside.shut, inside.fails) = (false, true));
    queue.flush();
    let before = lines_dropped();
    queue.push(b"lost\n");
    queue.flush();
    assert_eq!(lines_dropped(), before + 1, "what can't be written is as lost");
    gate.set(|inside| inside.fails = false);
    queue.push(b"after\n");
    queue.flush();
    let unwritten = lines_dropped() - dropped - unread;
    let error = io::Error::from(ErrorKind::StorageFull);
    let told = format!("after\nmissing {unread} and {unwritten}: {error}\n");
    assert!(gate.text().ends_with(&told), "told when it can be, with the reason");
}

#[test]
fn a_torn_line_does_not_spoil_the_next() {
    struct Tears(Vec<u8>, usize);
    impl Write for Tears {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 += 1;
            match self.1 {
                1 => self.0.extend_from_slice(&bytes[..2]),
                2 => return Err(ErrorKind::StorageFull.into()),
                3 => return Err(ErrorKind::WouldBlock.into()),
                4 => return Err(ErrorKind::Interrupted.into()),
                _ => self.0.extend_from_slice(bytes),
            }
            Ok(if self.1 == 1 { 2 } else { bytes.len() })
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut out_lines = LineWriter::new(Tears(Vec::new(), 0));
    assert!(!out_lines.write(b"first\n"));
    assert!(out_lines.write(b"second\n"));
    assert_eq!(out_lines.out.0, b"fi\nsecond\n");
}
