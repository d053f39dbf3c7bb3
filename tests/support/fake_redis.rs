//! A server that takes commands as Redis does, and answers what a test wants.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};

/// What is answered to the words of a command, the first in capitals; nothing: it ends there.
type Answer = dyn Fn(&[&str]) -> Vec<u8> + Send + Sync;

/// Starts one and returns its address; it ends with the test's process.
pub(crate) fn answers(answer: impl Fn(&[&str]) -> Vec<u8> + Send + Sync + 'static) -> String {
    let answer: Arc<Answer> = Arc::new(answer);
    accepts(move |stream| {
        let mut input = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        while let Some(words) = command(&mut input) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let bytes = answer(&words);
            if bytes.is_empty() || stream.write_all(&bytes).is_err() {
                return;
            }
        }
    })
}

/// Starts a server that does this with each connection, and returns its address.
pub(crate) fn accepts(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream.unwrap()));
        }
    });
    address
}

/// An error of several lines, or of anything else.
pub(crate) fn error(text: &[u8]) -> Vec<u8> {
    [format!("!{}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat()
}

fn command(input: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut words = Vec::new();
    for _ in 0..number(input)? {
        let mut word = vec![0; number(input)? + 2];
        input.read_exact(&mut word).ok()?;
        word.truncate(word.len() - 2);
        words.push(String::from_utf8_lossy(&word).into_owned());
    }
    words.first_mut()?.make_ascii_uppercase();
    Some(words)
}

/// The number of a line like `*3` or `$5`.
fn number(input: &mut BufReader<TcpStream>) -> Option<usize> {
    let mut line = String::new();
    input.read_line(&mut line).ok()?;
    line.trim().get(1..)?.parse().ok()
}
