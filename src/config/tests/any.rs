//! Any command line gives a configuration or bad values, never a panic.
//!
//! A configuration keeps the relations that other modules rely on without checking.

use proptest::prelude::*;

use super::*;

fn check_relations(config: &Config) {
    let largest = match config.client_publish {
        ClientPublish::Off => config.max_broadcast_bytes,
        ClientPublish::Broadcast => config.max_broadcast_bytes.max(config.max_message_bytes),
    };
    assert!(config.backlog_bytes >= 2 * largest);
    assert!(config.backlog_total_bytes >= config.backlog_bytes);
    assert!(config.drain.pre_delay + config.drain.close_over <= config.drain.timeout);
    assert!(!config.ping.interval.is_zero() && !config.ping.timeout.is_zero());
    assert!(config.threads >= 1 && config.redis.pool >= 1);
    assert!(!(config.listen.is_empty() && config.tls_listen.is_empty()));
    assert!(config.tls_listen.is_empty() == config.certificates.is_none());
    assert!(config.max_connections != Some(0));
}

fn check_any(variables: &[(String, String)]) {
    let variables: Vec<_> =
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    match run(&[], &variables) {
        Ok(Invocation::Serve(config)) => check_relations(&config),
        Err(Stop::BadValues(BadValues(bad))) => assert!(!bad.is_empty()),
        other => panic!("{other:?}"),
    }
}

fn quantity(units: &'static [&'static str]) -> impl Strategy<Value = String> {
    (0..64_u32, prop::sample::select(units)).prop_map(|(count, unit)| format!("{count}{unit}"))
}

fn option() -> impl Strategy<Value = String> {
    let names = OPTIONS.iter().map(|(option, _)| *option).filter(|name| !name.ends_with("-file"));
    prop::sample::select(names.map(variable).collect::<Vec<_>>())
}

fn text() -> impl Strategy<Value = String> {
    let url = "(redis|rediss|redis-cluster|redis-sentinel)://[a-z:@/?&=0-9%\\[\\]]{0,30}";
    prop_oneof![".{0,40}", url, "[0-9a-zA-Z.:,= \\[\\]-]{0,20}", quantity(&["", "s", "KiB"])]
}

proptest! {
    #[test]
    fn any_text_in_any_options_is_taken_or_told(
        variables in prop::collection::vec((option(), text()), 1..4),
    ) {
        check_any(&variables);
    }

    #[test]
    fn the_sizes_that_are_taken_keep_their_relations(
        values in prop::collection::vec(quantity(&["KiB", "MiB", "MiB"]), 4),
        client_publish in prop::sample::select(vec!["off", "broadcast"]),
    ) {
        let options = ["max-message-size", "max-broadcast-size", "backlog", "backlog-total"];
        let mut variables: Vec<_> = options.into_iter().map(variable).zip(values).collect();
        variables.push((variable("client-publish"), client_publish.to_owned()));
        check_any(&variables);
    }

    #[test]
    fn the_times_that_are_taken_keep_their_relations(
        values in prop::collection::vec(quantity(&["s", "m"]), 3),
        given in 1..=3_usize,
    ) {
        let options = ["drain-timeout", "drain-pre-delay", "drain-close-over"];
        let variables: Vec<_> = options.into_iter().map(variable).zip(values).take(given).collect();
        check_any(&variables);
    }
}
