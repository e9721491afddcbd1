//! Files of older formats, brought to the present one in a single transaction.

use redb::{Database, Durability, ReadableTable, TableDefinition};

use super::super::chunks::{self, row_of};
use super::super::records::{self, FORMAT};
use super::super::{StoreError, Table};
use super::{Definition, database_error, definition, storage_error, table_error};

/// A row for each dot: origin and number → key.
const OLD_DOTS: Definition = TableDefinition::new("dots");
/// A row for each position: [`LIVE`] and a key, or [`PAST`] and what `past` holds now.
const OLD_FEED: Definition = TableDefinition::new("feed");
const LIVE: u8 = 0;
const PAST: u8 = 1;

/// Brings a file of an older format to [`FORMAT`]. One of format 3 lacks two tables
/// only; what is in the one of expiries is for the replica to say (`expiries.rs`), since the journal may hold
/// documents that the file does not.
pub(super) fn upgrade(database: &Database) -> Result<(), StoreError> {
    let mut transaction = database.begin_write().map_err(database_error)?;
    transaction
        .set_durability(Durability::Immediate)
        .map_err(database_error)?;
    transaction.set_quick_repair(true);
    for table in Table::ALL {
        let opened = transaction.open_table(definition(table));
        opened.map_err(table_error)?;
    }
    upgrade_dots(&transaction)?;
    upgrade_feed(&transaction)?;
    for old in [OLD_DOTS, OLD_FEED] {
        transaction.delete_table(old).map_err(table_error)?;
    }
    transaction
        .open_table(definition(Table::Meta))
        .map_err(table_error)?
        .insert(records::META_FORMAT, &FORMAT.to_be_bytes()[..])
        .map_err(storage_error)?;
    transaction.commit().map_err(database_error)
}

fn upgrade_dots(transaction: &redb::WriteTransaction) -> Result<(), StoreError> {
    let old = transaction.open_table(OLD_DOTS).map_err(table_error)?;
    let new = transaction.open_table(definition(Table::Dots));
    let mut rows = Rows::new(new.map_err(table_error)?);
    for pair in old.iter().map_err(storage_error)? {
        let (dot, key) = pair.map_err(storage_error)?;
        let damaged = StoreError::Damaged {
            table: Table::Dots,
            detail: "a dot has the wrong length",
        };
        let (origin, seq) = dot.value().split_last_chunk::<8>().ok_or(damaged)?;
        rows.add(origin, u64::from_be_bytes(*seq), key.value())?;
    }
    rows.finish()
}

fn upgrade_feed(transaction: &redb::WriteTransaction) -> Result<(), StoreError> {
    let damaged = |detail| StoreError::Damaged {
        table: Table::Feed,
        detail,
    };
    let old = transaction.open_table(OLD_FEED).map_err(table_error)?;
    let new = transaction.open_table(definition(Table::Feed));
    let mut rows = Rows::new(new.map_err(table_error)?);
    let past = transaction.open_table(definition(Table::Past));
    let mut past = past.map_err(table_error)?;
    for pair in old.iter().map_err(storage_error)? {
        let (position, record) = pair.map_err(storage_error)?;
        let position = position.value();
        let number = position.try_into().map(u64::from_be_bytes);
        let number = number.map_err(|_| damaged("a position has the wrong length"))?;
        match record.value().split_first() {
            Some((&LIVE, key)) => rows.add(&[], number, key)?,
            Some((&PAST, record)) => {
                past.insert(position, record).map_err(storage_error)?;
            }
            _ => return Err(damaged("a feed record is of an unknown kind")),
        }
    }
    rows.finish()
}

/// Gathers numbers that come in order into rows of many.
struct Rows<'t> {
    table: redb::Table<'t, &'static [u8], &'static [u8]>,
    /// The key of the row that is being gathered.
    row: Vec<u8>,
    items: Vec<u8>,
}

impl<'t> Rows<'t> {
    fn new(table: redb::Table<'t, &'static [u8], &'static [u8]>) -> Self {
        Self {
            table,
            row: Vec::new(),
            items: Vec::new(),
        }
    }

    fn add(&mut self, prefix: &[u8], number: u64, text: &[u8]) -> Result<(), StoreError> {
        let row = [prefix, &row_of(number).to_be_bytes()].concat();
        if row != self.row {
            self.put()?;
            self.row = row;
        }
        chunks::set(&mut self.items, number, text);
        Ok(())
    }

    fn put(&mut self) -> Result<(), StoreError> {
        if !self.items.is_empty() {
            let inserted = self.table.insert(&self.row[..], &self.items[..]);
            inserted.map_err(storage_error)?;
            self.items.clear();
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), StoreError> {
        self.put()
    }
}
