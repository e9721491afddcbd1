//! What the invariants rest on, taken out: a check of the checks.
//!
//! A harness that stays green whatever happens to the replicas shows nothing. So here
//! something is taken out, from outside, through the seams that are there anyway: the
//! store and the messages. The replicas are as they are; no switch is in them. Each
//! [`Harm`] must be noticed by the invariant that it breaks ([`caught`]), within some seeds.

use std::panic::{AssertUnwindSafe, catch_unwind};

use basic_sync::model::VersionVector;
use basic_sync::protocol::{Message, TreeMessage};
use basic_sync::storage::{
    Finish, MemoryStorage, Reader, Storage, StoreError, Table, Visit, Writer, records,
};

use crate::options::Options;
use crate::settlement::{self, overlays};
use crate::world::World;

/// What is taken out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Harm {
    /// The fsync: a crash takes a disk back to an earlier commit.
    NoSync,
    /// The tombstone check: what comes in is merged as if a deleted key had never been.
    NoTombstones,
    /// The claim rule of pulls (DESIGN §6, trap (a)): the first chunk claims all.
    EarlyClaims,
    /// The horizon (DESIGN §6, trap (d)): an old copy of a disk is not told that it lacks
    /// what deletions were let go of.
    NoHorizon,
    /// The count of a census: it is said to be complete, whoever is missing.
    CountedAll,
}

/// A store that has forgotten what was deleted when it is asked what a key holds.
pub(crate) struct Forgetful<'d>(pub(crate) &'d MemoryStorage);

impl Storage for Forgetful<'_> {
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
        self.0.write(&mut |writer| work(&mut Forgetting(writer)))
    }
}

struct Forgetting<'w>(&'w mut dyn Writer);

impl Reader for Forgetting<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let held = self.0.get(table, key)?;
        let deleted = |bytes: &Vec<u8>| {
            let entry = records::decode_entry(bytes);
            table == Table::Entries && entry.is_ok_and(|entry| entry.document.is_tombstone(0))
        };
        Ok(held.filter(|bytes| !deleted(bytes)))
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        self.0.scan(table, from, to, visit)
    }
}

impl Writer for Forgetting<'_> {
    fn insert(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.0.insert(table, key, value)
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.0.remove(table, key)
    }
}

/// A chunk that claims all that its sender has, whatever is still to come.
pub(crate) fn claimed_early(message: Message, vector: VersionVector) -> Message {
    match message {
        Message::PullChunk(mut chunk) => {
            chunk.claim = Some(vector);
            Message::PullChunk(chunk)
        }
        other => other,
    }
}

/// A census in which everyone was counted.
pub(crate) fn counted_all(message: Message) -> Message {
    match message {
        Message::Tree(TreeMessage::Census(mut census)) => {
            for line in census.lines.values_mut() {
                line.counted = true;
            }
            Message::Tree(TreeMessage::Census(census))
        }
        other => other,
    }
}

/// How a replica stands that has never let go of anything.
pub(crate) fn without_horizon(message: Message) -> Message {
    match message {
        Message::Standing(mut standing) => {
            standing.horizon = VersionVector::default();
            Message::Standing(standing)
        }
        other => other,
    }
}

/// Seeds within which harm must be noticed.
const SEEDS: u64 = 60;

/// Runs seeds with harm until a check fails in the name of this invariant.
fn caught(harm: Harm, invariant: &str) {
    let mut others = Vec::new();
    for seed in 0..SEEDS {
        let run = || World::harmed(seed, Options::draw(seed), harm).run_whole();
        let Err(panic) = catch_unwind(AssertUnwindSafe(run)) else {
            continue;
        };
        let said = panic.downcast_ref::<String>().map_or("", String::as_str);
        if said.starts_with(invariant) {
            eprintln!("{harm:?}: seed {seed} shows it: {said}");
            return;
        }
        others.push(said.chars().take(100).collect::<String>());
    }
    panic!("of {SEEDS} seeds with {harm:?} none fails in the name of {invariant}: {others:#?}");
}

#[test]
fn without_the_sync_an_acknowledged_write_is_found_to_be_lost() {
    caught(Harm::NoSync, "invariant 1");
}

#[test]
fn without_the_tombstone_check_a_deleted_key_is_found_to_be_back() {
    caught(Harm::NoTombstones, "invariant 3");
}

#[test]
fn without_the_claim_rule_replicas_are_found_to_differ() {
    caught(Harm::EarlyClaims, "invariant 2");
}

/// An old copy is rare, and one of a disk that deletions concern rarer: so here not seeds but
/// its scenario.
#[test]
fn without_the_horizon_an_old_copy_is_found_to_bring_back_what_was_deleted() {
    let run = || {
        let mut world = World::harmed(3, settlement::short(3), Harm::NoHorizon);
        settlement::bring_an_old_copy(&mut world);
        world.check_end();
    };
    let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("nothing is noticed");
    let said = panic.downcast_ref::<String>().map_or("", String::as_str);
    assert!(said.starts_with("invariant 3"), "{said}");
}

/// Where the horizon holds nothing comes back, so it is looked at what is let go of.
#[test]
fn without_the_count_of_a_census_a_deletion_is_found_to_be_forgotten_too_early() {
    let run = || {
        let mut world = World::harmed(31, overlays::overlay(9), Harm::CountedAll);
        overlays::delete_while_one_is_away(&mut world);
    };
    let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("nothing is noticed");
    let said = panic.downcast_ref::<&str>().copied().unwrap_or_default();
    assert!(said.starts_with("replica 5 may still send"), "{said}");
}
