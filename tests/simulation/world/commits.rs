//! Commits of a replica, and how far they come.

use basic_sync::protocol::{Message, Output, finish, serve, stage};
use basic_sync::storage::{Finish, MemoryStorage, Reader, Storage, StoreError, Table, Writer};
use rand::RngExt;

use super::{Event, SYNCED, World, exported};
use crate::harm::{Forgetful, Harm};

/// How far a commit comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Commit {
    /// All of its outputs are sent.
    Whole,
    /// It is durable, and so many of its outputs are sent, pushes first.
    Sent(usize),
    /// The power fails before it is durable, and so many of its pushes are sent. The disk has
    /// it all the same, or not.
    PowerLoss { sent: usize, kept: bool },
    /// It fails before anything of it was sent.
    Refused,
    /// All of its pushes are sent, and then it fails.
    NotSynced,
}

impl World {
    /// Takes in the inbox of a replica, and sends the outputs, as far as the commit comes.
    pub(crate) fn commit(&mut self, replica: usize, mut ends: Commit) {
        let now = self.time_of(replica);
        let chance = self.options.commit_failure;
        if self.disks_fail || self.turmoil && self.random.random_bool(chance) {
            ends = match self.random.random_bool(0.5) {
                true => Commit::Refused,
                false => Commit::NotSynced,
            };
        }
        let node = &mut self.nodes[replica];
        node.latest_ms = node.latest_ms.max(now.wall_ms);
        node.committing = false;
        let inputs = std::mem::take(&mut node.inbox);
        let Some(core) = &mut node.replica else {
            return;
        };
        let undone = match ends {
            Commit::NotSynced | Commit::PowerLoss { kept: false, .. } => Some(node.disk.fork()),
            _ => None,
        };
        let staged = match self.harm {
            _ if ends == Commit::Refused => {
                stage(core, &FailingStorage { disk: &node.disk }, now, inputs)
            }
            Some(Harm::NoTombstones) => stage(core, &Forgetful(&node.disk), now, inputs),
            _ => stage(core, &node.disk, now, inputs),
        };
        if let Some(disk) = undone {
            node.disk = disk;
        }
        let settled = match (&staged, ends) {
            (Err(_), _) | (_, Commit::PowerLoss { .. }) => Ok(Vec::new()),
            (_, Commit::NotSynced) => finish(core, &FailingStorage { disk: &node.disk }, now),
            _ => finish(core, &node.disk, now).and_then(|mut outputs| {
                outputs.append(&mut serve(core, &node.disk)?);
                Ok(outputs)
            }),
        };
        if self.harm == Some(Harm::NoSync) && self.random.random_bool(SYNCED) {
            node.synced = node.disk.fork();
        }
        let deadline = core.next_deadline();
        // Who takes over a snapshot writes after the floors that it has heard of.
        self.floor_ms = self.floor_ms.max(core.status().floor.millis());
        let floor_ms = self.floor_ms;
        self.commits_failed += u64::from(staged.is_err() || settled.is_err());
        let staged_well = staged.is_ok();
        let early = staged.unwrap_or_default();
        let pushed = match ends {
            Commit::PowerLoss { sent, kept: false } => sent.min(early.len()),
            // What is committed is there, whatever becomes of the outputs.
            _ => early.len(),
        };
        // What was to wait is on the disk with the rest.
        let unsent = match ends {
            Commit::PowerLoss { kept: true, .. } if staged_well => core.drain(now),
            _ => Vec::new(),
        };
        // Where a link has come up, all of them wait.
        let late = settled.as_deref().unwrap_or_default();
        for output in early[..pushed].iter().chain(late).chain(&unsent) {
            if let Output::Broadcast(Message::Push { changes })
            | Output::Multicast(_, Message::Push { changes }) = output
            {
                let latest_ms = now.wall_ms.max(floor_ms);
                self.history.commit(replica, latest_ms, changes);
                if matches!(
                    ends,
                    Commit::NotSynced | Commit::PowerLoss { kept: false, .. }
                ) {
                    self.history.undo(changes);
                }
            }
        }
        let sent = match ends {
            Commit::Sent(sent) | Commit::PowerLoss { sent, .. } => sent,
            _ => usize::MAX,
        };
        let outputs = early.into_iter().chain(settled.unwrap_or_default());
        for output in outputs.take(sent) {
            self.output(replica, output);
        }
        let node = &mut self.nodes[replica];
        let exported = exported(&node.disk);
        for delta in &exported[node.exported..] {
            self.history.export(replica, delta);
        }
        node.exported = exported.len();
        self.watch(replica);
        let node = &mut self.nodes[replica];
        if deadline < node.next_tick {
            node.next_tick = deadline;
            let life = node.life;
            self.at(deadline.max(self.now), Event::Tick { replica, life });
        }
    }
}

/// A disk whose next commit fails after all the work was done, in either of its halves.
struct FailingStorage<'d> {
    disk: &'d MemoryStorage,
}

impl Storage for FailingStorage<'_> {
    fn read(
        &self,
        work: &mut dyn FnMut(&dyn Reader) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.disk.read(work)
    }

    fn write(
        &self,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<Finish, StoreError>,
    ) -> Result<(), StoreError> {
        self.disk.write(&mut |writer| {
            work(writer)?;
            Err(failed_on_purpose())
        })
    }

    fn settle(&self) -> Result<(), StoreError> {
        Err(failed_on_purpose())
    }
}

fn failed_on_purpose() -> StoreError {
    StoreError::Damaged {
        table: Table::Meta,
        detail: "the disk failed on purpose",
    }
}
