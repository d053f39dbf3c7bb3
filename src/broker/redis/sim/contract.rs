//! The model's script and the real one, in a real Redis, are told the same and answer the same.
//!
//! The simulation is worth as much as this agreement. The seeds give keys, quotas, two
//! publishers, streams of different lengths, and a channel whose state is lost.

use std::net::SocketAddr;

use fred::types::Value;
use testkit::{
    redis::RedisServer,
    resp::{self, Reply},
};

use super::held::Held;
use crate::broker::redis::protocol::{
    envelope,
    scripts::{Script, Scripts},
};

const SEEDS: u64 = 24;
const STEPS: usize = 40;

#[test]
fn the_model_publishes_as_the_script_does() {
    let server = RedisServer::start();
    let address: SocketAddr = server.address().parse().expect("an address");
    let mut told = [0; 4];
    for seed in 0..SEEDS {
        eprintln!("seed {seed}");
        let mut both = Both::new(seed, address);
        (0..STEPS).for_each(|_| both.step());
        told.iter_mut().zip(both.told).for_each(|(all, one)| *all += one);
    }
    // Published, known by its key, refused, and a stream ended.
    assert!(told.iter().all(|count| *count > 10), "{told:?}: too tame");
}

/// One channel in Redis and in the model.
struct Both {
    random: fastrand::Rng,
    seed: u64,
    address: SocketAddr,
    scripts: Scripts,
    held: Held,
    messages_max: usize,
    half_bytes: usize,
    told: [usize; 4],
}

impl Both {
    fn new(seed: u64, address: SocketAddr) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        Self {
            seed,
            address,
            scripts: Scripts::new(false),
            held: Held::default(),
            messages_max: [0, 1, 3, 1000][random.usize(0..4)],
            half_bytes: [500, 2_000, 1 << 20][random.usize(0..3)],
            told: [0; 4],
            random,
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.seed)
    }

    fn ask(&self, script: &Script, key: Option<&String>, args: &[String]) -> Reply {
        let mut keys = vec![self.key("meta"), self.key("stream")];
        keys.extend(key.cloned());
        let mut words = vec!["EVAL".to_owned(), script.source.clone(), keys.len().to_string()];
        words.extend(keys);
        words.extend_from_slice(args);
        resp::ask(self.address, &words).expect("Redis answers")
    }

    fn step(&mut self) {
        match self.random.u8(0..20) {
            0 => {
                resp::ask(self.address, &["DEL".to_owned(), self.key("meta")]).expect("it is gone");
                self.held.lose_state();
            }
            _ => self.publish(),
        }
        let position = self.ask(&self.scripts.position, None, &[]);
        assert_eq!(position, reply(self.held.stream_position()), "where the channel stands");
        // Redis keeps some more than it must.
        let (first, count) = (self.random.u64(1..=self.held.offset + 1), self.held.kept());
        let args = [first.to_string(), count.to_string(), (1 << 30).to_string(), "100".to_owned()];
        let (real, model) =
            (self.ask(&self.scripts.read, None, &args), reply(self.held.read(first, count)));
        assert_eq!(without_life(real), without_life(model), "since {first}");
    }

    fn publish(&mut self) {
        let (seed, random) = (self.seed, &mut self.random);
        let key = random.bool().then(|| format!("{{{seed}}}:idem:{}", random.u8(0..12)));
        let full = ["", "", "", "keys", "channels", "histories", "keys channels histories"];
        let text = "x".repeat(random.usize(0..400));
        let args = [
            self.seed.to_string(),
            "t".to_owned(),
            text,
            format!("e{}", random.u32(..)),
            "60000".to_owned(),
            envelope::nonce().to_string(),
            self.messages_max.to_string(),
            "60000".to_owned(),
            self.half_bytes.to_string(),
            random.u8(0..2).to_string(),
            full[random.usize(0..full.len())].to_owned(),
            "60000".to_owned(),
        ];
        let (model, sent) = self.held.publish(key.as_deref(), &args);
        let (real, model) = (self.ask(&self.scripts.publish, key.as_ref(), &args), reply(model));
        assert_eq!(real, model, "{key:?} {args:?}");
        let words = real.texts();
        let third = words.get(2).map(String::as_str);
        assert_eq!(sent.is_some(), words.len() == 3 && third != Some("known"));
        let kind = match third {
            Some("known") => 1,
            None => 2,
            Some("ended") => 3,
            Some(_) => 0,
        };
        self.told[kind] += 1;
    }
}

/// The model's answer as it comes from Redis.
fn reply(value: Value) -> Reply {
    match value {
        Value::Null => Reply::Nothing,
        Value::Array(parts) => Reply::List(parts.into_iter().map(reply).collect()),
        Value::Integer(number) => Reply::Text(number.to_string()),
        other => Reply::Text(other.into_string().expect("it is text")),
    }
}

/// The answer without the time that the stream has left to live.
fn without_life(reply: Reply) -> Reply {
    let Reply::List(mut parts) = reply else { return reply };
    parts.remove(4);
    Reply::List(parts)
}
