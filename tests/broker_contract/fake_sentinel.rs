//! A sentinel that says what a test wants, when it wants it: also what is wrong.
//!
//! It answers what clients ask sentinels, and nothing else; it ends with the test's runtime.

use std::{cell::RefCell, rc::Rc};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::broadcast,
};

use crate::redis_server::RedisServer;

/// Its address, and what it says.
#[derive(Clone)]
pub(crate) struct FakeSentinel {
    pub(crate) address: String,
    said: Rc<RefCell<Said>>,
    events: broadcast::Sender<String>,
}

struct Said {
    epoch: u64,
    master: String,
    replica: Option<String>,
    /// How often it was asked by those who also listen.
    asked: usize,
}

impl FakeSentinel {
    /// Names `master` under `epoch`.
    pub(crate) async fn start(epoch: u64, master: &RedisServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let said = Said { epoch, master: master.address(), replica: None, asked: 0 };
        let sentinel = Self {
            address: listener.local_addr().unwrap().to_string(),
            said: Rc::new(RefCell::new(said)),
            events: broadcast::Sender::new(16),
        };
        let serving = sentinel.clone();
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(serving.clone().serve(stream));
            }
        });
        sentinel
    }

    pub(crate) fn name(&self, epoch: u64, master: &RedisServer) {
        self.name_any(epoch, &master.address());
    }

    /// Names whatever address as the master.
    pub(crate) fn name_any(&self, epoch: u64, master: &str) {
        let mut said = self.said.borrow_mut();
        (said.epoch, said.master) = (epoch, master.to_owned());
    }

    /// From now on it answers that `replica` is a replica of the master.
    pub(crate) fn knows(&self, replica: &str) {
        self.said.borrow_mut().replica = Some(replica.to_owned());
    }

    pub(crate) fn asked(&self) -> usize {
        self.said.borrow().asked
    }

    /// Tells everyone that `replica` is to take over.
    pub(crate) fn choose(&self, address: &str) {
        let (host, port) = address.split_once(':').unwrap();
        let text = format!("slave {address} {host} {port} @ main 127.0.0.1 1");
        self.events.send(push(&["message", "+selected-slave", &text])).unwrap();
    }

    async fn serve(self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        let mut events = None;
        loop {
            let event = async {
                match &mut events {
                    Some(events) => broadcast::Receiver::recv(events).await.ok(),
                    None => std::future::pending().await,
                }
            };
            // Commands come whole on loopback, or a moment later: none is left half read.
            let answer = tokio::select! {
                filled = stream.fill_buf() => match filled {
                    Ok([]) | Err(_) => return,
                    Ok(_) => {
                        let Some(words) = command(&mut stream).await else { return };
                        if words[0] == "SUBSCRIBE" {
                            events = Some(self.events.subscribe());
                        }
                        self.answer(&words, events.is_some())
                    }
                },
                event = event => event.unwrap(),
            };
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, words: &[String], listens: bool) -> String {
        let mut said = self.said.borrow_mut();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let upper = words.get(1).map(|word| word.to_uppercase());
        match (words[0], upper.as_deref()) {
            ("HELLO", _) => "+OK\r\n".to_owned(),
            ("SUBSCRIBE", _) => {
                let confirm = |name: &&str| push(&["subscribe", name, "1"]);
                words[1..].iter().map(confirm).collect()
            }
            ("SENTINEL", Some("MASTER")) => {
                format!("*2\r\n{}", bulks(&["config-epoch", &said.epoch.to_string()]))
            }
            ("SENTINEL", Some("GET-MASTER-ADDR-BY-NAME")) => {
                said.asked += usize::from(listens);
                let (host, port) = said.master.split_once(':').unwrap();
                format!("*2\r\n{}", bulks(&[host, port]))
            }
            ("SENTINEL", Some("REPLICAS")) => match &said.replica {
                None => "*0\r\n".to_owned(),
                Some(replica) => {
                    let (host, port) = replica.split_once(':').unwrap();
                    format!("*1\r\n*4\r\n{}", bulks(&["ip", host, "port", port]))
                }
            },
            _ => "-ERR unknown command\r\n".to_owned(),
        }
    }
}

fn bulks(texts: &[&str]) -> String {
    texts.iter().map(|text| format!("${}\r\n{text}\r\n", text.len())).collect()
}

fn push(texts: &[&str]) -> String {
    format!(">{}\r\n{}", texts.len(), bulks(texts))
}

/// One command, its name in capitals.
async fn command(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let count = number(stream).await?;
    let mut words = Vec::new();
    for _ in 0..count {
        let mut word = vec![0; number(stream).await? + 2];
        stream.read_exact(&mut word).await.ok()?;
        word.truncate(word.len() - 2);
        words.push(String::from_utf8(word).unwrap());
    }
    words[0] = words[0].to_uppercase();
    Some(words)
}

/// The number of a line like `*3` or `$5`.
async fn number(stream: &mut BufReader<TcpStream>) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.trim().get(1..)?.parse().ok()
}
