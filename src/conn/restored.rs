//! Plain data: another process' clients that have not begun here.

use std::{net::TcpStream, sync::Arc};

use crate::{
    hub::{Key, RestoredOutput},
    token::Rights,
};

/// Data that the clients of another shard share, as far as it was taken over.
#[derive(Debug)]
pub struct RestoredTable {
    pub(super) output: RestoredOutput,
    pub(super) rights: Vec<Arc<Rights>>,
}

/// A client that has not begun.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) key: Key,
    pub(super) stream: TcpStream,
    pub(super) is_returning: bool,
}
