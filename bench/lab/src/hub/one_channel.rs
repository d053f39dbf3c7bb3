//! All clients on one channel, and all of them take everything: the plain case, as large as it
//! gets.
//!
//! Removing in random order is the cache's worst case: each departure moves the last entry of the
//! subscriber list into the free slot, and so touches two clients at random.

use wsbcast::hub::SlowPolicy;

use super::{
    HubArgs,
    figures::{Part, largest, median},
    stage::{BUDGET_BYTES, Stage, channel, memory, timed},
};

/// Clients come, are written to, and leave in two orders.
pub(super) fn measure(args: &HubArgs) -> Part {
    let count = args.clients as f64;
    let mut part = Part::new(format!("{count} subscribers of one channel, all take everything"));
    let mut stage = Stage::new(args.size, args.backlog, SlowPolicy::Close, BUDGET_BYTES);
    let before = memory();
    let ns = timed(|| join(&mut stage, args.clients));
    part.add("memory per subscriber", (memory() - before) / count, "B");
    part.add("insert and subscribe", ns / count, "ns each");
    deliver(args, &mut stage, &mut part);
    let keys = stage.keys();
    let ns = timed(|| keys.iter().for_each(|key| stage.remove(*key)));
    part.add("remove, first come first", ns / count, "ns each");
    stage.forget_abandoned();
    let ns = timed(|| join(&mut stage, args.clients));
    part.add("insert and subscribe, into places left", ns / count, "ns each");
    let mut keys = stage.keys();
    fastrand::Rng::with_seed(1).shuffle(&mut keys);
    let ns = timed(|| keys.iter().for_each(|key| stage.remove(*key)));
    part.add("remove, at random", ns / count, "ns each");
    part
}

fn join(stage: &mut Stage, clients: usize) {
    let channel = channel(0);
    for _ in 0..clients {
        let key = stage.insert(false);
        stage.subscribe(key, &channel);
    }
}

fn deliver(args: &HubArgs, stage: &mut Stage, part: &mut Part) {
    let channel = channel(0);
    for messages in [1, args.batch] {
        let (mut appends, mut passes) = (Vec::new(), Vec::new());
        for _ in 0..args.passes {
            let ns = timed(|| (0..messages).for_each(|_| stage.publish(&channel)));
            appends.push(ns / messages as f64);
            let mut deliveries = 0;
            passes.push(timed(|| deliveries = stage.pass()) / args.clients as f64);
            assert_eq!(deliveries, (messages * args.clients) as u64, "everyone has everything");
        }
        let of =
            if messages == 1 { "1 message".to_owned() } else { format!("{messages} messages") };
        part.add(format!("append, {of}"), median(appends), "ns per message");
        part.add(format!("pass, {of}, slowest"), largest(&passes), "ns per subscriber");
        part.add(format!("pass, {of}"), median(passes), "ns per subscriber");
    }
    let idle = (0..args.passes).map(|_| timed(|| _ = stage.pass()));
    part.add("pass with nothing to do", median(idle), "ns in all");
}
