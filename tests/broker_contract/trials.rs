//! Messages against trials of publishing: readiness follows what happens to the messages.

use wsbcast::{
    broker::{BrokerSettings, OnLoss, PublishError, Receipt, RefusalExtent},
    metrics::BrokerRefusal,
};

use crate::{
    process::{HISTORY, Process, offset, pace, redis_settings, run},
    redis_server::RedisServer,
    refusals::{count, refuses},
    script_proxy::ScriptProxy,
};

fn settings(url: &str) -> BrokerSettings {
    let mut redis = redis_settings(&RedisServer::not_started());
    redis.url = url.to_owned();
    BrokerSettings { redis: Some(redis), on_loss: OnLoss::Local, history: HISTORY }
}

fn is_of_scripts(key: &str) -> bool {
    key.ends_with(":meta")
}

fn is_a_channels(key: &str) -> bool {
    key.ends_with(":meta") && !key.contains(":trial:")
}

/// A command that is not there is noticed though nobody publishes.
/// Regression: a command that is not there was noticed by nobody who did not publish, and by
/// those who did for a moment only; the log did not name it.
#[test]
fn a_missing_command_is_noticed_by_a_trial() {
    for command in ["XADD", "HSET", "PEXPIRE", "DEL", "XDEL", "XSETID", "SET", "HMGET"] {
        run(async {
            let options = ["--save", "", "--rename-command", command, ""];
            let server = RedisServer::start_with(&options);
            let process = Process::start(settings(&server.url()), 1).await;
            refuses(&process, RefusalExtent::All).await;
            if matches!(command, "XADD" | "HSET" | "PEXPIRE" | "HMGET") {
                for _ in 0..20 {
                    assert_eq!(process.publish("a", "x").await, Ok(Receipt::Local), "{command}");
                    pace().await;
                }
                assert_eq!(process.shared.health().refuses(), RefusalExtent::All, "{command}");
                assert!(count(&process, BrokerRefusal::UnknownCommand) >= 20, "{command}");
            }
        });
    }
}

/// An answer that no script gives counts as a refusal. Regression: every publish was unconfirmed,
/// the process ready, and nothing was said.
#[test]
fn an_answer_of_no_script_is_a_refusal() {
    let answers = ["return {ok='OK'}", "return false", "return {}", "return 5"];
    for answer in answers {
        run(async {
            let server = RedisServer::start();
            let between = ScriptProxy::start(&server.address());
            let process = Process::start(settings(&between.url()), 1).await;
            offset(process.publish("a", "x").await);
            for is_meant in [is_of_scripts, is_a_channels] {
                between.answer(is_meant, answer);
                let publishing = async {
                    loop {
                        let answer = process.publish("a", "x").await;
                        assert_eq!(answer, Err(PublishError::Unconfirmed));
                        pace().await;
                    }
                };
                tokio::select! {
                    () = publishing => {}
                    () = refuses(&process, RefusalExtent::All) => {}
                }
                assert!(count(&process, BrokerRefusal::UnexpectedAnswer) > 0, "{answer}");
                between.pass();
                offset(process.publish("a", "x").await);
                refuses(&process, RefusalExtent::Nothing).await;
            }
        });
    }
}

/// A refusal that no trial meets is told and over with the first message that is taken.
/// Regression: a trial that went well cleared, five times a second, what all messages met.
#[test]
fn an_untried_refusal_ends_with_an_accepted_message() {
    run(async {
        let server = RedisServer::start();
        let between = ScriptProxy::start(&server.address());
        let process = Process::start(settings(&between.url()), 1).await;
        between.answer(is_a_channels, "return redis.error_reply('ERR daily limit exceeded')");
        let publishing = async {
            loop {
                assert_eq!(process.publish("a", "x").await, Ok(Receipt::Local));
                pace().await;
            }
        };
        tokio::select! {
            () = publishing => {}
            () = refuses(&process, RefusalExtent::All) => {}
        }
        between.pass();
        offset(process.publish("a", "x").await);
        assert_eq!(process.shared.health().refuses(), RefusalExtent::Nothing);
    });
}

/// A trial that is refused means nothing where messages are taken.
/// The other way round: it was degraded for ever, though all messages were taken.
#[test]
fn a_refused_trial_means_nothing_beside_messages() {
    run(async {
        let server = RedisServer::start();
        let between = ScriptProxy::start(&server.address());
        let process = Process::start(settings(&between.url()), 1).await;
        between.answer(
            |key| key.contains(":trial:"),
            "return redis.error_reply('ERR no command like that')",
        );
        refuses(&process, RefusalExtent::All).await;
        offset(process.publish("a", "x").await);
        refuses(&process, RefusalExtent::Nothing).await;
        // As many trials as before: none of them counts.
        let refused = || process.shared.health().refuses() == RefusalExtent::Nothing;
        for _ in 0..200 {
            pace().await;
            assert!(refused());
        }
    });
}
