//! Redis' protocol, as far as a test or a tool needs it: commands and replies, at both ends.
//!
//! [`ask`] blocks, on a connection of its own per command, with a deadline: the server may be
//! stopped, killed or asleep.

use std::{
    io::{BufRead, BufReader, Read as _, Write as _},
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
    /// A value that is not there.
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
pub fn ask(address: SocketAddr, words: &[impl AsRef<[u8]>]) -> Result<Reply> {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, REPLY_DEADLINE)?;
        stream.set_read_timeout(Some(REPLY_DEADLINE))?;
        stream.set_write_timeout(Some(REPLY_DEADLINE))?;
        stream.write_all(&command(words))?;
        read(&mut BufReader::new(stream))
    };
    let said = || words.iter().map(|word| String::from_utf8_lossy(word.as_ref()).into_owned());
    ask().with_context(|| format!("{:?} to Redis at {address}", said().collect::<Vec<_>>()))
}

/// The bytes of a command.
pub fn command(words: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words.iter().map(AsRef::as_ref) {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The next command that a client sent; none once it has gone.
pub fn read_command(from: &mut impl BufRead) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    for _ in 0..number(from)? {
        let mut word = vec![0; number(from)? + 2];
        from.read_exact(&mut word).ok()?;
        word.truncate(word.len() - 2);
        words.push(word);
    }
    (!words.is_empty()).then_some(words)
}

/// The number of a line like `*3` or `$5`.
fn number(from: &mut impl BufRead) -> Option<usize> {
    let mut line = String::new();
    from.read_line(&mut line).ok()?;
    line.trim().get(1..)?.parse().ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_as_it_was_written() {
        let bytes = command(&["SET", "a\r\nb", ""]);
        assert_eq!(bytes, b"*3\r\n$3\r\nSET\r\n$4\r\na\r\nb\r\n$0\r\n\r\n");
        let read = read_command(&mut bytes.as_slice()).unwrap();
        assert_eq!(read, [b"SET".as_slice(), b"a\r\nb", b""]);
        assert_eq!(read_command(&mut &bytes[..bytes.len() - 1]), None);
    }
}
