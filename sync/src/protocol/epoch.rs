//! New origins: one for each life of a replica.

use super::{Now, Replica};
use crate::model::{Origin, VersionVector};

impl Replica {
    /// A peer that has more of our writes than we have made got them from another
    /// process that writes as this one.
    pub(super) fn check_epoch(&mut self, now: Now, theirs: &VersionVector) {
        let known = theirs.of(self.header.origin).map_or(0, |own| own.highest());
        if known > self.written() {
            self.begin_epoch(now);
        }
    }

    /// Goes on under a new origin.
    ///
    /// Every life of a replica begins one with its first write (DESIGN §6, trap (b)): a
    /// store cannot tell by itself whether it was restored from an old copy, and the
    /// peers that could tell may be out of reach. Whatever was written under the old
    /// origins, here or in a state of this store that was lost, is then got like
    /// anybody's writes.
    pub(super) fn begin_epoch(&mut self, now: Now) {
        let random = u16::try_from(self.random.next() >> 48).unwrap_or(0);
        let Origin { replica, epoch } = self.header.origin;
        // One that did not become durable may be known to peers all the same.
        self.latest_epoch = self.latest_epoch.max(epoch).next(now.wall_ms, random);
        self.header.origin = Origin {
            replica,
            epoch: self.latest_epoch,
        };
        self.changed = true;
        self.counters.epochs_begun += 1;
        self.waiting.expire();
        self.marks.clear();
        for known in self.peers.values_mut() {
            known.acked = 0;
        }
    }
}
