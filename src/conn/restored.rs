//! Another process' clients on their way into this one: what those of a shard share, and those that
//! have not begun.
//!
//! The clients of one shard there may go on in several here, and the other way round. So what they
//! share belongs to no shard here, and is there as a whole before the first client.

use std::{collections::BTreeMap, net::TcpStream, sync::Arc};

use super::{
    record::{BadClientRecord, TableRecord},
    write::laid_out::lay_out_again,
};
use crate::{
    hub::{Key, OutputTaking, PayloadsTaking, RestoredOutput},
    record,
    token::Rights,
};

/// All that the clients of another process share, as it comes.
#[derive(Debug, Default)]
pub struct TablesTaking {
    tables: BTreeMap<u32, TableTaking>,
    payloads: PayloadsTaking,
}

#[derive(Debug, Default)]
struct TableTaking {
    output: OutputTaking,
    rights: Vec<Arc<Rights>>,
}

/// All that the clients of another process share: to be lent to all tables that they go on in, and
/// dropped when all of them are there.
#[derive(Debug)]
pub struct RestoredTables {
    tables: BTreeMap<u32, RestoredTable>,
    /// That of a shard whose clients share nothing.
    empty: RestoredTable,
}

/// All that the clients of one shard of another process share.
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

impl TablesTaking {
    /// The next chunk of the old process' `shard`: see
    /// [`TableRecording::next_chunk`](super::TableRecording::next_chunk). Chunks of different
    /// shards come in any order.
    ///
    /// # Errors
    /// When it cannot be read, or is not the next one; the rest has no meaning then.
    pub fn put(&mut self, shard: u32, chunk: &[u8]) -> Result<(), BadClientRecord> {
        let TableRecord { hub, rights } = record::from_bytes(chunk)?;
        let table = self.tables.entry(shard).or_default();
        table.rights.extend(rights.into_iter().map(Arc::new));
        Ok(table.output.put(hub, &mut self.payloads)?)
    }

    /// All chunks of all shards have come.
    ///
    /// # Errors
    /// When something in them refers to what is not there.
    pub fn finish(self) -> Result<RestoredTables, BadClientRecord> {
        let payloads = self.payloads.finish();
        let mut tables = BTreeMap::new();
        for (shard, TableTaking { output, rights }) in self.tables {
            let output = output.finish(shard, &payloads, &lay_out_again)?;
            tables.insert(shard, RestoredTable { output, rights });
        }
        let empty = OutputTaking::default().finish(u32::MAX, &payloads, &lay_out_again)?;
        Ok(RestoredTables { tables, empty: RestoredTable { output: empty, rights: Vec::new() } })
    }
}

impl RestoredTables {
    /// The data that the clients of the old process' `shard` share.
    #[must_use]
    pub fn of(&self, shard: u32) -> &RestoredTable {
        self.tables.get(&shard).unwrap_or(&self.empty)
    }
}
