//! Redis' protocol, as far as a test or a tool needs it: a command, its reply.
//!
//! Blocking, on a connection of its own per command, with a deadline: what is spoken to may be
//! stopped, killed or asleep.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

/// Longer than any sleep that is asked for.
const REPLY_DEADLINE: Duration = Duration::from_secs(5);
/// Replies here are lists of keys and nodes.
const REPLY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A status, a number or a string.
    Text(String),
    /// What is not there.
    Nothing,
    /// Several.
    List(Vec<Self>),
}

impl Reply {
    /// As text; empty if it is none.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Nothing | Self::List(_) => "",
        }
    }

    /// The texts of a list.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::List(list) => list.iter().map(|one| one.text().to_owned()).collect(),
            Self::Text(_) | Self::Nothing => Vec::new(),
        }
    }
}

/// Sends a command and waits for its reply; Redis' own errors are errors.
pub fn ask(address: SocketAddr, words: &[&str]) -> Result<Reply> {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, REPLY_DEADLINE)?;
        stream.set_read_timeout(Some(REPLY_DEADLINE))?;
        stream.set_write_timeout(Some(REPLY_DEADLINE))?;
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command += &format!("${}\r\n{word}\r\n", word.len());
        }
        stream.write_all(command.as_bytes())?;
        read(&mut BufReader::new(stream))
    };
    ask().with_context(|| format!("{} to Redis at {address}", words.join(" ")))
}

fn read(from: &mut BufReader<TcpStream>) -> Result<Reply> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let line = line.strip_suffix("\r\n").context("the connection was closed")?;
    let (kind, rest) = line.split_at_checked(1).context("an empty line")?;
    let length = || -> Result<Option<usize>> {
        let length: i64 = rest.parse()?;
        let length = usize::try_from(length).ok();
        ensure!(length.unwrap_or(0) <= REPLY_BYTES_MAX, "a reply of {rest}");
        Ok(length)
    };
    Ok(match kind {
        "+" | ":" => Reply::Text(rest.to_owned()),
        "-" => bail!("{rest}"),
        "$" => match length()? {
            None => Reply::Nothing,
            Some(length) => {
                let mut text = vec![0; length + 2];
                from.read_exact(&mut text)?;
                text.truncate(length);
                Reply::Text(String::from_utf8_lossy(&text).into_owned())
            }
        },
        "*" => match length()? {
            None => Reply::Nothing,
            Some(length) => Reply::List((0..length).map(|_| read(from)).collect::<Result<_>>()?),
        },
        _ => bail!("not a reply: {line}"),
    })
}
