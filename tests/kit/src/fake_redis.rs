//! A server that takes commands as Redis does, and answers what a test wants.
#![allow(clippy::unwrap_used, reason = "a step that fails is a failed test")]

use std::{
    io::{BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use crate::resp::read_command;

/// The answer to the words of a command, the first in capitals; without one the connection ends.
type Answer = dyn Fn(&[&str]) -> Vec<u8> + Send + Sync;

/// Starts one and returns its address; it ends with the test's process.
pub fn answers(answer: impl Fn(&[&str]) -> Vec<u8> + Send + Sync + 'static) -> String {
    let answer: Arc<Answer> = Arc::new(answer);
    accepts(move |stream| {
        let mut input = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        while let Some(words) = read_command(&mut input) {
            let mut words: Vec<String> =
                words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            words[0].make_ascii_uppercase();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let bytes = answer(&words);
            if bytes.is_empty() || stream.write_all(&bytes).is_err() {
                return;
            }
        }
    })
}

/// Starts a server of any kind that does this with each connection, and returns its address.
pub fn accepts(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
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
pub fn error(text: &[u8]) -> Vec<u8> {
    [format!("!{}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat()
}
