//! An asynchronous failover takes acknowledged messages back and goes on from an earlier offset.
//!
//! By epoch and offset alone nothing would show. The failover is played by hand: keys are copied
//! and brought back.

use crate::{
    guest::{let_in, shut_out, start_guest},
    history::{after, recover},
    process::{Process, offset, run, until},
    redis_server::RedisServer,
    repair::{META, STREAM, settings},
};

/// Keeps a copy of what Redis has of the channel, and brings it back: what an asynchronous
/// failover does.
fn keep_copy(server: &RedisServer) {
    for key in [META, STREAM] {
        assert_eq!(server.cli(&["COPY", key, &format!("{key}:copy")]), "1");
    }
}

fn roll_back(server: &RedisServer) {
    for key in [META, STREAM] {
        assert_eq!(server.cli(&["COPY", &format!("{key}:copy"), key, "REPLACE"]), "1");
    }
}

/// A rollback that a message shows ends the epoch and is told.
#[test]
fn a_rollback_shown_by_a_message_ends_the_epoch() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server), 2).await;
        process.subscribe("a").await;
        for text in ["1", "2", "3"] {
            offset(process.publish("a", text).await);
        }
        keep_copy(&server);
        offset(process.publish("a", "4, lost").await);
        offset(process.publish("a", "5, lost").await);
        for sink in &process.sinks {
            until("all have arrived", || sink.messages().len() == 5).await;
        }
        roll_back(&server);
        assert_eq!(offset(process.publish("a", "another fourth").await), 4);
        for sink in &process.sinks {
            until("it is told", || sink.gaps() > 0).await;
        }
        assert_eq!(offset(process.publish("a", "anew").await), 1);
        for sink in &process.sinks {
            until("the new epoch has begun", || sink.messages().len() == 6).await;
            let newest = sink.messages()[5].clone().position.unwrap();
            assert_ne!(newest.epoch, sink.messages()[4].clone().position.unwrap().epoch);
            assert_eq!(sink.missed(), [(newest.epoch.to_string(), 1, Some(0))]);
            assert_eq!((sink.texts()[5].as_str(), newest.offset), ("anew", 1));
            let shard = &*process.shards[0];
            let epoch = sink.messages()[0].position.clone().unwrap().epoch;
            let recovered = recover(shard, after(&epoch, 3), &newest).await;
            assert_eq!(recovered, (0, Some((1, Some(0)))));
        }
    });
}

#[test]
fn an_epoch_that_was_over_does_not_come_back() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server), 2).await;
        process.subscribe("a").await;
        offset(process.publish("a", "1").await);
        keep_copy(&server);
        offset(process.publish("a", "2, lost").await);
        for sink in &process.sinks {
            until("both have arrived", || sink.messages().len() == 2).await;
        }
        for round in 1..=2 {
            // Back to the first epoch, whichever came after it.
            roll_back(&server);
            assert_eq!(offset(process.publish("a", "another second").await), 2);
            for sink in &process.sinks {
                until("it is told", || sink.gaps() == round).await;
            }
            assert_eq!(offset(process.publish("a", "anew").await), 1);
            for sink in &process.sinks {
                until("it has arrived", || sink.messages().len() == 2 + round).await;
                let newest = sink.messages().last().unwrap().position.clone().unwrap();
                assert_eq!(sink.missed()[round - 1], (newest.epoch.to_string(), 1, Some(0)));
            }
        }
        for sink in &process.sinks {
            assert_eq!(sink.texts(), ["1", "2, lost", "anew", "anew"]);
        }
    });
}

/// A rollback during an outage ends the epoch however far it went on.
#[test]
fn a_rollback_during_an_outage_ends_the_epoch() {
    for further in [0, 1, 2, 4] {
        run(async {
            let server = RedisServer::start();
            let publisher = Process::start(settings(&server), 1).await;
            let guest = start_guest(&server, 1).await;
            guest.subscribe("a").await;
            for _ in 1..=3 {
                offset(publisher.publish("a", "x").await);
            }
            keep_copy(&server);
            offset(publisher.publish("a", "lost").await);
            offset(publisher.publish("a", "lost").await);
            let sink = &guest.sinks[0];
            until("all have arrived", || sink.messages().len() == 5).await;
            shut_out(&server, &guest).await;
            roll_back(&server);
            for number in 1..=further {
                assert_eq!(offset(publisher.publish("a", "other").await), 3 + number);
            }
            let_in(&server);
            guest.up().await;
            assert_eq!(offset(publisher.publish("a", "anew").await), 1);
            until("the new epoch has begun", || sink.messages().len() == 6).await;
            let newest = sink.messages()[5].clone().position.unwrap();
            assert_eq!(sink.missed(), [(newest.epoch.to_string(), 1, Some(0))]);
            assert_eq!(sink.texts()[5], "anew");
        });
    }
}

/// A Redis that goes back to a history it had left drops nothing without a word.
#[test]
fn a_redis_gone_back_to_an_old_history_is_told() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server), 2).await;
        process.subscribe("a").await;
        for text in ["1", "2"] {
            offset(process.publish("a", text).await);
        }
        assert_eq!(server.cli(&["SWAPDB", "0", "1"]), "OK");
        offset(process.publish("a", "elsewhere").await);
        for sink in &process.sinks {
            until("all have arrived", || sink.messages().len() == 3).await;
            assert_eq!(sink.certain_gaps(), 0, "another history is no loss");
        }
        assert_eq!(server.cli(&["SWAPDB", "0", "1"]), "OK");
        // Each is acknowledged: it arrives, or plain clients are told.
        assert_eq!(offset(process.publish("a", "back again").await), 3);
        for sink in &process.sinks {
            let is_told =
                || sink.texts().contains(&"back again".to_owned()) || sink.certain_gaps() > 0;
            until("it has arrived, or is told", is_told).await;
        }
        offset(process.publish("a", "last").await);
        for sink in &process.sinks {
            until("it goes on", || sink.texts().contains(&"last".to_owned())).await;
        }
    });
}

#[test]
fn a_forged_message_hides_nothing_that_follows() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server), 2).await;
        process.subscribe("a").await;
        assert_eq!(offset(process.publish("a", "1").await), 1);
        for sink in &process.sinks {
            until("it has arrived", || sink.messages().len() == 1).await;
        }
        let epoch = server.cli(&["HGET", META, "epoch"]);
        for forged in ["9007199254740991", "9007199254740992", "18446744073709551615", "1000"] {
            let payload = format!("2 t {epoch} {forged} 7 8\nforged");
            server.cli(&["PUBLISH", "test:{a}", &payload]);
        }
        for number in 2..=5 {
            assert_eq!(offset(process.publish("a", &number.to_string()).await), number);
        }
        for sink in &process.sinks {
            until("all have arrived", || sink.messages().len() == 5).await;
            assert_eq!(
                (sink.texts(), sink.gaps()),
                (["1", "2", "3", "4", "5"].map(String::from).to_vec(), 0)
            );
        }
        // In a place that is taken, after another one than was there, of histories that are none.
        let nonce = server.cli(&["HGET", META, "nonce"]);
        let here = ["1 7 0", "5 7 8", "6 7 8"].map(|forged| format!("{epoch} {forged}"));
        let again = [format!("{epoch} 5 {nonce} 8"), format!("{epoch} 7 8 {nonce}")];
        let others = ["another 1 7 0", "another 9007199254740991 7 8", "empty-other 1 7 0"];
        let others = others.map(String::from);
        for forged in here.iter().chain(&again).chain(&others) {
            server.cli(&["PUBLISH", "test:{a}", &format!("2 t {forged}\nforged")]);
        }
        assert_eq!(offset(process.publish("a", "6").await), 6);
        for sink in &process.sinks {
            until("it has arrived", || sink.messages().len() == 6).await;
            assert_eq!((sink.offsets(), sink.gaps()), (vec![1, 2, 3, 4, 5, 6], 0));
        }
    });
}

/// A shard that was cut off while a history was ended is told as surely as the one that ended it.
#[test]
fn a_shard_cut_off_during_a_rotation_is_told() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server), 1).await;
        let guest = start_guest(&server, 2).await;
        process.subscribe("a").await;
        guest.subscribe("a").await;
        for text in ["1", "2"] {
            offset(process.publish("a", text).await);
        }
        for sink in process.sinks.iter().chain(&guest.sinks) {
            until("both have arrived", || sink.messages().len() == 2).await;
        }
        keep_copy(&server);
        shut_out(&server, &guest).await;
        offset(process.publish("a", "3, lost").await);
        until("it has arrived", || process.sinks[0].messages().len() == 3).await;
        roll_back(&server);
        assert_eq!(offset(process.publish("a", "another third").await), 3);
        until("it is told", || process.sinks[0].certain_gaps() == 1).await;
        let_in(&server);
        guest.up().await;
        assert_eq!(offset(process.publish("a", "anew").await), 1);
        for sink in &guest.sinks {
            until("it has arrived", || sink.texts().contains(&"anew".to_owned())).await;
            assert_eq!(sink.certain_gaps(), 1, "\"another third\" was acknowledged");
        }
    });
}

/// A process that finds an empty Redis for a while goes on in the history that was there before.
#[test]
fn a_process_back_from_an_empty_redis_goes_on() {
    run(async {
        let server = RedisServer::start();
        let guest = start_guest(&server, 2).await;
        guest.subscribe("a").await;
        for text in ["1", "2"] {
            offset(guest.publish("a", text).await);
        }
        for sink in &guest.sinks {
            until("both have arrived", || sink.messages().len() == 2).await;
        }
        let epoch = server.cli(&["HGET", META, "epoch"]);
        shut_out(&server, &guest).await;
        assert_eq!(server.cli(&["SWAPDB", "0", "1"]), "OK");
        let_in(&server);
        guest.up().await;
        for sink in &guest.sinks {
            until("nothing is there", || sink.gaps() == 1).await;
        }
        shut_out(&server, &guest).await;
        assert_eq!(server.cli(&["SWAPDB", "0", "1"]), "OK");
        let process = Process::start(settings(&server), 1).await;
        for text in ["3", "4"] {
            offset(process.publish("a", text).await);
        }
        let_in(&server);
        guest.up().await;
        assert_eq!(offset(process.publish("a", "5").await), 5);
        for sink in &guest.sinks {
            until("all have arrived", || sink.messages().len() == 5).await;
            assert_eq!(sink.texts(), ["1", "2", "3", "4", "5"]);
            assert_eq!(sink.certain_gaps(), 0);
            assert_eq!(sink.missed()[1], (epoch.clone(), 3, Some(2)), "it is that one again");
        }
    });
}
