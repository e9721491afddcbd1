//! Replay windows: each authenticated frame counts once.
//!
//! Every sender numbers its frames within an incarnation, and an incarnation is
//! never used twice, so (sender, incarnation, sequence) names a frame. The
//! window follows RFC 4303, section 3.4.3: frames may overtake each other by up
//! to [`WINDOW_LEN`]; what is older, or was seen, is refused. It is that wide
//! because frames that go over a connection arrive later than datagrams. Only
//! frames that were authenticated reach this table, so that a stranger can
//! neither fill nor move it; it holds [`SENDERS_MAX`] senders and forgets the
//! one heard least recently.

use std::collections::HashMap;

use super::sealed::Envelope;
use crate::identity::Incarnation;
use crate::name::{ClusterName, NodeId};

/// How far behind the newest frame one may arrive.
pub(crate) const WINDOW_LEN: u64 = 1024;
/// Senders remembered.
pub(crate) const SENDERS_MAX: usize = 1024;
/// Incarnations of one sender that are heard side by side: two processes may
/// claim one id, and both must be heard to be told apart.
const INCARNATIONS_MAX: usize = 4;

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is new; from now on it no longer is.
    Fresh,
    /// It was seen, or is too old to tell.
    Repeated,
    /// It is of an incarnation that was never heard, and a newer one was: a
    /// recording, or a node that forgot its former life while its clock went back.
    FormerLife,
}

/// The windows of all senders.
#[derive(Debug, Default)]
pub(crate) struct ReplayTable {
    senders: HashMap<(ClusterName, NodeId), Sender>,
    clock: u64,
}

#[derive(Debug)]
struct Sender {
    lives: Vec<Life>,
    heard: u64,
}

#[derive(Debug)]
struct Life {
    incarnation: Incarnation,
    window: Window,
    heard: u64,
}

impl ReplayTable {
    /// Looks a frame up, and notes it.
    pub(crate) fn admit(&mut self, envelope: &Envelope) -> Admission {
        let Envelope {
            incarnation,
            sequence,
            ..
        } = *envelope;
        self.clock += 1;
        let key = (envelope.cluster.clone(), envelope.sender.clone());
        if !self.senders.contains_key(&key) && self.senders.len() >= SENDERS_MAX {
            self.forget_least_recent();
        }
        let entry = self.senders.entry(key).or_insert(Sender {
            lives: Vec::new(),
            heard: self.clock,
        });
        entry.heard = self.clock;
        let lives = &mut entry.lives;
        if let Some(life) = lives
            .iter_mut()
            .find(|life| life.incarnation == incarnation)
        {
            if !life.window.admit(sequence) {
                return Admission::Repeated;
            }
            life.heard = self.clock;
            return Admission::Fresh;
        }
        if lives.iter().any(|life| life.incarnation > incarnation) {
            return Admission::FormerLife;
        }
        if lives.len() >= INCARNATIONS_MAX {
            // Not the lowest: it may be the one that lives.
            let longest_silent = (0..lives.len()).min_by_key(|at| lives[*at].heard);
            longest_silent.map(|at| lives.swap_remove(at));
        }
        lives.push(Life {
            incarnation,
            window: Window::starting_with(sequence),
            heard: self.clock,
        });
        Admission::Fresh
    }

    fn forget_least_recent(&mut self) {
        let oldest = self.senders.iter().min_by_key(|(_, sender)| sender.heard);
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            self.senders.remove(&key);
        }
    }
}

const WORDS: usize = 16;

/// The last [`WINDOW_LEN`] sequence numbers, a bit each, in a ring.
#[derive(Debug)]
struct Window {
    newest: u64,
    seen: [u64; WORDS],
}

impl Window {
    fn starting_with(sequence: u64) -> Window {
        let mut window = Window {
            newest: sequence,
            seen: [0; WORDS],
        };
        window.mark(sequence);
        window
    }

    fn admit(&mut self, sequence: u64) -> bool {
        if sequence > self.newest {
            let gap = sequence - self.newest;
            if gap >= WINDOW_LEN {
                self.seen = [0; WORDS];
            } else {
                for skipped in self.newest + 1..=sequence {
                    let (word, bit) = place(skipped);
                    self.seen[word] &= !bit;
                }
            }
            self.newest = sequence;
            self.mark(sequence);
            return true;
        }
        if self.newest - sequence >= WINDOW_LEN {
            return false;
        }
        let (word, bit) = place(sequence);
        let fresh = self.seen[word] & bit == 0;
        self.mark(sequence);
        fresh
    }

    fn mark(&mut self, sequence: u64) {
        let (word, bit) = place(sequence);
        self.seen[word] |= bit;
    }
}

/// Where a sequence number is kept: the word is below [`WORDS`] by construction.
fn place(sequence: u64) -> (usize, u64) {
    let index = sequence % WINDOW_LEN;
    let word = usize::try_from(index / 64).expect("below 16");
    (word, 1 << (index % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::transport::sealed::FrameKind;

    /// Offers a frame of node `n`.
    fn admit(table: &mut ReplayTable, n: usize, incarnation: u64, sequence: u64) -> bool {
        admit_of("c", table, n, incarnation, sequence)
    }

    fn admit_of(
        cluster: &str,
        table: &mut ReplayTable,
        n: usize,
        incarnation: u64,
        sequence: u64,
    ) -> bool {
        let admission = table.admit(&Envelope {
            kind: FrameKind::Gossip,
            sender: format!("n{n}").parse().unwrap(),
            incarnation: Incarnation(incarnation),
            sequence,
            cluster: cluster.parse().unwrap(),
            recipient: None,
            address: ([10, 0, 0, 1], 9400).into(),
            clock_ms: 0,
        });
        admission == Admission::Fresh
    }

    proptest! {
        #[test]
        fn the_window_agrees_with_a_list_of_all_that_was_seen(
            steps in prop::collection::vec(
                prop_oneof![0u64..20, 1000u64..1060, 0u64..5000],
                1..400,
            ),
        ) {
            let mut table = ReplayTable::default();
            let mut seen = HashSet::new();
            let mut newest: Option<u64> = None;
            for sequence in steps {
                let fresh = !seen.contains(&sequence)
                    && newest.is_none_or(|newest| sequence + WINDOW_LEN > newest);
                let admitted = admit(&mut table, 1, 1, sequence);
                prop_assert_eq!(admitted, fresh);
                if fresh {
                    seen.insert(sequence);
                    newest = newest.max(Some(sequence));
                }
            }
        }

        #[test]
        fn no_frame_is_admitted_twice(sequences in prop::collection::vec(any::<u64>(), 1..100)) {
            let mut table = ReplayTable::default();
            let mut admitted = HashSet::new();
            for sequence in sequences.iter().chain(&sequences) {
                if admit(&mut table, 1, 1, *sequence) {
                    prop_assert!(admitted.insert(*sequence));
                }
            }
        }
    }

    #[test]
    fn a_former_life_is_refused_once_a_later_one_was_heard() {
        let mut table = ReplayTable::default();
        assert!(admit(&mut table, 1, 5, 1));
        assert!(admit(&mut table, 1, 9, 1));
        assert!(admit(&mut table, 1, 5, 2), "heard before, still alive");
        assert!(!admit(&mut table, 1, 7, 1));
        assert!(admit(&mut table, 2, 7, 1), "another sender");
    }

    #[test]
    fn a_life_that_goes_on_is_heard_through_any_number_of_later_ones() {
        let mut table = ReplayTable::default();
        for incarnation in 1..20 {
            assert!(admit(&mut table, 1, incarnation, 1));
            assert!(admit(&mut table, 1, 1, 1 + incarnation), "{incarnation}");
        }
        assert!(!admit(&mut table, 1, 2, 9), "over and forgotten");
    }

    #[test]
    fn the_same_id_in_another_cluster_is_another_sender() {
        let mut table = ReplayTable::default();
        assert!(admit_of("d", &mut table, 1, 9, 1));
        assert!(admit(&mut table, 1, 5, 1));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_was_heard_least_recently() {
        let mut table = ReplayTable::default();
        for n in 0..SENDERS_MAX {
            assert!(admit(&mut table, n, 1, 1));
        }
        assert!(admit(&mut table, 0, 1, 2));
        assert!(admit(&mut table, SENDERS_MAX, 1, 1));
        assert_eq!(table.senders.len(), SENDERS_MAX);
        assert!(!admit(&mut table, 0, 1, 2), "still remembered");
    }
}
