//! Tells the other processes on the same broker that this one takes clients, and, once it drains,
//! finds out whether one of them does: only then can clients come back without being refused.

use std::{rc::Rc, sync::Arc};

use tokio::time::timeout;

use crate::{
    broker::Broker,
    drain::{Control, Phase},
    limits::PRESENCE_INTERVAL,
};

/// Keeps `control` informed, forever.
pub(super) async fn run(broker: Rc<dyn Broker>, control: Arc<Control>) {
    let mut phases = control.watch();
    loop {
        let takes_clients = *phases.borrow_and_update() == Phase::Serving;
        let others_serve = broker.presence(takes_clients).await;
        control.set_others_serve(others_serve);
        // A drain that begins is looked at once.
        if let Ok(Err(_)) = timeout(PRESENCE_INTERVAL, phases.changed()).await {
            return;
        }
    }
}
