//! A shard's connection for commands: what is written on it, carried out and answered, each at its
//! own time or never.

use std::collections::VecDeque;

use bytes::Bytes;
use fred::types::Value;
use redis_protocol::resp3::types::BytesFrame;

use super::{SHARDS_EACH, model::Redis};
use crate::{
    broker::redis::net::pipeline::{Client, by_hand::OtherEnd},
    clock::Clock,
};

/// A connection, as Redis sees it.
#[derive(Debug)]
pub(super) struct Wire {
    shard: usize,
    end: OtherEnd,
    /// Of which of the process' servers it is.
    reign: u64,
    /// Commands that Redis has got and not carried out yet.
    commands: VecDeque<Vec<Bytes>>,
    /// Redis has forgotten the script, and nobody has said it again. (If another process does so
    /// between two commands of this connection, the second one overtakes the first.)
    has_forgotten: bool,
    /// Answers on their way back.
    answers: VecDeque<BytesFrame>,
}

impl Wire {
    /// A connection to where the shard's process is led.
    pub(super) fn connect(clock: Clock, redis: &Redis, shard: usize) -> (Client, Self) {
        let (client, end) = OtherEnd::new(clock);
        let reign = redis.reigns.borrow()[shard / SHARDS_EACH];
        let (commands, answers) = (VecDeque::new(), VecDeque::new());
        (client, Self { shard, end, reign, commands, has_forgotten: false, answers })
    }

    /// Some bytes get to Redis.
    pub(super) fn write(&mut self, bytes_max: usize) {
        self.commands.extend(self.end.write(bytes_max));
    }

    /// Redis carries out the next command, if it can; whether there was one.
    pub(super) fn carry_out(&mut self, redis: &Redis) -> bool {
        if !redis.is_up.get() {
            return false;
        }
        let Some(command) = self.commands.pop_front() else { return false };
        let is_left = redis.reigns.borrow()[self.shard / SHARDS_EACH] != self.reign;
        let answer = match is_left {
            true => error("READONLY You can't write against a read only replica."),
            false => self.run(redis, &command),
        };
        self.answers.push_back(answer);
        true
    }

    fn run(&mut self, redis: &Redis, command: &[Bytes]) -> BytesFrame {
        self.has_forgotten |= redis.chance(5);
        if self.has_forgotten && &*command[0] == b"EVALSHA" {
            return error("NOSCRIPT No matching script. Please use EVAL.");
        }
        self.has_forgotten = false;
        if redis.chance(2) {
            return error("OOM command not allowed when used memory > 'maxmemory'.");
        }
        let answer = run(redis, self.shard / SHARDS_EACH, command);
        // Something between has garbled it.
        if redis.chance(1) { frame(Value::Integer(1)) } else { answer }
    }

    /// An answer arrives; whether there was one.
    pub(super) fn answer(&mut self) -> bool {
        let answer = self.answers.pop_front();
        answer.map(|answer| self.end.answer(answer)).is_some()
    }

    /// The connection ends; what Redis had got by then, and may still carry out.
    pub(super) fn cut(self, redis: &Redis) -> Vec<(usize, Vec<Bytes>)> {
        let is_left = redis.reigns.borrow()[self.shard / SHARDS_EACH] != self.reign;
        let process = self.shard / SHARDS_EACH;
        let commands = self.commands.into_iter().filter(|_| !is_left);
        commands.map(|command| (process, command)).collect()
    }
}

/// Runs a command that a process has sent.
pub(super) fn run(redis: &Redis, process: usize, command: &[Bytes]) -> BytesFrame {
    let words: Vec<&str> =
        command.iter().map(|word| str::from_utf8(word).expect("all is text here")).collect();
    let [_, script, keys_count, rest @ ..] = &words[..] else { panic!("a script: {words:?}") };
    let publish = &redis.scripts.publish;
    let is_publish = *script == publish.sha1 || *script == publish.source;
    assert!(is_publish, "nothing else is sent: {words:?}");
    let (keys, args) = rest.split_at(keys_count.parse().expect("a number"));
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let (server, is_away) = redis.server(process);
    frame(redis.stamp(server, is_away, keys.get(2).copied(), &args))
}

fn error(text: &'static str) -> BytesFrame {
    BytesFrame::SimpleError { data: text.into(), attributes: None }
}

fn frame(value: Value) -> BytesFrame {
    match value {
        Value::Array(parts) => {
            let data = parts.into_iter().map(frame).collect();
            BytesFrame::Array { data, attributes: None }
        }
        Value::Integer(data) => BytesFrame::Number { data, attributes: None },
        other => {
            let data = other.into_bytes().expect("scripts answer with text");
            BytesFrame::BlobString { data, attributes: None }
        }
    }
}
