//! The properties that a command connection relies on, tried on a server that sees everything: a
//! client without them fails here, and not as a message that comes twice or out of order.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::BytesMut;
use fred::types::Value;
use futures_util::future::{LocalBoxFuture, join_all};
use redis_protocol::resp3::{decode::complete::decode_bytes_mut, types::BytesFrame};

use super::*;
use crate::{
    broker::{
        RedisTls,
        redis::net::{frames::Bounds, options},
    },
    clock::Clock,
    limits::REDIS_UNSENT_BYTES_MAX,
};

/// The server's treatment of commands after the greeting.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Answers,
    Listens,
    /// It hangs up when it has got so many.
    HangsUpAfter(usize),
}

/// The keys that it received, in order.
type Got = Arc<Mutex<Vec<String>>>;

fn serve(manner: Manner) -> (SocketAddr, Got) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let got = Got::default();
    let shared = got.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let got = shared.clone();
            std::thread::spawn(move || hold(stream, manner, &got));
        }
    });
    (address, got)
}

fn hold(mut stream: TcpStream, manner: Manner, got: &Got) {
    let (mut input, mut buffer) = (BytesMut::new(), [0; 4096]);
    loop {
        while let Some((frame, _, _)) = decode_bytes_mut(&mut input).unwrap() {
            let words = words(frame);
            let answer = match words[0].as_str() {
                "HELLO" => "%1\r\n+server\r\n+redis\r\n",
                "CLIENT" => ":7\r\n",
                "EVAL" => {
                    let mut got = got.lock().unwrap();
                    got.push(words[3].clone());
                    match manner {
                        Manner::HangsUpAfter(count) if got.len() == count => return,
                        Manner::Answers => "+OK\r\n",
                        _ => "",
                    }
                }
                _ => "$0\r\n\r\n",
            };
            stream.write_all(answer.as_bytes()).unwrap();
        }
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => input.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
}

fn words(frame: BytesFrame) -> Vec<String> {
    let data = match frame {
        BytesFrame::Array { data, .. } => data,
        BytesFrame::Hello { .. } => return vec!["HELLO".to_owned()],
        other => panic!("{other:?}"),
    };
    let word = |frame| match frame {
        BytesFrame::BlobString { data, .. } => String::from_utf8(data.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    data.into_iter().map(word).collect()
}

async fn connected(address: SocketAddr) -> (Client, ConnectionTask) {
    let config = options::parse(&format!("redis://{address}"), &RedisTls::default()).unwrap();
    let server = config.server.hosts().remove(0);
    let connection = Connection::open(&config, &server).await.unwrap();
    Client::start(Clock::start(), connection, Bounds::default())
}

/// A command with this key, as a command connection would issue it.
fn command(client: &Client, key: &str) -> LocalBoxFuture<'static, Result<Value, Error>> {
    let (client, key) = (client.clone(), key.to_owned());
    Box::pin(
        async move { client.script("EVAL", "return 1".to_owned(), vec![key], Vec::new()).await },
    )
}

fn run(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build_local(Default::default()).unwrap().block_on(test);
}

fn poll_once<T>(future: &mut LocalBoxFuture<'_, T>) -> Poll<T> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(20), waiting).await.expect(what);
}

fn is_canceled(answer: &Result<Value, Error>) -> bool {
    matches!(answer, Err(error) if matches!(error.kind(), ErrorKind::Canceled))
}

/// The first poll of a command is its place in the order.
#[test]
fn the_first_poll_places_a_command_in_the_order() {
    run(async {
        let (address, got) = serve(Manner::Answers);
        let (client, _task) = connected(address).await;
        let mut order: Vec<usize> = (0..400).collect();
        fastrand::shuffle(&mut order);
        let name = |number: usize| format!("key-{number}");
        let commands = (0..400).map(|number| command(&client, &name(number)));
        let mut commands: Vec<_> = commands.collect();
        let (polled, unpolled) = order.split_at(300);
        for &number in polled {
            assert!(poll_once(&mut commands[number]).is_pending());
        }
        // Awaited in another order.
        for (number, command) in commands.into_iter().enumerate() {
            if !unpolled.contains(&number) {
                command.await.unwrap();
            }
        }
        let expected: Vec<String> = polled.iter().map(|&number| name(number)).collect();
        assert_eq!(*got.lock().unwrap(), expected, "by the first polls, and nothing else");
    });
}

#[test]
fn a_command_without_a_connection_is_canceled_at_once() {
    run(async {
        let (address, got) = serve(Manner::Answers);
        let (client, mut task) = connected(address).await;
        task.0.abort();
        let _ = (&mut task.0).await;
        assert!(is_canceled(&command(&client, "late").await));
        assert!(got.lock().unwrap().is_empty(), "nor does it go out later");
    });
}

/// A command that was written is never canceled when the server hangs up.
#[test]
fn a_written_command_is_not_canceled_by_a_hangup() {
    run(async {
        for round in 0..20 {
            let (address, got) = serve(Manner::HangsUpAfter(1 + round * 10));
            let (client, _task) = connected(address).await;
            let commands = (0..300).map(|number| command(&client, &number.to_string()));
            let answers = join_all(commands).await;
            assert!(answers.iter().all(Result::is_err), "nobody answered");
            let got = got.lock().unwrap().clone();
            for (number, answer) in answers.iter().enumerate() {
                let was_read = got.contains(&number.to_string());
                assert!(!(was_read && is_canceled(answer)), "{number} was read: {answer:?}");
            }
        }
    });
}

/// Commands that wait to be written are bounded, and those past the bound are canceled.
/// Regression: what had timed out waited on until the connection ended, and so did what followed.
#[test]
fn unwritten_commands_are_bounded() {
    run(async {
        let (address, _) = serve(Manner::Listens);
        let (client, _task) = connected(address).await;
        let key = "x".repeat(1024 * 1024);
        let most = REDIS_UNSENT_BYTES_MAX / key.len();
        let mut waiting = 0;
        // None of them is awaited any more, and nothing is written before the next await.
        let canceled = (0..2 * most).map(|_| poll_once(&mut command(&client, &key)));
        for answer in canceled {
            match answer {
                Poll::Pending => waiting += 1,
                Poll::Ready(answer) => assert!(is_canceled(&answer), "{answer:?}"),
            }
        }
        assert!((most - 1..=most).contains(&waiting), "{waiting} of {most}");
    });
}

/// A command that was written is never canceled when the client is thrown away.
#[test]
fn a_written_command_is_not_canceled_by_a_drop() {
    run(async {
        let (address, got) = serve(Manner::Listens);
        let (client, task) = connected(address).await;
        let commands = (0..50).map(|number| command(&client, &number.to_string()));
        let throw_away = async {
            until("all are written", || got.lock().unwrap().len() == 50).await;
            drop(task);
        };
        let (answers, ()) = tokio::join!(join_all(commands), throw_away);
        assert!(
            answers.iter().all(|answer| answer.is_err() && !is_canceled(answer)),
            "{answers:?}"
        );
    });
}
