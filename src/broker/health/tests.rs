//! The health that follows from facts about the links, at given times.

use std::time::Duration;

use super::*;

/// Some time after the process started.
fn at(ms: u64) -> Millis {
    Millis(1_000_000 + ms)
}

#[test]
fn up_only_when_every_shards_heartbeat_has_returned() {
    let health = Health::redis(Clock::start(), 2, Subscribers::PerShard);
    assert_eq!(health.reach_at(at(0)), Reach::NeverReached);
    health.heartbeat_returned(0, at(1), at(2));
    assert_eq!(health.reach_at(at(2)), Reach::NeverReached);
    health.heartbeat_returned(1, at(2), at(3));
    assert_eq!(health.reach_at(at(3)), Reach::Up);
    assert_eq!(health.reconnects(), 0);
}

#[test]
fn silence_is_loss_though_nobody_says_so() {
    let health = Health::redis(Clock::start(), 1, Subscribers::PerShard);
    health.heartbeat_returned(0, at(0), at(0));
    assert_eq!(health.reach_at(at(1000)), Reach::Up);
    assert_eq!(health.reach_at(at(1001)), Reach::Lost);
    health.heartbeat_returned(0, at(1), at(1500));
    assert_eq!(health.reach_at(at(1500)), Reach::Up);
    assert_eq!(health.reconnects(), 1);
    assert_eq!(health.back_since(), Some(at(1500)));
}

#[test]
fn a_broken_link_is_up_again_only_by_a_heartbeat() {
    let health = Health::redis(Clock::start(), 1, Subscribers::PerShard);
    let now = health.clock.now();
    health.heartbeat_returned(0, now, now);
    assert_eq!(health.reach(), Reach::Up);
    health.link_broken(0);
    assert_eq!(health.reach(), Reach::Lost);
}

/// A shard is stalled only while others hear their own heartbeat.
#[test]
fn a_shard_is_stalled_only_while_others_hear() {
    let health = Health::redis(Clock::start(), 2, Subscribers::PerShard);
    assert_eq!(health.stalled_shard_at(at(5000)), None);
    for late in [5000, 6000, 7000, 7001] {
        health.heartbeat_returned(0, at(late), at(late));
    }
    assert_eq!(health.stalled_shard_at(at(7001)), Some(1));
    health.heartbeat_returned(1, at(7001), at(7001));
    assert_eq!(health.stalled_shard_at(at(7001)), None);
    health.heartbeat_returned(0, at(8000), at(8000));
    assert_eq!(health.stalled_shard_at(at(8002)), Some(1), "the other was up all the time");
}

/// A shard that is back a little later than another is not stalled.
#[test]
fn a_shard_that_is_back_late_is_not_stalled() {
    let health = Health::redis(Clock::start(), 2, Subscribers::PerShard);
    for shard in [0, 1] {
        health.heartbeat_returned(shard, at(0), at(0));
    }
    health.heartbeat_returned(0, at(5000), at(5000));
    assert_eq!(health.stalled_shard_at(at(5001)), None);
    health.heartbeat_returned(1, at(5250), at(5250));
    assert_eq!(health.stalled_shard_at(at(5251)), None);
}

/// The heartbeat of the one shard that subscribes for all shows that messages arrive, and nothing
/// else does.
#[test]
fn the_one_subscribers_heartbeat_shows_arrival() {
    let health = Health::redis(Clock::start(), 3, Subscribers::PerProcess);
    for shard in [1, 2] {
        health.heartbeat_returned(shard, at(0), at(0));
    }
    assert_eq!(health.reach_at(at(0)), Reach::NeverReached);
    health.heartbeat_returned(0, at(0), at(0));
    assert_eq!(health.reach_at(at(0)), Reach::Up);
    for late in [900, 1800, 2700] {
        health.heartbeat_returned(1, at(late), at(late));
        health.heartbeat_returned(2, at(late), at(late));
    }
    assert_eq!(health.reach_at(at(1001)), Reach::Lost, "the others' prove nothing");
    assert_eq!(health.stalled_shard_at(at(2701)), Some(0));
    health.heartbeat_returned(0, at(2702), at(2702));
    assert_eq!(health.reach_at(at(2702)), Reach::Up);
    assert_eq!(health.stalled_shard_at(at(2702)), None);
    health.heartbeat_returned(0, at(3600), at(3600));
    health.heartbeat_returned(2, at(3600), at(3600));
    assert_eq!(health.stalled_shard_at(at(3701)), Some(1), "its loop does not run");
}

/// A shard that reports that it cannot connect is not stalled.
#[test]
fn a_shard_without_a_connection_is_not_stalled() {
    let health = Health::redis(Clock::start(), 2, Subscribers::PerShard);
    let told = health.clock.now();
    health.link_broken(1);
    let late = |ms| told + Duration::from_millis(ms);
    for ms in (0..=7000).step_by(250) {
        health.heartbeat_returned(0, late(ms), late(ms));
    }
    assert_eq!(health.stalled_shard_at(late(2900)), None);
    assert_eq!(health.stalled_shard_at(late(7001)), Some(1), "nor does it try any more");
}

#[test]
fn without_redis_there_is_nothing_to_lose() {
    let health = Health::embedded(Clock::start());
    assert_eq!(health.reach(), Reach::Embedded);
    assert_eq!(health.stalled_shard(), None);
    assert_eq!(health.lag_seconds(), 0.0);
}

#[test]
fn a_shard_that_lacks_some_channels_is_not_stalled() {
    let health = Health::redis(Clock::start(), 2, Subscribers::PerShard);
    for late in [5000, 6000, 7000, 8000] {
        health.heartbeat_returned(0, at(late), at(late));
        health.heartbeat_heard(1, at(late));
    }
    assert_eq!(health.stalled_shard_at(at(8001)), None);
    assert_ne!(health.reach_at(at(8001)), Reach::Up);
}
