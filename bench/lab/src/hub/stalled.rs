//! Every third client stalls: their cost to the others, and the cost of closing them.
//!
//! Messages are published, a pass for every few of them, until the stalled ones are a backlog
//! behind and beyond. An append that cuts the log looks at every subscriber: both the time of that
//! one and the average per message are reported.

use wsbcast::hub::SlowPolicy;

use super::{
    HubArgs,
    figures::{Part, largest, mean, median},
    stage::{BUDGET_BYTES, Stage, channel, memory, timed},
};

const STALLED_OF: usize = 3;
/// Messages between two passes.
const MESSAGES_PER_PASS: usize = 64;
/// Messages are published for this many backlogs.
const BACKLOGS: usize = 3;
/// An append that takes longer than this per subscriber has looked at all of them.
const CUT_NS_PER_CLIENT: f64 = 0.2;

/// From the first refused write to the stalled clients' departure.
pub(super) fn measure(args: &HubArgs, slow: SlowPolicy) -> Part {
    let count = args.clients as f64;
    let mut part = Part::new(format!(
        "{count} subscribers of one channel, every third takes nothing, then {slow:?}"
    ));
    let mut stage = Stage::new(args.size, args.backlog, slow, BUDGET_BYTES);
    let channel = channel(0);
    for at in 0..args.clients {
        let key = stage.insert(at % STALLED_OF == 0);
        stage.subscribe(key, &channel);
    }
    let before = memory();
    stage.publish(&channel);
    part.add("first pass: a third blocks", timed(|| _ = stage.pass()) / count, "ns per subscriber");
    let stalled = stage.events() as f64;
    part.add("stalled", stalled, "clients");
    part.add("memory that stalling takes", (memory() - before) / stalled, "B per stalled");
    press_on(args, &mut stage, &mut part);
    let events = stage.events();
    part.add("events: closed or skipped", events as f64, "in all");
    part.add("memory since", (memory() - before) / stalled, "B per stalled");
    part.add("of it charged to the budget", stage.held_bytes() as f64, "B in all");
    leave(&mut stage, &mut part);
    part
}

/// Publishes past the backlog.
fn press_on(args: &HubArgs, stage: &mut Stage, part: &mut Part) {
    let channel = channel(0);
    let per_subscriber = 1.0 / args.clients as f64;
    let messages = BACKLOGS * args.backlog / (args.size + 4);
    let (mut appends, mut passes) = (Vec::with_capacity(messages), Vec::new());
    for at in 0..messages {
        appends.push(timed(|| stage.publish(&channel)));
        if at % MESSAGES_PER_PASS == 0 {
            passes.push(timed(|| _ = stage.pass()) * per_subscriber);
        }
    }
    let cuts: Vec<f64> = appends
        .iter()
        .copied()
        .filter(|ns| *ns > (CUT_NS_PER_CLIENT * args.clients as f64).max(10_000.0))
        .collect();
    part.add("pass, the others take it", median(passes), "ns per subscriber");
    part.add("append, median", median(appends.clone()), "ns per message");
    part.add("append, mean (cuts included)", mean(&appends), "ns per message");
    part.add("appends that cut", cuts.len() as f64, "of them");
    part.add("the dearest append", largest(&appends) / 1e6, "ms");
    part.add("the same", largest(&appends) * per_subscriber, "ns per subscriber");
    part.add("a later append that cuts", median(cuts) * per_subscriber, "ns per subscriber");
}

/// The cost of a slow client that catches up, and of one that leaves, for the whole channel.
fn leave(stage: &mut Stage, part: &mut Part) {
    let blocked = stage.blocked();
    let [first, second, rest @ ..] = blocked.as_slice() else { return };
    stage.pass();
    part.add("one of them takes everything", timed(|| stage.recover(*first)), "ns");
    part.add("the pass after that", timed(|| _ = stage.pass()) / 1e6, "ms");
    part.add("one of them leaves", timed(|| stage.remove(*second)), "ns");
    part.add("the pass after that", timed(|| _ = stage.pass()) / 1e6, "ms");
    let ns = timed(|| rest.iter().for_each(|key| stage.remove(*key)));
    part.add("the others leave", ns / rest.len().max(1) as f64, "ns each");
    part.add("the pass after that", timed(|| _ = stage.pass()) / 1e6, "ms");
}
