//! From typed text to a [`Config`]: every value in range, every relation between values kept.
//!
//! A bad value is recorded and replaced by a stand-in, so that the pass continues and finds the
//! others; relations are only checked between values that are good by themselves, so that one
//! mistake makes one line. If anything was recorded, the stand-ins never leave this file.

use std::{ops::RangeInclusive, sync::Arc, thread, time::Duration};

use super::{
    BadValues, Compression, Config, Notify, Ping, RedisConfig, RedisUrl, addresses, args,
    checker::Checker,
    credentials::{self, Credentials},
    environment::Typed,
    history,
    listen::{self, Listening},
    origins, proxies, redis_tls, rights, secret_file,
    secrets::without_credentials,
    sources::{SecretSources, Secrets},
    tls,
    upgrade::{self, ControlPaths},
    values::{Switch, show_duration, show_size},
};
use crate::{broker, conn::ClientPublish, drain, limits, telemetry};

const KIB: u64 = 1024;
const GIB: u64 = KIB * KIB * KIB;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const THREADS: RangeInclusive<u64> = 1..=1024;
const REDIS_POOL: RangeInclusive<u64> = 1..=64;
const MAX_CONNECTIONS: RangeInclusive<u64> = 0..=10_000_000;
const MESSAGE_SIZE: RangeInclusive<u64> = 1..=GIB;
/// A larger message would never fit into a shard's mailbox.
const BROADCAST_SIZE: RangeInclusive<u64> = 1..=limits::MAILBOX_BYTES_MAX as u64;
const COMPRESSION_THRESHOLD: RangeInclusive<u64> = 0..=GIB;
const BACKLOG: RangeInclusive<u64> = 4 * KIB..=64 * GIB;
const BACKLOG_TOTAL: RangeInclusive<u64> = 4 * KIB..=1024 * GIB;
const PING: RangeInclusive<Duration> = Duration::from_millis(10)..=DAY;
/// It is announced in whole seconds.
const IDLE: RangeInclusive<Duration> = Duration::from_secs(1)..=DAY;
/// Longer ones would be noticed as an outage.
const COALESCE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(1);
const DRAIN: RangeInclusive<Duration> = Duration::ZERO..=limits::DRAIN_TIME_MAX;
/// Shorter slots would load the broker without being told apart by anyone.
const NOTIFY_INTERVAL: RangeInclusive<Duration> = Duration::from_millis(10)..=DAY;
/// The default of [`drain::DrainSettings::close_over`], if the timeout leaves that much.
const CLOSE_OVER_DEFAULT: Duration = Duration::from_secs(60);
const PREFIX_BYTES_MAX: usize = 128;
const RAW_CHANNEL_BYTES_MAX: usize = 512;

/// Checks everything that was typed.
pub(super) fn config(typed: Typed) -> Result<Config, BadValues> {
    let Typed { args, variables, problems } = typed;
    let checker = &mut Checker::new(variables, problems);
    let Listening { listen, tls_listen, listen_unix, admin_listen } =
        listen::check(checker, &args.listening);
    let client_publish = checker.word("client-publish", &args.messages.client_publish);
    let sizes = sizes(checker, &args.limits, client_publish);
    let secret_sources = SecretSources::new(&args.rights, &args.tokens);
    let Secrets { api_tokens, tokens, .. } = secret_sources.check(checker);
    let insecure_api = args.rights.insecure_api;
    if api_tokens.is_empty() && !insecure_api && !tokens.has_keys() {
        rights::check_client_publish(checker, &listen, &tls_listen, client_publish);
    }
    let allowed_origins = origins::check(checker, &args.origins);
    let Credentials { public_channels, query_tokens, token_cookie } =
        credentials::check(checker, &args.credentials, &allowed_origins, tokens.has_keys());
    let (address_limits, client_rates) = addresses::check(checker, &args.limits);
    let ControlPaths { control_socket, take_over } =
        upgrade::check(checker, &args.upgrade, &listen_unix);
    let config = Config {
        admin_listen,
        certificates: tls::check(checker, &args.tls, &tls_listen),
        threads: threads(checker, args.listening.threads.as_deref()),
        redis: redis(checker, &args.redis),
        on_broker_loss: checker.word("on-broker-loss", &args.redis.on_broker_loss),
        notify: notify(checker, &args.messages, sizes.max_broadcast),
        coalesce: checker.duration("coalesce", &args.messages.coalesce, COALESCE),
        greeting: greeting(checker, args.messages.greeting, sizes.max_broadcast),
        client_publish,
        history: history::check(checker, &args.history),
        resume_miss: checker.word("resume-miss", &args.history.resume_miss),
        echo: args.clients.echo,
        compression: compression(checker, &args.clients),
        proxy_protocol: proxies::protocol(checker, &args.proxies),
        trusted_proxies: Arc::new(proxies::trusted(checker, &args.proxies.trusted_proxies)),
        api_tokens,
        insecure_api,
        tokens,
        secret_sources,
        allowed_origins: if token_cookie.is_some() {
            allowed_origins.with_cookies()
        } else {
            allowed_origins
        },
        public_channels,
        query_tokens,
        token_cookie,
        max_connections: max_connections(checker, &args.limits),
        client_rates,
        address_limits,
        idle_timeout: checker.duration("idle-timeout", &args.limits.idle_timeout, IDLE),
        max_message_bytes: sizes.max_message,
        max_broadcast_bytes: sizes.max_broadcast,
        backlog_bytes: sizes.backlog,
        backlog_total_bytes: sizes.backlog_total,
        slow_consumer: checker.word("slow-consumer", &args.clients.slow_consumer),
        ping: ping(checker, &args.clients),
        drain: drain(checker, &args.shutdown),
        control_socket,
        take_over,
        log: log(checker, args.logs),
        listen,
        tls_listen,
        listen_unix,
        warnings: Vec::new(),
    };
    let config = Config { warnings: checker.warnings(), ..config };
    checker.finish().map(|()| config)
}

fn max_connections(checker: &mut Checker, typed: &args::LimitOptions) -> Option<usize> {
    let max = checker.number("max-connections", &typed.max_connections, MAX_CONNECTIONS);
    (max > 0).then_some(max)
}

fn threads(checker: &mut Checker, typed: Option<&str>) -> usize {
    match typed {
        Some(text) => checker.number("threads", text, THREADS),
        // The standard library knows affinity masks and cgroup quotas; one shard if it knows
        // nothing.
        None => thread::available_parallelism().map_or(1, usize::from).min(1024),
    }
}

fn redis(checker: &mut Checker, typed: &args::RedisOptions) -> RedisConfig {
    let tls = redis_tls::check(checker, typed);
    let url = redis_url(checker, typed, &tls);
    let named = [&typed.redis_tls_ca, &typed.redis_tls_cert, &typed.redis_tls_key];
    let named = (["redis-tls-ca", "redis-tls-cert", "redis-tls-key"].iter().zip(named))
        .find_map(|(option, path)| Some((option, path.as_ref()?)));
    if let Some((option, path)) = named
        && !url.as_ref().is_some_and(|url| url.expose().starts_with("rediss"))
        && checker.are_good(&["redis-url", "redis-url-file"])
    {
        checker.refuse(option, path, "is for a Redis over TLS: a URL that begins rediss");
    }
    let prefix = typed.redis_prefix.clone();
    let is_prefix_byte = |byte: u8| byte.is_ascii_graphic() && !b"{}".contains(&byte);
    if !(1..=PREFIX_BYTES_MAX).contains(&prefix.len()) || !prefix.bytes().all(is_prefix_byte) {
        let expected = format!(
            "expected 1 to {PREFIX_BYTES_MAX} visible ASCII characters without braces, which \
             would change the slot in a Redis Cluster"
        );
        checker.refuse("redis-prefix", &prefix, expected);
    }
    let raw_channel = typed.redis_raw_channel.clone();
    if raw_channel.len() > RAW_CHANNEL_BYTES_MAX {
        let expected = format!("at most {RAW_CHANNEL_BYTES_MAX} bytes");
        checker.refuse("redis-raw-channel", &raw_channel, expected);
    }
    RedisConfig {
        url,
        tls,
        pool: checker.number("redis-pool", &typed.redis_pool, REDIS_POOL),
        subscribers: checker.word("redis-subscribers", &typed.redis_subscribers),
        prefix,
        raw_channel: (!raw_channel.is_empty()).then_some(raw_channel),
    }
}

/// The URL, from its file if there is one: a typed option beats a variable.
fn redis_url(
    checker: &mut Checker,
    typed: &args::RedisOptions,
    tls: &broker::RedisTls,
) -> Option<RedisUrl> {
    let url = typed.redis_url.clone().filter(|url| !url.is_empty());
    let file = typed.redis_url_file.as_deref();
    let typed_ones = ["redis-url", "redis-url-file"].map(|option| checker.is_typed(option));
    let (option, url) = match (url, file) {
        (url, None) => ("redis-url", url?),
        (Some(url), Some(_)) if typed_ones == [true, false] => ("redis-url", url),
        (Some(url), Some(path)) if typed_ones[0] == typed_ones[1] => {
            checker.refuse("redis-url-file", path, "there is a --redis-url too: name one of them");
            ("redis-url", url)
        }
        (_, Some(path)) => match secret_file::read(checker, "redis-url-file", path) {
            Ok(text) => ("redis-url-file", text.trim().to_owned()),
            Err(reason) => {
                checker.refuse("redis-url-file", path, reason);
                return None;
            }
        },
    };
    if let Err(reason) = broker::check_redis_url(&url, tls) {
        let shown = match (option, file) {
            // The file may contain another secret altogether.
            ("redis-url-file", Some(path)) => path.to_owned(),
            _ => without_credentials(&url),
        };
        checker.refuse(option, shown, reason);
    }
    Some(RedisUrl::new(url))
}

fn notify(checker: &mut Checker, typed: &args::MessageOptions, bytes_max: usize) -> Notify {
    let range = Duration::ZERO..=*NOTIFY_INTERVAL.end();
    let interval = checker.duration("notify-interval", &typed.notify_interval, range);
    if !interval.is_zero() && interval < *NOTIFY_INTERVAL.start() {
        let least = show_duration(*NOTIFY_INTERVAL.start());
        let expected = format!("expected 0 (off) or at least {least}");
        checker.refuse("notify-interval", &typed.notify_interval, expected);
    }
    // The time after the text takes no more than this.
    const TIME_BYTES_MAX: usize = 64;
    let text = typed.notify_text.clone();
    if !interval.is_zero() {
        checker.text_fits("notify-text", &text, bytes_max.saturating_sub(TIME_BYTES_MAX));
    }
    Notify { interval: (!interval.is_zero()).then_some(interval), text }
}

fn greeting(checker: &mut Checker, typed: Option<String>, bytes_max: usize) -> Option<String> {
    let text = typed.filter(|text| !text.is_empty())?;
    checker.text_fits("greeting", &text, bytes_max);
    Some(text)
}

fn compression(checker: &mut Checker, typed: &args::ClientOptions) -> Compression {
    let threshold = &typed.compression_threshold;
    Compression {
        on: checker.word::<Switch>("compression", &typed.compression) == Switch::On,
        threshold_bytes: checker.size("compression-threshold", threshold, COMPRESSION_THRESHOLD),
    }
}

fn ping(checker: &mut Checker, typed: &args::ClientOptions) -> Ping {
    Ping {
        interval: checker.duration("ping-interval", &typed.ping_interval, PING),
        timeout: checker.duration("ping-timeout", &typed.ping_timeout, PING),
    }
}

struct Sizes {
    max_message: usize,
    max_broadcast: usize,
    backlog: usize,
    backlog_total: usize,
}

/// The default of `--max-broadcast-size`.
const MAX_BROADCAST_DEFAULT: usize = 1024 * 1024;

fn sizes(
    checker: &mut Checker,
    typed: &args::LimitOptions,
    client_publish: ClientPublish,
) -> Sizes {
    let backlog = checker.size("backlog", &typed.backlog, BACKLOG);
    let sizes = Sizes {
        max_message: checker.size("max-message-size", &typed.max_message_size, MESSAGE_SIZE),
        max_broadcast: match &typed.max_broadcast_size {
            Some(text) => checker.size("max-broadcast-size", text, BROADCAST_SIZE),
            None if checker.are_good(&["backlog"]) => MAX_BROADCAST_DEFAULT.min(backlog / 2),
            None => MAX_BROADCAST_DEFAULT,
        },
        backlog,
        backlog_total: checker.size("backlog-total", &typed.backlog_total, BACKLOG_TOTAL),
    };
    let Sizes { max_message, max_broadcast, backlog, backlog_total } = sizes;
    if checker.are_good(&["backlog", "max-broadcast-size"]) && backlog / 2 < max_broadcast {
        checker.refuse("backlog", &typed.backlog, twice("max-broadcast-size", max_broadcast));
    }
    let publishes = client_publish == ClientPublish::Broadcast;
    if publishes && checker.are_good(&["max-message-size"]) {
        if max_message > limits::MAILBOX_BYTES_MAX {
            let most = show_size(*BROADCAST_SIZE.end());
            let reason = format!("at most {most} with --client-publish broadcast");
            checker.refuse("max-message-size", &typed.max_message_size, reason);
        } else if checker.are_good(&["backlog"]) && backlog / 2 < max_message {
            checker.refuse("backlog", &typed.backlog, twice("max-message-size", max_message));
        }
    }
    let largest = if publishes { max_broadcast.max(max_message) } else { max_broadcast };
    let encoded = (largest + 1) * limits::ENCODED_FACTOR_MAX + limits::ENCODED_EXTRA_BYTES_MAX;
    let are_good = checker.are_good(&["backlog", "backlog-total", "max-broadcast-size"]);
    if are_good && backlog_total >= backlog && backlog_total < encoded {
        let reason = format!(
            "must be at least {}, what the largest message may take in an event stream; or make \
             --max-broadcast-size smaller",
            show_size(encoded as u64)
        );
        checker.refuse("backlog-total", &typed.backlog_total, reason);
    }
    if checker.are_good(&["backlog", "backlog-total"]) && backlog_total < backlog {
        let reason = format!("must be at least --backlog, which is {}", show_size(backlog as u64));
        checker.refuse("backlog-total", &typed.backlog_total, reason);
    }
    sizes
}

fn twice(option: &str, bytes: usize) -> String {
    let least = show_size(2 * bytes as u64);
    format!("must be at least {least}, twice --{option}; or make that smaller")
}

fn drain(checker: &mut Checker, typed: &args::ShutdownOptions) -> drain::DrainSettings {
    let pre_delay = checker.duration("drain-pre-delay", &typed.drain_pre_delay, DRAIN);
    let timeout = checker.duration("drain-timeout", &typed.drain_timeout, DRAIN);
    let close_over = typed
        .drain_close_over
        .as_deref()
        .map(|text| (text, checker.duration("drain-close-over", text, DRAIN)));
    let left = timeout.checked_sub(pre_delay);
    let of_timeout = format!("--drain-timeout, which is {}", show_duration(timeout));
    if checker.are_good(&["drain-pre-delay", "drain-timeout"]) && left.is_none() {
        let reason = format!("must not be longer than {of_timeout}");
        checker.refuse("drain-pre-delay", &typed.drain_pre_delay, reason);
    }
    let left = left.unwrap_or_default();
    let Some((text, close_over)) = close_over else {
        return drain::DrainSettings {
            pre_delay,
            timeout,
            close_over: CLOSE_OVER_DEFAULT.min(left),
        };
    };
    let are_good = checker.are_good(&["drain-pre-delay", "drain-timeout", "drain-close-over"]);
    if are_good && close_over > left {
        let most = show_duration(left);
        let reason =
            format!("at most {most}: with --drain-pre-delay it must fit into {of_timeout}");
        checker.refuse("drain-close-over", text, reason);
    }
    drain::DrainSettings { pre_delay, timeout, close_over }
}

fn log(checker: &mut Checker, typed: args::LogOptions) -> telemetry::LogSettings {
    let level = typed.log_level;
    if let Err(expected) = telemetry::check_level(&level) {
        checker.refuse("log-level", &level, format!("expected {expected}"));
    }
    telemetry::LogSettings {
        format: checker.word("log-format", &typed.log_format),
        access: checker.word::<Switch>("access-log", &typed.access_log) == Switch::On,
        level,
    }
}
