//! Who links to whom.
//!
//! In goes the list of members, out come the neighbours of one of them; nothing is kept
//! and nothing can fail. All replicas compute it alike from the list alone, so nobody has
//! to agree with anybody about a link. Where lists differ for a while, as they do whenever
//! somebody joins, links differ for as long, and only those near the newcomer.
//!
//! Up to [`Mesh::peers_max`] peers everyone links to everyone. Beyond it, members stand on
//! several rings, on each at a place that the hash of their name gives, and link to whoever
//! comes before and after them on each (Law and Siu, "Distributed construction of random
//! expander networks", 2003). With as many rings as the number of members has bits, that is:
//!
//! - at most two links a ring, whatever the hashes are: 20 among 1,000. Successors at powers
//!   of two, as in Chord, would be as many on average, but several times that for whoever
//!   comes after a wide gap, and whoever takes them by rank has all ranks behind a newcomer
//!   shifted;
//! - few hops, since each ring is another shuffle: every neighbour has other neighbours;
//! - connected also when a third fails at once: a replica is cut off when all its neighbours
//!   fail, with a probability of n to the power of -3.2;
//! - little moves: on each ring a newcomer stands between two that were linked, and no other
//!   link changes. When the number of members passes a power of two, everyone gets two links
//!   more, or loses two.

use std::collections::BTreeSet;

use crate::model::PeerId;

/// How large a full mesh may be, and how many rings there are beyond it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mesh {
    /// Up to so many peers, a replica links to all of them.
    pub peers_max: usize,
    /// Rings at most. Two links a ring.
    pub rings_max: usize,
}

/// Bytes of a place on a ring.
const PLACE_BYTES: usize = size_of::<u64>();
/// Rings that are ever used: enough for 65,536 members.
const RINGS_MAX: usize = 16;

impl Default for Mesh {
    fn default() -> Self {
        Self {
            peers_max: 64,
            rings_max: RINGS_MAX,
        }
    }
}

impl Mesh {
    /// Whether a replica with so many peers links to all of them.
    pub fn is_full(&self, peers: usize) -> bool {
        peers <= self.peers_max
    }

    /// How many rings so many members stand on.
    fn rings(&self, members: usize) -> usize {
        let bits = members.next_power_of_two().trailing_zeros();
        let bits = usize::try_from(bits).unwrap_or(RINGS_MAX);
        bits.min(self.rings_max).clamp(1, RINGS_MAX)
    }

    /// The peers that the replica of this name links to. Whether its own name is among
    /// `peers` or not makes no difference.
    pub fn neighbours(&self, own: &PeerId, peers: &[PeerId]) -> BTreeSet<PeerId> {
        let others: BTreeSet<&PeerId> = peers.iter().filter(|peer| *peer != own).collect();
        if self.is_full(others.len()) {
            return others.into_iter().cloned().collect();
        }
        let rings = self.rings(others.len() + 1);
        let start = places(own);
        let mut closest: Vec<Closest<'_>> = vec![Closest::default(); rings];
        for other in others {
            let theirs = places(other);
            for (ring, closest) in closest.iter_mut().enumerate() {
                closest.note(start[ring], theirs[ring], other);
            }
        }
        let both = closest.into_iter().flat_map(|one| [one.before, one.after]);
        both.flatten().map(|(_, peer)| peer.clone()).collect()
    }
}

/// Where a member stands on each ring.
fn places(name: &PeerId) -> [u64; RINGS_MAX] {
    let mut bytes = [0; RINGS_MAX * PLACE_BYTES];
    let mut hasher = blake3::Hasher::new_derive_key("basic-sync 2026 places on the rings");
    hasher.update(name.as_str().as_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    let mut places = [0; RINGS_MAX];
    let (chunks, _) = bytes.as_chunks::<PLACE_BYTES>();
    for (place, bytes) in places.iter_mut().zip(chunks) {
        *place = u64::from_be_bytes(*bytes);
    }
    places
}

/// Who comes before and after a place, as far as is known, and how far away.
#[derive(Clone, Default)]
struct Closest<'p> {
    before: Option<(u64, &'p PeerId)>,
    after: Option<(u64, &'p PeerId)>,
}

impl<'p> Closest<'p> {
    fn note(&mut self, own: u64, theirs: u64, peer: &'p PeerId) {
        let before = (own.wrapping_sub(theirs), peer);
        let after = (theirs.wrapping_sub(own), peer);
        if self.before.is_none_or(|closest| before < closest) {
            self.before = Some(before);
        }
        if self.after.is_none_or(|closest| after < closest) {
            self.after = Some(after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::random::SplitMix64;

    fn names(numbers: std::ops::Range<usize>) -> Vec<PeerId> {
        numbers
            .map(|number| PeerId::new(&format!("node-{number}")))
            .collect()
    }

    /// The links of all.
    fn links(members: &[PeerId]) -> BTreeSet<(PeerId, PeerId)> {
        let of = |own: &PeerId| {
            let own = own.clone();
            let neighbours = Mesh::default().neighbours(&own, members).into_iter();
            neighbours.map(move |peer| (own.clone(), peer))
        };
        members.iter().flat_map(of).collect()
    }

    /// How many can be reached from the first of them over links between them alone.
    fn reached(members: &[PeerId], links: &BTreeSet<(PeerId, PeerId)>) -> usize {
        let mut open: BTreeSet<&PeerId> = members.iter().collect();
        let mut next: Vec<&PeerId> = members.first().into_iter().collect();
        let mut reached = 0;
        while let Some(own) = next.pop() {
            if !open.remove(own) {
                continue;
            }
            reached += 1;
            next.extend(links.iter().filter_map(|(a, b)| (a == own).then_some(b)));
        }
        reached
    }

    #[test]
    fn a_small_cluster_is_a_full_mesh() {
        let members = names(0..65);
        let all = Mesh::default().neighbours(&members[3], &members);
        assert_eq!(all.len(), 64);
        assert!(!all.contains(&members[3]));
        assert!(Mesh::default().neighbours(&members[0], &[]).is_empty());
    }

    #[test]
    fn links_are_mutual_few_and_reach_all() {
        for size in [66, 100, 128, 129, 300] {
            let members = names(0..size);
            let links = links(&members);
            let rings = Mesh::default().rings(size);
            assert!((1 << (rings - 1)) < size && size <= 1 << rings);
            for (a, b) in &links {
                assert!(links.contains(&(b.clone(), a.clone())), "{a} and {b}");
                assert_ne!(a, b);
            }
            for own in &members {
                let degree = links.iter().filter(|(a, _)| a == own).count();
                assert!(degree <= 2 * rings, "{own} of {size} has {degree} links");
                // Two may be next to each other on more than one ring.
                assert!(degree > rings, "{own} of {size} has {degree} links");
            }
            assert_eq!(reached(&members, &links), size);
        }
    }

    #[test]
    fn those_who_are_left_reach_each_other_when_a_third_fails_at_once() {
        let mut random = SplitMix64(7);
        for size in [66, 150, 300] {
            let links = links(&names(0..size));
            for _ in 0..20 {
                let mut left = names(0..size);
                left.retain(|_| random.fraction() >= 1.0 / 3.0);
                assert_eq!(reached(&left, &links), left.len(), "of {size}");
            }
        }
    }

    #[test]
    fn who_joins_comes_between_two_on_each_ring_and_moves_nobody_else() {
        for size in [66, 100, 200] {
            let rings = Mesh::default().rings(size + 1);
            let before = links(&names(0..size));
            let after = links(&names(0..size + 1));
            let newcomer = PeerId::new(&format!("node-{size}"));
            let removed = before.difference(&after).count();
            assert!(removed <= 2 * rings, "each link counts in both directions");
            for (a, b) in after.difference(&before) {
                assert!(*a == newcomer || *b == newcomer, "{a} and {b}");
            }
        }
    }

    #[test]
    fn all_compute_it_alike_whatever_the_order_of_their_lists() {
        let members = names(0..90);
        let mut reversed = members.clone();
        reversed.reverse();
        reversed.retain(|peer| *peer != members[5]);
        let mesh = Mesh::default();
        let own = &members[5];
        assert_eq!(
            mesh.neighbours(own, &members),
            mesh.neighbours(own, &reversed)
        );
    }
}
