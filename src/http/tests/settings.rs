//! The options of the server under test.

use std::sync::Arc;

use super::IDLE_TIMEOUT;
use crate::{
    conn::ClientPublish,
    http::{HttpSettings, access, origins},
};

/// Most are the defaults.
pub(super) fn settings() -> HttpSettings {
    HttpSettings {
        echo: false,
        compression: true,
        client_publish: ClientPublish::Off,
        connections_max: 100,
        broadcast_bytes_max: 64 * 1024,
        idle_timeout: IDLE_TIMEOUT,
        reject_on_broker_loss: false,
        admin_on_public: true,
        proxy_protocol: false,
        trusted_proxies: Arc::default(),
        access: access::Rules::default(),
        origins: origins::Origins::default(),
    }
}
