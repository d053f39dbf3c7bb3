//! Many channels: few clients on each, many on each, and many channels for one client.
//!
//! The last part holds everything over its budget with a stalled client on each channel: the cost
//! of finding the logs to cut must not grow with the number of channels without bound.

use wsbcast::{channel::ChannelName, hub::SlowPolicy};

use super::{
    HubArgs,
    figures::{Part, largest, mean, median},
    stage::{BUDGET_BYTES, Stage, channel, memory, timed},
};

/// Budget of the part that exceeds it, per channel: two chunks of the smallest size.
const BUDGET_PER_CHANNEL_BYTES: usize = 1024;
/// Messages per channel that fit for certain.
const ROUNDS_WITHIN_BUDGET: usize = 1;
/// Messages per channel after which nothing fits any more.
const ROUNDS_TO_LIMIT: usize = 12;

/// A hundredth of the clients, each on a channel of its own.
pub(super) fn measure_many(args: &HubArgs) -> Part {
    let mut part = Part::new(String::new());
    crowd(args, args.clients / 100, 1, &mut part);
    part
}

/// A tenth as many channels as clients, each with ten clients.
pub(super) fn measure_many_each(args: &HubArgs) -> Part {
    let mut part = Part::new(String::new());
    crowd(args, args.clients / 10, 10, &mut part);
    part
}

fn crowd(args: &HubArgs, count: usize, each: usize, part: &mut Part) {
    part.name = format!("{count} channels, subscribers on each: {each}");
    let channels: Vec<ChannelName> = (0..count).map(channel).collect();
    let mut stage = Stage::new(args.size, args.backlog, SlowPolicy::Close, BUDGET_BYTES);
    let subscriptions = (count * each) as f64;
    let before = memory();
    let ns = timed(|| {
        for _ in 0..each {
            for channel in &channels {
                let key = stage.insert(false);
                stage.subscribe(key, channel);
            }
        }
    });
    part.add(
        "memory per channel, its subscribers included",
        (memory() - before) / count as f64,
        "B",
    );
    part.add("insert and subscribe", ns / subscriptions, "ns each");
    let (mut appends, mut passes) = (Vec::new(), Vec::new());
    for _ in 0..args.passes {
        let ns = timed(|| channels.iter().for_each(|channel| stage.publish(channel)));
        appends.push(ns / count as f64);
        let mut deliveries = 0;
        passes.push(timed(|| deliveries = stage.pass()) / subscriptions);
        assert_eq!(deliveries, subscriptions as u64, "everyone has everything");
    }
    part.add("memory per channel, after a message", (memory() - before) / count as f64, "B");
    part.add("append, one to each channel", median(appends), "ns per message");
    part.add("pass, one on each channel", median(passes), "ns per delivery");
    one_of_many(args, &mut stage, &channels[count / 2], part);
    let mut keys = stage.keys();
    fastrand::Rng::with_seed(1).shuffle(&mut keys);
    let ns = timed(|| keys.iter().for_each(|key| stage.remove(*key)));
    part.add("remove, at random", ns / subscriptions, "ns each");
    part.add(
        "tell whose channels are abandoned",
        timed(|| stage.forget_abandoned()) / count as f64,
        "ns per channel",
    );
}

/// The others must not cost a message of one channel anything.
fn one_of_many(args: &HubArgs, stage: &mut Stage, channel: &ChannelName, part: &mut Part) {
    let message = || {
        timed(|| {
            stage.publish(channel);
            stage.pass();
        })
    };
    let all = std::iter::repeat_with(message).take(args.passes.max(100));
    part.add("a message on one channel, append and pass", median(all), "ns");
}

/// One client with as many subscriptions as it may have, and a thousand clients with some.
pub(super) fn measure_many_per_client(args: &HubArgs) -> Part {
    let mut part = Part::new("many channels per client".to_owned());
    let most = wsbcast::limits::CHANNELS_PER_CLIENT_MAX;
    for (clients, per_client) in [(1, most), (1000, 64)] {
        let name = format!("{clients} × {per_client}");
        let channels: Vec<ChannelName> = (0..per_client).map(channel).collect();
        let mut stage = Stage::new(args.size, args.backlog, SlowPolicy::Close, BUDGET_BYTES);
        let before = memory();
        let keys: Vec<_> = (0..clients).map(|_| stage.insert(false)).collect();
        let subscriptions = (clients * per_client) as f64;
        let ns = timed(|| {
            for key in &keys {
                channels.iter().for_each(|channel| stage.subscribe(*key, channel));
            }
        });
        let held = (memory() - before) / subscriptions;
        part.add(format!("{name}: memory per subscription"), held, "B");
        part.add(format!("{name}: subscribe"), ns / subscriptions, "ns each");
        let mut passes = Vec::new();
        for _ in 0..args.passes {
            channels.iter().for_each(|channel| stage.publish(channel));
            passes.push(timed(|| _ = stage.pass()) / subscriptions);
        }
        part.add(format!("{name}: pass"), median(passes), "ns per delivery");
        let ns = timed(|| keys.iter().for_each(|key| stage.remove(*key)));
        part.add(format!("{name}: remove"), ns / subscriptions, "ns per subscription");
    }
    part
}

/// A stalled client on each channel, and all logs together over the budget.
pub(super) fn measure_over_budget(args: &HubArgs) -> Part {
    let mut part =
        Part::new("a stalled client on every channel, all logs over their budget".to_owned());
    for count in [args.clients / 1000, args.clients / 100] {
        let channels: Vec<ChannelName> = (0..count.max(1)).map(channel).collect();
        let budget = BUDGET_PER_CHANNEL_BYTES * channels.len();
        let mut stage = Stage::new(args.size, args.backlog, SlowPolicy::Skip, budget);
        for channel in &channels {
            for refuses in [true, false] {
                let key = stage.insert(refuses);
                stage.subscribe(key, channel);
            }
        }
        let mut publish_to_all = |rounds: usize| {
            let mut appends = Vec::with_capacity(rounds * channels.len());
            let mut passes = Vec::with_capacity(rounds);
            for _ in 0..rounds {
                appends.extend(channels.iter().map(|channel| timed(|| stage.publish(channel))));
                passes.push(timed(|| _ = stage.pass()) / channels.len() as f64);
                stage.events();
            }
            (appends, median(passes))
        };
        let (within, _) = publish_to_all(ROUNDS_WITHIN_BUDGET);
        publish_to_all(ROUNDS_TO_LIMIT);
        let (over, pass) = publish_to_all(args.passes);
        let name = format!("{} channels", channels.len());
        part.add(format!("{name}: append below it, mean"), mean(&within), "ns per message");
        part.add(format!("{name}: append at it, mean"), mean(&over), "ns per message");
        part.add(format!("{name}: append at it, most"), largest(&over), "ns");
        part.add(format!("{name}: pass"), pass, "ns per channel");
    }
    part
}
