//! Messages of which nothing was written, since their connection ended before or had too much to
//! write: while Redis is there they go once more, in their order, before what comes after them.

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;
use tokio::{
    task::{JoinHandle, spawn_local, yield_now},
    time::sleep,
};

use super::{
    ALL, SHARDS,
    away::View,
    listener::Recorded,
    model::Redis,
    publishing::message,
    settings::{block_on, process, recoverer},
    wire,
};
use crate::{
    broker::{
        PublishError, Receipt, Sink,
        redis::{
            commands::router::CommandRouter, net::pipeline::by_hand::OtherEnd, process::Process,
            publish::Publisher,
        },
    },
    channel::ChannelName,
    limits::{PUBLISH_CONFIRM_DEADLINE, REDIS_UNSENT_BYTES_MAX, UNSENT_PAUSE},
};

type Answer = JoinHandle<Result<Receipt, PublishError>>;

/// A shard of a process that publishes in a Redis which is there.
struct Stage {
    redis: Rc<Redis>,
    process: Arc<Process>,
    router: Rc<CommandRouter>,
    publisher: Rc<Publisher>,
}

impl Stage {
    fn new() -> Self {
        let redis = Rc::new(Redis::new(fastrand::Rng::with_seed(1), SHARDS, ALL, false));
        let recorded = Arc::new(Recorded::default());
        let process = Arc::new(process(ALL, vec![recorded as Arc<dyn Sink>]));
        let view = Rc::new(View { redis: redis.clone(), process: 0 });
        let router = recoverer(&process, 0, view).router.clone();
        let publisher = Rc::new(Publisher::new(process.clone(), router.clone()));
        let now = process.clock.now();
        process.health.heartbeat_returned(0, now, now);
        Self { redis, process, router, publisher }
    }

    /// A connection.
    fn connect(&self) -> OtherEnd {
        let (client, end) = OtherEnd::new(self.process.clock);
        self.router.connections[0].lead(Some(client));
        end
    }

    fn say(&self, text: &str) -> Answer {
        let publisher = self.publisher.clone();
        let message = message(&ChannelName::new("a").unwrap(), text, None);
        spawn_local(async move { publisher.publish(message).await })
    }

    /// All that is written is carried out and answered; the lengths of the texts among it.
    fn carry_out(&self, end: &mut OtherEnd) -> Vec<usize> {
        let commands = end.write(usize::MAX);
        commands.iter().for_each(|command| end.answer(wire::run(&self.redis, 0, command)));
        let is_text = |word: &&Bytes| word.starts_with(b"text");
        let length = |command: &Vec<Bytes>| command.iter().find(is_text).unwrap().len();
        commands.iter().map(length).collect()
    }
}

/// A text of a length of its own.
fn text(number: usize) -> String {
    "text".to_owned() + &"-".repeat(number)
}

fn place(answer: Result<Receipt, PublishError>) -> Option<u64> {
    match answer {
        Ok(Receipt::Cluster(position)) => Some(position.offset),
        Ok(_) | Err(_) => None,
    }
}

/// On the next connection, in order, unless some byte was written.
/// Regression: they were kept to the process, though Redis was there.
#[test]
fn messages_not_written_go_on_the_next_connection() {
    block_on(async {
        for (bytes_written, in_doubt) in [(0, 0), (10, 1)] {
            let stage = Stage::new();
            let mut end = stage.connect();
            let mut answers: Vec<_> = (0..3).map(|number| stage.say(&text(number))).collect();
            yield_now().await;
            assert!(end.write(bytes_written).is_empty());
            stage.router.connections[0].lead(None);
            drop(end);
            answers.push(stage.say(&text(3)));
            yield_now().await;
            let mut end = stage.connect();
            answers.push(stage.say(&text(4)));
            sleep(2 * UNSENT_PAUSE).await;
            let expected: Vec<_> = (in_doubt..5).map(|number| text(number).len()).collect();
            let mut written = Vec::new();
            for _ in 0..expected.len() {
                written.extend(stage.carry_out(&mut end));
                yield_now().await;
            }
            assert_eq!(written, expected);
            let mut places = (1..).map(Some);
            for (number, answer) in answers.into_iter().enumerate() {
                let answer = answer.await.unwrap();
                match number < in_doubt {
                    true => assert_eq!(answer, Err(PublishError::Unconfirmed)),
                    false => assert_eq!(place(answer), places.next().unwrap()),
                }
            }
        }
    });
}

/// As soon as there is room. A smaller one that would find some at once does not overtake it.
#[test]
fn messages_without_room_go_when_there_is_some() {
    block_on(async {
        let stage = Stage::new();
        let mut end = stage.connect();
        // Two of them find room, whose publishers do not wait any more; a third one does not.
        let large = text(REDIS_UNSENT_BYTES_MAX / 5 * 2);
        for _ in 0..2 {
            let left = stage.say(&large);
            yield_now().await;
            left.abort();
            assert!(left.await.unwrap_err().is_cancelled());
        }
        let answers = [stage.say(&large), stage.say(&text(1))];
        yield_now().await;
        assert_eq!(stage.carry_out(&mut end), [large.len(); 2]);
        sleep(2 * UNSENT_PAUSE).await;
        let mut written = stage.carry_out(&mut end);
        yield_now().await;
        written.extend(stage.carry_out(&mut end));
        assert_eq!(written, [large.len(), text(1).len()]);
        for (answer, expected) in answers.into_iter().zip([3, 4]) {
            assert_eq!(place(answer.await.unwrap()), Some(expected));
        }
    });
}

/// No longer than any publish.
#[test]
fn messages_never_written_are_kept_here_in_time() {
    block_on(async {
        let stage = Stage::new();
        let began = stage.process.clock.now();
        drop(stage.connect());
        let answer = stage.say(&text(0)).await.unwrap();
        assert_eq!(answer, Ok(Receipt::Local));
        assert!(stage.process.clock.now() - began <= PUBLISH_CONFIRM_DEADLINE);
        assert!(stage.redis.held.borrow().texts.is_empty());
    });
}
