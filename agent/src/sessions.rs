//! Session tokens: what a client rests on, carried by the client from node to node.
//!
//! A client that writes on one node and reads on another wants to find what it wrote; one that has read something wants
//! not to read anything older, anywhere. No node remembers clients for that: the token says which writes the client has
//! made and seen, as a [`Frontier`], and any node can wait until it has them.
//!
//! The text is base64url, without padding, of these bytes, numbers big-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version of the format: 1 |
//! | 4 | cluster: the first bytes of blake3 of its name |
//! | 32 × n | an origin (replica 16, epoch 8) and a number (8); ascending by origin, n ≤ [`ORIGINS_MAX`] |
//! | 4 | the first bytes of blake3 of all before |
//!
//! The last four keep a token that was cut or garbled on its way from being waited for in vain; they are no secret. Who
//! makes up a token makes only its own requests wait.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use basic_sync::model::{Dot, Epoch, Frontier, Origin, ReplicaId, SEQ_MAX};

/// Origins in one token at most. An origin is one life of one node's store, so this is more nodes than a client's
/// data come from as a rule, and each of them restarted a few times.
pub const ORIGINS_MAX: usize = 64;

const VERSION: u8 = 1;
const CLUSTER_BYTES: usize = 4;
const ENTRY_BYTES: usize = 16 + 8 + 8;
const CHECK_BYTES: usize = 4;
/// Characters of the longest token there can be: below 4 KiB.
const TEXT_MAX: usize =
    (1 + CLUSTER_BYTES + ORIGINS_MAX * ENTRY_BYTES + CHECK_BYTES).div_ceil(3) * 4;

/// Why a text is no token of this cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not as any agent gave it.
    #[error("is not a session token as an answer gave it")]
    Garbled,
    /// Another format.
    #[error("was given by a newer agent, and this one cannot read it")]
    TooNew,
    /// Its writes will never come to this cluster.
    #[error("is of another cluster")]
    OtherCluster,
}

/// The token for a client of `cluster` that rests on this; of more than [`ORIGINS_MAX`] origins, those that
/// [`trim`] leaves must be given.
pub fn encode(rests_on: &Frontier, cluster: &str) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(digest(cluster.as_bytes()));
    for Dot { origin, seq } in rests_on.iter().take(ORIGINS_MAX) {
        bytes.extend(origin.replica.0);
        bytes.extend(origin.epoch.0.to_be_bytes());
        bytes.extend(seq.to_be_bytes());
    }
    bytes.extend(digest(&bytes));
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What a client of `cluster` with this token rests on.
///
/// # Errors
/// [`TokenError`] for every text that [`encode`] does not return.
pub fn decode(text: &str, cluster: &str) -> Result<Frontier, TokenError> {
    if text.len() > TEXT_MAX {
        return Err(TokenError::Garbled);
    }
    let bytes = URL_SAFE_NO_PAD.decode(text);
    let bytes = bytes.map_err(|_| TokenError::Garbled)?;
    let (body, check) = bytes
        .split_last_chunk::<CHECK_BYTES>()
        .ok_or(TokenError::Garbled)?;
    if *check != digest(body) {
        return Err(TokenError::Garbled);
    }
    let (version, rest) = body.split_first().ok_or(TokenError::Garbled)?;
    if *version != VERSION {
        return Err(TokenError::TooNew);
    }
    let (tag, entries) = rest
        .split_first_chunk::<CLUSTER_BYTES>()
        .ok_or(TokenError::Garbled)?;
    if *tag != digest(cluster.as_bytes()) {
        return Err(TokenError::OtherCluster);
    }
    let (entries, left_over) = entries.as_chunks::<ENTRY_BYTES>();
    if !left_over.is_empty() || entries.len() > ORIGINS_MAX {
        return Err(TokenError::Garbled);
    }
    let mut rests_on = Frontier::default();
    let mut last = None;
    for entry in entries {
        let dot = entry_dot(entry).ok_or(TokenError::Garbled)?;
        if last.replace(dot.origin) >= Some(dot.origin) {
            return Err(TokenError::Garbled);
        }
        rests_on.note(dot);
    }
    Ok(rests_on)
}

/// Leaves no more than [`ORIGINS_MAX`] origins.
///
/// First those go whose writes are `everywhere`, as far as this node knows: to wait for them would be no wait. If too
/// many are left, the newest lives of stores stay. What an older one wrote has had the longest time to reach all nodes;
/// that it has is then no longer certain, and the client may, on a node that was away, read something older than it
/// has seen. A write or a read never fails for it.
pub fn trim(rests_on: &mut Frontier, everywhere: impl Fn(Dot) -> bool) {
    if rests_on.len() <= ORIGINS_MAX {
        return;
    }
    rests_on.retain(|dot| !everywhere(dot));
    let superfluous = rests_on.len().saturating_sub(ORIGINS_MAX);
    if superfluous > 0 {
        let age = |dot: Dot| (dot.origin.epoch, dot.origin.replica);
        let mut ages: Vec<_> = rests_on.iter().map(age).collect();
        ages.sort_unstable();
        let oldest_kept = ages.get(superfluous).copied();
        rests_on.retain(|dot| Some(age(dot)) >= oldest_kept);
    }
}

fn digest(bytes: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = *blake3::hash(bytes).as_bytes();
    [a, b, c, d]
}

fn entry_dot(entry: &[u8; ENTRY_BYTES]) -> Option<Dot> {
    let (replica, rest) = entry.split_first_chunk::<16>()?;
    let (epoch, seq) = rest.split_first_chunk::<8>()?;
    let origin = Origin {
        replica: ReplicaId(*replica),
        epoch: Epoch(u64::from_be_bytes(*epoch)),
    };
    let seq = u64::from_be_bytes(seq.try_into().ok()?);
    (1..=SEQ_MAX).contains(&seq).then_some(Dot { origin, seq })
}

/// What must hold of any text that is given as a token. The fuzz target (`tests/fuzz`), the replay of its corpus and
/// the tests with random bytes call it; agents do not contain it.
#[cfg(any(test, fuzzing))]
pub mod fuzzing {
    use super::*;

    /// The cluster for which texts are read.
    pub const CLUSTER: &str = "jobfirst-cluster-1";

    /// Bytes that are a text, or that become one with the right checksum, which random bytes never have.
    pub fn token(bytes: &[u8]) {
        if let Ok(text) = std::str::from_utf8(bytes) {
            read(text);
        }
        if bytes.len() <= TEXT_MAX {
            let sealed = [bytes, &digest(bytes)].concat();
            read(&URL_SAFE_NO_PAD.encode(sealed));
        }
    }

    /// A token is written one way only.
    fn read(text: &str) {
        let Ok(rests_on) = decode(text, CLUSTER) else {
            return;
        };
        assert_eq!(encode(&rests_on, CLUSTER), text);
        assert!(rests_on.len() <= ORIGINS_MAX);
        for longer in [
            format!("{text}A"),
            format!("{text}AAAA"),
            format!("{text}="),
        ] {
            assert!(decode(&longer, CLUSTER).is_err(), "{longer} was taken");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::fuzzing::CLUSTER;
    use super::*;

    fn dot(replica: u8, epoch: u64, seq: u64) -> Dot {
        let origin = Origin {
            replica: ReplicaId([replica; 16]),
            epoch: Epoch(epoch),
        };
        Dot { origin, seq }
    }

    fn frontier(dots: impl IntoIterator<Item = Dot>) -> Frontier {
        let mut frontier = Frontier::default();
        for dot in dots {
            frontier.note(dot);
        }
        frontier
    }

    fn rests_on(most: usize) -> impl Strategy<Value = Frontier> {
        let dots = (any::<u8>(), 0..9u64, 1..=SEQ_MAX);
        let dots = dots.prop_map(|(replica, epoch, seq)| dot(replica, epoch, seq));
        proptest::collection::vec(dots, 0..=most).prop_map(frontier)
    }

    proptest! {
        #[test]
        fn a_token_brings_back_what_went_in(rests_on in rests_on(ORIGINS_MAX)) {
            let text = encode(&rests_on, CLUSTER);
            prop_assert!(text.len() <= TEXT_MAX && TEXT_MAX < 4096);
            prop_assert_eq!(decode(&text, CLUSTER), Ok(rests_on.clone()));
            if rests_on != Frontier::default() {
                prop_assert_eq!(decode(&text, "other"), Err(TokenError::OtherCluster));
            }
        }

        #[test]
        fn a_token_that_was_changed_anywhere_is_no_token(rests_on in rests_on(4), at: prop::sample::Index, by in "[A-Za-z0-9_-]") {
            let text = encode(&rests_on, CLUSTER);
            let at = at.index(text.len());
            let mut changed = text.clone();
            changed.replace_range(at..=at, &by);
            prop_assume!(changed != text);
            prop_assert!(decode(&changed, CLUSTER).is_err());
            prop_assert!(decode(&text[..at], CLUSTER).is_err());
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(text in ".{0,80}", bytes: Vec<u8>) {
            fuzzing::token(text.as_bytes());
            fuzzing::token(&bytes);
            let head = [&[VERSION][..], &digest(CLUSTER.as_bytes()), &bytes].concat();
            fuzzing::token(&head);
        }

        #[test]
        fn after_a_trim_it_fits_and_keeps_the_newest_that_are_not_everywhere(all in rests_on(300), everywhere in 0..9u64) {
            let mut trimmed = all.clone();
            trim(&mut trimmed, |dot| dot.origin.epoch.0 == everywhere);
            prop_assert!(trimmed.len() <= ORIGINS_MAX);
            if all.len() <= ORIGINS_MAX {
                prop_assert_eq!(&trimmed, &all);
            } else {
                let oldest = trimmed.iter().map(|dot| dot.origin.epoch).min();
                let gone = all.beyond(&trimmed).into_iter().map(|dot| dot.origin.epoch);
                let gone = gone.filter(|epoch| epoch.0 != everywhere).max();
                prop_assert!(gone <= oldest, "{gone:?} went and {oldest:?} stayed");
                let others = all.iter().filter(|dot| dot.origin.epoch.0 != everywhere);
                prop_assert_eq!(trimmed.len(), others.count().min(ORIGINS_MAX));
            }
            prop_assert_eq!(decode(&encode(&trimmed, CLUSTER), CLUSTER), Ok(trimmed));
        }
    }

    #[test]
    fn the_corpus_of_tokens_keeps_the_property_and_has_tokens_of_every_length() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/corpus/token");
        let mut longest = 0;
        for file in fs::read_dir(corpus).unwrap() {
            let path = file.unwrap().path();
            eprintln!("{}", path.display());
            let bytes = fs::read(path).unwrap();
            fuzzing::token(&bytes);
            let read = String::from_utf8(bytes).map(|text| decode(&text, CLUSTER));
            if let Ok(Ok(rests_on)) = read {
                longest = longest.max(rests_on.len());
            }
        }
        assert_eq!(longest, ORIGINS_MAX);
    }

    /// The bytes are a promise: clients keep tokens while agents are replaced.
    #[test]
    fn the_format_stays_as_it_is() {
        let text = encode(&frontier([dot(1, 2, 3)]), CLUSTER);
        let known = "Aa4O7mwBAQEBAQEBAQEBAQEBAQEBAAAAAAAAAAIAAAAAAAAAA0L5d5g";
        assert_eq!(text, known);
        assert_eq!(decode(known, CLUSTER), Ok(frontier([dot(1, 2, 3)])));
    }

    #[test]
    fn what_encode_never_writes_is_refused() {
        let sealed = |body: &[u8]| {
            let bytes = [body, &digest(body)].concat();
            decode(&URL_SAFE_NO_PAD.encode(bytes), CLUSTER)
        };
        let head = [&[VERSION][..], &digest(CLUSTER.as_bytes())].concat();
        let entry = |dot: Dot| {
            let origin = dot.origin;
            let (epoch, seq) = (origin.epoch.0.to_be_bytes(), dot.seq.to_be_bytes());
            [&origin.replica.0[..], &epoch, &seq].concat()
        };
        let with = |entries: &[Vec<u8>]| sealed(&[&head[..], &entries.concat()].concat());
        let (one, two) = (entry(dot(1, 1, 1)), entry(dot(2, 1, 1)));
        assert!(with(&[one.clone(), two.clone()]).is_ok());
        assert_eq!(with(&[two, one.clone()]), Err(TokenError::Garbled));
        assert_eq!(with(&[one.clone(), one]), Err(TokenError::Garbled));
        for seq in [0, SEQ_MAX + 1] {
            assert_eq!(with(&[entry(dot(1, 1, seq))]), Err(TokenError::Garbled));
        }
        assert_eq!(with(&[vec![0; 31]]), Err(TokenError::Garbled));
        assert_eq!(sealed(&[9, 0, 0, 0, 0]), Err(TokenError::TooNew));
        assert_eq!(sealed(&[]), Err(TokenError::Garbled));
    }
}
