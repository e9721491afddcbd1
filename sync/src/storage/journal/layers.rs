//! Changes in memory, and reading through several layers of them.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::iter::Peekable;
use std::ops::{Bound, ControlFlow};

use super::super::{Reader, StoreError, Table, Visit};

/// Memory for a row besides its bytes, about.
const ROW_OVERHEAD_BYTES: usize = 96;

type Rows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;
type Changes<'l> = Range<'l, Vec<u8>, Option<Vec<u8>>>;

/// The last change of each row: its new value, or `None` where it was removed.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    tables: [Rows; Table::ALL.len()],
    bytes: usize,
}

impl Batch {
    /// Sets or removes a row.
    pub(super) fn set(&mut self, table: Table, key: Vec<u8>, value: Option<Vec<u8>>) {
        let size = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
        self.bytes += size(&value);
        let key_bytes = key.len();
        match self.tables[table.index()].insert(key, value) {
            Some(before) => self.bytes -= size(&before),
            None => self.bytes += key_bytes + ROW_OVERHEAD_BYTES,
        }
    }

    /// Changes in place the value of a row that was set here; whether it was.
    pub(super) fn change(
        &mut self,
        table: Table,
        key: &[u8],
        change: &mut dyn FnMut(&mut Vec<u8>),
    ) -> bool {
        let Some(row) = self.tables[table.index()].get_mut(key) else {
            return false;
        };
        let mut value = row.take().unwrap_or_default();
        self.bytes -= value.len();
        change(&mut value);
        self.bytes += value.len();
        *row = Some(value).filter(|value| !value.is_empty());
        true
    }

    /// Takes in later changes.
    pub(super) fn absorb(&mut self, later: Batch) {
        for (table, rows) in Table::ALL.into_iter().zip(later.tables) {
            for (key, value) in rows {
                self.set(table, key, value);
            }
        }
    }

    /// Memory that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tables.iter().all(Rows::is_empty)
    }

    /// All changes, by table and key.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Table, &[u8], Option<&[u8]>)> {
        let tables = Table::ALL.into_iter().zip(&self.tables);
        tables.flat_map(|(table, rows)| {
            let rows = rows.iter();
            rows.map(move |(key, value)| (table, key.as_slice(), value.as_deref()))
        })
    }

    fn get(&self, table: Table, key: &[u8]) -> Option<&Option<Vec<u8>>> {
        self.tables[table.index()].get(key)
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Range<'_, Vec<u8>, Option<Vec<u8>>> {
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        self.tables[table.index()].range::<[u8], _>((Bound::Included(from), to))
    }
}

/// Several layers, the newest first, over a base.
pub(super) struct View<'l> {
    layers: [Option<&'l Batch>; 3],
    base: &'l dyn Reader,
}

impl<'l> View<'l> {
    pub(super) fn new(layers: [Option<&'l Batch>; 3], base: &'l dyn Reader) -> Self {
        Self { layers, base }
    }
}

impl Reader for View<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let mut layers = self.layers.iter().flatten();
        match layers.find_map(|layer| layer.get(table, key)) {
            Some(changed) => Ok(changed.clone()),
            None => self.base.get(table, key),
        }
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let mut changes = Merged {
            layers: self
                .layers
                .map(|layer| layer.map(|layer| layer.range(table, from, to).peekable())),
        };
        let mut flow = ControlFlow::Continue(());
        self.base.scan(table, from, to, &mut |key, value| {
            // What lies before the base's row, then the row or what hides it.
            flow = changes.visit_before(Some(key), visit);
            if flow.is_break() {
                return flow;
            }
            flow = match changes.take_at(key) {
                Some(Some(changed)) => visit(key, changed),
                Some(None) => ControlFlow::Continue(()),
                None => visit(key, value),
            };
            flow
        })?;
        if flow.is_continue() {
            let _ = changes.visit_before(None, visit);
        }
        Ok(())
    }
}

/// The changes of all layers in the order of their keys, each key once, from the newest
/// layer that has it.
struct Merged<'l> {
    layers: [Option<Peekable<Changes<'l>>>; 3],
}

impl<'l> Merged<'l> {
    fn next_key(&mut self) -> Option<&'l [u8]> {
        let heads = self.layers.iter_mut().flatten();
        heads
            .filter_map(|rows| rows.peek().map(|(key, _)| key.as_slice()))
            .min()
    }

    /// Takes the change of a key that is the next of those that are left; what older
    /// layers say of it is passed over.
    fn take_at(&mut self, key: &[u8]) -> Option<Option<&'l [u8]>> {
        let mut newest = None;
        for rows in self.layers.iter_mut().flatten() {
            if let Some((_, value)) = rows.next_if(|(next, _)| next.as_slice() == key) {
                newest = newest.or(Some(value.as_deref()));
            }
        }
        newest
    }

    /// Visits the rows before a key, or all that are left.
    fn visit_before(&mut self, before: Option<&[u8]>, visit: &mut Visit<'_>) -> ControlFlow<()> {
        while let Some(key) = self.next_key() {
            if before.is_some_and(|before| key >= before) {
                break;
            }
            if let Some(Some(value)) = self.take_at(key) {
                visit(key, value)?;
            }
        }
        ControlFlow::Continue(())
    }
}
