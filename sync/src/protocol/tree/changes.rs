//! Which origins have changed since a peer was last told.
//!
//! Changes are counted from 1, which is what there was in the beginning; of each origin only the latest counts, so that there are no
//! more than there are origins. Who was told of all up to a number is told of those after.

use std::collections::BTreeMap;

use crate::model::Origin;

/// The latest change of each origin.
#[derive(Clone, Debug)]
pub(super) struct Changes {
    by_number: BTreeMap<u64, Origin>,
    numbers: BTreeMap<Origin, u64>,
    last: u64,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            by_number: BTreeMap::new(),
            numbers: BTreeMap::new(),
            last: 1,
        }
    }
}

impl Changes {
    /// Something of this origin was taken in.
    pub(super) fn note(&mut self, origin: Origin) {
        self.last += 1;
        if let Some(before) = self.numbers.insert(origin, self.last) {
            self.by_number.remove(&before);
        }
        self.by_number.insert(self.last, origin);
    }

    /// The number of the last change.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The origins that have changed after `number`, in the order of their latest changes,
    /// each with its number.
    pub(super) fn after(&self, number: u64) -> impl Iterator<Item = (u64, Origin)> {
        let after = self.by_number.range(number.saturating_add(1)..);
        after.map(|(number, origin)| (*number, *origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, ReplicaId};

    #[test]
    fn of_each_origin_the_latest_change_is_told() {
        let origin = |number| Origin {
            replica: ReplicaId([number; 16]),
            epoch: Epoch(1),
        };
        let mut changes = Changes::default();
        for number in [1, 2, 1, 3, 1] {
            changes.note(origin(number));
        }
        let after = |number| changes.after(number).collect::<Vec<_>>();
        assert_eq!(after(1), [(3, origin(2)), (5, origin(3)), (6, origin(1))]);
        assert_eq!(after(5), [(6, origin(1))]);
        assert_eq!(after(changes.last()), []);
        assert_eq!(after(u64::MAX), []);
    }
}
