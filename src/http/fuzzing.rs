//! Properties of HTTP connections: requests as anybody may write them, through everything but the
//! sockets.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    runtime::Builder,
};

pub(crate) use super::routes::queries;
use super::{
    driver::Handed,
    tests::{FOREIGN, Fixture, LOCAL, settle},
};

/// A connection from this machine is asked for its owner by its first bytes: these are never cut.
const WHOLE_FROM_US: usize = 10;

/// Everything that comes of a connection.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// The answers, but for their dates.
    answers: String,
    published: String,
    /// The bytes behind a request that ended HTTP.
    frames: Option<Vec<u8>>,
}

impl Outcome {
    /// Forgets the answer to a head that is none, which is the last of its connection.
    fn forget_refusal(&mut self) {
        const REFUSALS: [&str; 3] = ["this is no request", "unsupported_version", "head_too_large"];
        let errors = ["HTTP/1.1 4", "HTTP/1.1 5"].map(|error| self.answers.rfind(error));
        if let Some(last) = errors.into_iter().flatten().max()
            && REFUSALS.iter().any(|refusal| self.answers[last..].contains(refusal))
        {
            self.answers.truncate(last);
        }
    }
}

/// Any bytes are answered the same however they are cut, in answers that are HTTP, and nothing is
/// held once the connection has ended.
pub(crate) fn requests(input: &[u8]) {
    let Some((&[flags, cut], bytes)) = input.split_first_chunk() else { return };
    let (peer, begin) = if flags & 1 == 0 { (FOREIGN, 0) } else { (LOCAL, WHOLE_FROM_US) };
    let mut whole = ask(peer, &[bytes]);
    // Without the methods the lengths of answers are not known.
    if !bytes.windows(4).any(|word| word == b"HEAD") {
        check(&whole.answers);
    }
    let cut = begin.max(bytes.len() * usize::from(cut) / 256).min(bytes.len());
    let (first, second) = bytes.split_at(cut);
    let mut parts = ask(peer, &[first, second]);
    if parts != whole {
        // hyper refuses a head that it cannot read by whatever part of it is there.
        parts.forget_refusal();
        whole.forget_refusal();
        assert_eq!(parts, whole, "cut in two");
    }
}

fn ask(peer: &str, pieces: &[&[u8]]) -> Outcome {
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("it needs no IO");
    runtime.block_on(async {
        let server = Fixture::new().start();
        let (serving, client) = server.connect(peer);
        let (frames, answers) = tokio::join!(served(serving), asked(client, pieces));
        assert_eq!(server.control.barrier.clients(), 0, "a guard is left");
        let published = format!("{:?}", server.broker.published.borrow());
        Outcome { answers, published, frames }
    })
}

async fn served(serving: impl Future<Output = Option<Handed<DuplexStream>>>) -> Option<Vec<u8>> {
    let Handed { mut stream, leftover, handover } = serving.await?;
    let mut frames = leftover.to_vec();
    stream.read_to_end(&mut frames).await.expect("memory is read to its end");
    drop(handover);
    Some(frames)
}

async fn asked(mut client: DuplexStream, pieces: &[&[u8]]) -> String {
    for piece in pieces {
        // A connection that has ended takes no more.
        let _ = client.write_all(piece).await;
        settle().await;
    }
    let _ = client.shutdown().await;
    let mut answers = Vec::new();
    client.read_to_end(&mut answers).await.expect("memory is read to its end");
    let answers = String::from_utf8(answers).expect("answers are text");
    let lines = answers.split_inclusive('\n').filter(|line| !line.starts_with("date: "));
    lines.collect()
}

/// Answers are heads and bodies of the length that they name, one after another.
fn check(answers: &str) {
    let mut rest = answers;
    while let Some((head, behind)) = rest.split_once("\r\n\r\n") {
        let status = head.strip_prefix("HTTP/1.1 ").or_else(|| head.strip_prefix("HTTP/1.0 "));
        let status: u16 = status.and_then(|line| line.get(..3)?.parse().ok()).expect("a status");
        let length = head.lines().filter_map(|line| line.strip_prefix("content-length: "));
        let length = length.map(|length| length.parse::<usize>().expect("a number"));
        let length: usize = length.sum();
        assert!(status >= 200 || length == 0, "{head}");
        assert!(status < 400 || behind.starts_with("{\"error\":\""), "{head}");
        assert!(status < 500 || [501, 503, 505].contains(&status), "{head}");
        rest = behind.get(length..).expect("a whole body");
    }
    assert_eq!(rest, "", "what follows is no answer");
}
