//! From the one [`Config`] to each module's own settings.
//!
//! The modules below know nothing of options; this is the only place that knows both sides.

use super::descriptors::Shares;
use crate::{
    broker,
    config::{Config, Token},
    conn::{self, keepalive},
    http::{self, ApiTokens},
    hub,
    limits::IDEMPOTENCY_KEYS_REDIS_BYTES_MAX,
    shard,
    token::Verifier,
    ws::{close::CloseReason, frame},
};

pub(super) fn broker(config: &Config, verifier: &Verifier) -> broker::BrokerSettings {
    let redis = config.redis.url.as_ref().map(|url| broker::RedisSettings {
        url: url.expose().to_owned(),
        tls: config.redis.tls.clone(),
        subscribers: config.redis.subscribers,
        pool: config.redis.pool,
        prefix: config.redis.prefix.clone(),
        raw_channel: config.redis.raw_channel.clone(),
        max_broadcast_bytes: config.max_broadcast_bytes,
        bans: verifier.is_on().then(|| verifier.bans().clone()),
        keys_bytes_max: IDEMPOTENCY_KEYS_REDIS_BYTES_MAX,
    });
    broker::BrokerSettings { redis, on_loss: config.on_broker_loss, history: config.history }
}

/// Which broker, for the log.
pub(super) fn broker_words(config: &Config, broker: &broker::Shared) -> String {
    match &config.redis.url {
        _ if broker.is_handed_in() => "a broker that was handed in".to_owned(),
        None => "embedded (this process alone)".to_owned(),
        Some(url) => format!("redis {url}"),
    }
}

pub(super) fn shard(
    config: &Config,
    listeners: usize,
    shares: Shares,
    api_tokens: &ApiTokens,
) -> shard::ShardSettings {
    let slow_close = frame::close_for(CloseReason::SlowConsumer).expect("the table has a code");
    shard::ShardSettings {
        hub: hub::HubSettings {
            backlog_bytes: config.backlog_bytes,
            slow: config.slow_consumer,
            slow_close_frame: slow_close.as_ref().into(),
        },
        clients: conn::ClientSettings {
            message_bytes_max: config.max_message_bytes,
            public_channels: config.public_channels.clone(),
            client_publish: config.client_publish,
            broadcast_bytes_max: config.max_broadcast_bytes,
            compression_threshold_bytes: config.compression.threshold_bytes,
            resume_miss: config.resume_miss,
            greeting: config.greeting.clone(),
            rates: config.client_rates.clone(),
            keepalive: keepalive::KeepaliveSettings {
                interval: Some(config.ping.interval),
                timeout: config.ping.timeout,
            },
        },
        http: http(config, shares, api_tokens),
        http_room: shares.shard,
        listeners,
        coalesce: config.coalesce,
    }
}

pub(super) fn http(config: &Config, shares: Shares, api_tokens: &ApiTokens) -> http::HttpSettings {
    http::HttpSettings {
        echo: config.echo,
        compression: config.compression.on,
        client_publish: config.client_publish,
        connections_max: shares.clients,
        broadcast_bytes_max: config.max_broadcast_bytes,
        idle_timeout: config.idle_timeout,
        reject_on_broker_loss: config.on_broker_loss == broker::OnLoss::Reject,
        admin_on_public: config.is_loopback_only(),
        proxy_protocol: config.proxy_protocol,
        trusted_proxies: config.trusted_proxies.clone(),
        access: http::access::Rules {
            tokens: api_tokens.clone(),
            insecure_publish: config.insecure_api,
            takes_tokens: config.tokens.has_keys(),
            public_channels: config.public_channels.clone(),
            query_tokens: config.query_tokens,
            token_cookie: config.token_cookie.clone(),
        },
        origins: config.allowed_origins.clone(),
    }
}

/// The list of all threads, as it is at the start.
pub(super) fn api_tokens(tokens: &[Token]) -> Vec<String> {
    tokens.iter().map(|token| token.expose().to_owned()).collect()
}
