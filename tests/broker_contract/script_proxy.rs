//! A proxy between a process and its Redis that has scripts answered in its own way, as a
//! provider's quota or a proxy that knows no scripts does.

use std::{
    io::{BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use testkit::resp::{command, read_command};

/// A condition on a script's keys, and the script that answers in its place.
type Rule = Option<(fn(&str) -> bool, &'static str)>;

/// Passes on whatever it gets, but for such scripts.
pub(crate) struct ScriptProxy {
    address: SocketAddr,
    rule: Arc<Mutex<Rule>>,
}

impl ScriptProxy {
    pub(crate) fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let rule = Arc::<Mutex<Rule>>::default();
        let (shared, target) = (rule.clone(), target.to_owned());
        // It ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&target) else { continue };
                let (mut back, mut front) =
                    (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = std::io::copy(&mut back, &mut front);
                    let _ = front.shutdown(std::net::Shutdown::Both);
                });
                let rule = shared.clone();
                thread::spawn(move || {
                    pass_on(client, &server, &rule);
                    let _ = server.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        Self { address, rule }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Scripts with a first key like that answer as `script` does from now on.
    pub(crate) fn answer(&self, is_meant: fn(&str) -> bool, script: &'static str) {
        *self.rule.lock().unwrap() = Some((is_meant, script));
    }

    pub(crate) fn pass(&self) {
        *self.rule.lock().unwrap() = None;
    }
}

fn pass_on(client: TcpStream, mut server: &TcpStream, rule: &Mutex<Rule>) {
    let mut input = BufReader::new(client);
    while let Some(mut words) = read_command(&mut input) {
        let is_script = words[0].starts_with(b"EVAL") && words.len() > 3;
        if is_script
            && let Some((is_meant, script)) = *rule.lock().unwrap()
            && is_meant(&String::from_utf8_lossy(&words[3]))
        {
            words = [b"EVAL".as_slice(), script.as_bytes(), b"0"].map(<[u8]>::to_vec).into();
        }
        if server.write_all(&command(&words)).is_err() {
            return;
        }
    }
}
