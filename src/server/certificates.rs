//! The certificates of the public listeners, kept up to date while the server runs.
//!
//! Their files are looked at every few seconds, by content, on a thread that may wait for a disk:
//! nobody need tell of an exchange. A new pair is taken into use once both files fit; until then,
//! and if it is bad, its old one stays, and the log says why. Other pairs don't wait for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{task::spawn_blocking, time::sleep};
use tracing::{info, warn};

use super::reload::{self, Reload};
use crate::{
    clock::Clock,
    limits::CERTIFICATE_LOOK_INTERVAL,
    metrics::family::CertificateFacts,
    telemetry::seldom,
    tls::{BadPair, CertificateStore, Look, Prepared, Reloaded},
};

/// The certificates, and what became of their exchanges.
#[derive(Debug)]
pub(super) struct Certificates {
    store: Arc<CertificateStore>,
    taken: AtomicU64,
    refused: AtomicU64,
}

impl Certificates {
    pub(super) fn new(store: Arc<CertificateStore>) -> Self {
        Self { store, taken: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }

    /// The part of the metrics that is about them.
    pub(super) fn facts(&self) -> CertificateFacts {
        let set = self.store.in_use();
        CertificateFacts {
            not_after: set.ends().map(|(file, end)| (file.to_owned(), end.as_secs())).collect(),
            reloads: [&self.taken, &self.refused].map(|count| count.load(Ordering::Relaxed)),
        }
    }

    /// Warns of those that have expired: clients will refuse them.
    pub(super) fn warn_of_ends(&self, unix_time: Duration) {
        for (file, _) in self.store.in_use().ends().filter(|(_, end)| *end <= unix_time) {
            warn!(file, "the certificate has expired: clients refuse it");
        }
    }

    /// Looks at the files again and again, forever.
    pub(super) async fn watch(self: Arc<Self>, clock: Clock) {
        loop {
            sleep(CERTIFICATE_LOOK_INTERVAL).await;
            let Some(Look { reloaded, refused }) = self.look().await else { continue };
            if let Reloaded::Prepared(prepared) = reloaded {
                info!("{NEW}");
                self.commit(prepared, clock);
            }
            if let Some(reasons) = reasons(&refused) {
                self.refused.fetch_add(1, Ordering::Relaxed);
                seldom!(
                    warn,
                    "certificates in the files cannot be used: those from before stay",
                    %reasons
                );
            }
        }
    }

    /// Looks at the files once. A look that panicked has seen nothing.
    ///
    /// # Cancel safety
    /// May be dropped: nothing is taken into use here.
    async fn look(&self) -> Option<Look> {
        let store = self.store.clone();
        spawn_blocking(move || store.prepare()).await.ok()
    }

    /// Takes new ones into use.
    fn commit(&self, prepared: Prepared, clock: Clock) {
        self.store.commit(prepared);
        self.taken.fetch_add(1, Ordering::Relaxed);
        self.warn_of_ends(clock.unix_time());
    }
}

const NEW: &str = "new certificates are in use";

/// Why pairs were refused, if any were.
fn reasons(refused: &[BadPair]) -> Option<String> {
    let reasons: Vec<_> = refused.iter().map(ToString::to_string).collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// The certificates among the files that SIGHUP has read again.
pub(super) struct CertificateFiles(pub(super) Arc<Certificates>, pub(super) Clock);

impl Reload for CertificateFiles {
    fn prepare(&self) -> Result<reload::Prepared, String> {
        let (certificates, clock) = (self.0.clone(), self.1);
        let Look { reloaded, refused } = certificates.store.prepare();
        if let Some(reasons) = reasons(&refused) {
            certificates.refused.fetch_add(1, Ordering::Relaxed);
            return Err(reasons);
        }
        let commit = move || match reloaded {
            Reloaded::Unchanged => Vec::new(),
            Reloaded::Prepared(prepared) => {
                certificates.commit(prepared, clock);
                vec![NEW.to_owned()]
            }
        };
        Ok(reload::Prepared { warnings: Vec::new(), commit: Box::new(commit) })
    }
}
