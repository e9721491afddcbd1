//! A store in memory: for tests and simulations.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, PoisonError, RwLock};

use super::{Finish, Reader, Storage, StoreError, Table, Visit, Writer};

type Place = (Table, Vec<u8>);
type Tables = BTreeMap<Place, Vec<u8>>;

/// A store in memory. Clones share their contents, so that a clone that outlives
/// its first owner plays the part of the disk.
#[derive(Clone, Default)]
pub struct MemoryStorage {
    tables: Arc<RwLock<Tables>>,
}

impl MemoryStorage {
    /// An independent copy of the present contents, as a backup would be.
    pub fn fork(&self) -> Self {
        let tables = self
            .tables
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Self {
            tables: Arc::new(RwLock::new(tables)),
        }
    }
}

/// A disk whose commits fail when all the work is done.
#[cfg(test)]
pub(crate) struct Failing<'d>(pub(crate) &'d MemoryStorage);

#[cfg(test)]
impl Storage for Failing<'_> {
    fn read(
        &self,
        work: &mut dyn FnMut(&dyn Reader) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.0.read(work)
    }

    fn write(
        &self,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<Finish, StoreError>,
    ) -> Result<(), StoreError> {
        self.0.write(&mut |writer| {
            work(writer)?;
            Err(StoreError::NotRun)
        })
    }
}

impl Storage for MemoryStorage {
    fn read(
        &self,
        work: &mut dyn FnMut(&dyn Reader) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        work(&View { tables: &tables })
    }

    fn write(
        &self,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<Finish, StoreError>,
    ) -> Result<(), StoreError> {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let mut transaction = Transaction {
            tables: &mut tables,
            undo: Vec::new(),
        };
        let outcome = work(&mut transaction);
        if !matches!(outcome, Ok(Finish::Commit)) {
            transaction.roll_back();
        }
        outcome.map(drop)
    }
}

struct View<'t> {
    tables: &'t Tables,
}

impl Reader for View<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.tables.get(&(table, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        let from = Bound::Included((table, from.to_vec()));
        for ((at, key), value) in self.tables.range((from, Bound::Unbounded)) {
            if *at != table || to.is_some_and(|to| key.as_slice() >= to) {
                break;
            }
            if let ControlFlow::Break(()) = visit(key, value) {
                break;
            }
        }
        Ok(())
    }
}

/// Changes in place, with what is needed to take them back.
struct Transaction<'t> {
    tables: &'t mut Tables,
    undo: Vec<(Place, Option<Vec<u8>>)>,
}

impl Transaction<'_> {
    fn roll_back(&mut self) {
        for (at, before) in self.undo.drain(..).rev() {
            match before {
                Some(value) => self.tables.insert(at, value),
                None => self.tables.remove(&at),
            };
        }
    }
}

impl Reader for Transaction<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        View {
            tables: self.tables,
        }
        .get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        View {
            tables: self.tables,
        }
        .scan(table, from, to, visit)
    }
}

impl Writer for Transaction<'_> {
    fn insert(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let at = (table, key.to_vec());
        let before = self.tables.insert(at.clone(), value.to_vec());
        self.undo.push((at, before));
        Ok(())
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        let at = (table, key.to_vec());
        let before = self.tables.remove(&at);
        self.undo.push((at, before));
        Ok(())
    }
}
