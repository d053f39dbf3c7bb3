//! A task on the thread that began it, which ends with its owner.

use tokio::task::{JoinHandle, spawn_local};

/// A task; dropped, it ends.
#[derive(Debug)]
pub(super) struct Task(JoinHandle<()>);

impl Task {
    /// Begins it on the calling thread.
    pub(super) fn spawn(task: impl Future<Output = ()> + 'static) -> Self {
        Self(spawn_local(task))
    }

    /// Ends it, and waits until it and all that it holds is gone.
    pub(super) async fn end(mut self) {
        self.0.abort();
        // Cancelled, as it should be.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
