//! Systems without upgrades in place: no server waits for another one to take its place.

use std::{io, path::Path, time::Duration};

use super::{StartError, coordinator::Coordinator, exit::End};

/// There are none: the option is refused.
pub(super) enum ControlSocket {}

/// Never.
///
/// # Errors
/// Always.
pub(super) fn listen(_path: &Path) -> Result<ControlSocket, StartError> {
    Err(io::Error::from(io::ErrorKind::Unsupported).into())
}

/// There is none.
pub(super) enum Upgrading {}

/// There is none.
pub(super) enum Replaced {}

impl Upgrading {
    pub(super) async fn run(self) -> Replaced {
        match self {}
    }
}

impl Replaced {
    pub(super) async fn finish(
        self,
        _coordinator: &mut Coordinator,
        _close_over: Duration,
    ) -> Option<End> {
        match self {}
    }
}
