//! The corpora of the fuzz targets replayed, and inputs made from them at random.

use std::collections::{BTreeSet, HashSet};
use std::mem::discriminant;
use std::panic::{catch_unwind, resume_unwind};
use std::path::Path;
use std::{fs, str};

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::codec::{DecodeError, Hello, Lane};
use crate::protocol::Message;
use crate::storage::records;

/// The inputs of a target, each with its name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus");
    let files = fs::read_dir(directory.join(target)).unwrap();
    let read = files.map(|file| {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, fs::read(path).unwrap())
    });
    let mut inputs: Vec<_> = read.collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "the corpus of {target} is empty");
    inputs
}

/// Holds a property to its input, and to its bound on memory.
fn check(property: fn(&[u8]), bytes: &[u8]) {
    let mut outcome = Ok(());
    // What it measures must not be left by a panic.
    let used = allocation_counter::measure(|| {
        outcome = catch_unwind(|| property(bytes));
    });
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
    let most = bytes_max(bytes.len());
    assert!(
        used.bytes_max <= most,
        "{} bytes of memory for {} bytes, and at most {most} are allowed",
        used.bytes_max,
        bytes.len()
    );
}

#[test]
fn every_input_of_every_corpus_keeps_its_property_within_its_memory() {
    for (target, property) in PROPERTIES {
        for (name, bytes) in corpus(target) {
            eprintln!("{target}/{name}: {} bytes", bytes.len());
            check(property, &bytes);
        }
    }
}

#[test]
fn the_corpus_of_frames_has_messages_of_every_kind() {
    let inputs = corpus("frame").into_iter();
    let messages = inputs.filter_map(|(_, bytes)| codec::decode_message(&bytes).ok());
    let mut kinds = Vec::new();
    for message in messages {
        let outer = discriminant(&message);
        let kind = match &message {
            Message::PullChunk(chunk) => (outer, chunk.claim.is_some(), None),
            Message::SnapshotChunk(chunk) => (outer, chunk.end.is_some(), None),
            Message::Tree(message) => (outer, false, Some(discriminant(message))),
            _ => (outer, false, None),
        };
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    assert_eq!(
        kinds.len(),
        20,
        "ten messages, two of them with and without an end, and eight beyond the full mesh"
    );
}

#[test]
fn the_corpus_of_comparisons_has_questions_and_answers_of_every_kind() {
    let inputs: Vec<_> = corpus("comparison")
        .into_iter()
        .map(|(_, bytes)| bytes)
        .collect();
    let mut questions = Vec::new();
    let mut answers = Vec::new();
    for bytes in &inputs {
        let question = codec::decode_request(bytes).ok();
        questions.extend(question.map(|question| discriminant(&question)));
        let answer = codec::decode_answer(bytes).ok();
        answers.extend(answer.map(|answer| discriminant(&answer)));
    }
    assert_eq!(questions.iter().collect::<HashSet<_>>().len(), 5);
    assert_eq!(answers.iter().collect::<HashSet<_>>().len(), 7);
}

#[test]
fn the_corpus_of_records_has_entries_of_every_kind_and_parts_of_every_kind() {
    let inputs = corpus("record").into_iter();
    let entries = inputs.filter_map(|(_, bytes)| {
        let entry = records::decode_entry(&bytes).ok()?;
        Some((bytes[48], entry.document))
    });
    let mut kinds = BTreeSet::new();
    let mut parts = Vec::new();
    for (kind, document) in entries {
        kinds.insert(kind);
        for write in document.writes().iter().flat_map(|write| &write.parts) {
            let part = discriminant(&write.part);
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
    }
    assert_eq!(kinds, BTreeSet::from([0, 1, 2]));
    assert_eq!(parts.len(), 7);
}

#[test]
fn the_corpus_of_texts_has_cursors_versions_and_revisions() {
    let inputs: Vec<_> = corpus("text").into_iter().map(|(_, bytes)| bytes).collect();
    let texts = || inputs.iter().filter_map(|bytes| str::from_utf8(bytes).ok());
    assert!(texts().any(|text| text.parse::<Cursor>().is_ok()));
    assert!(texts().any(|text| text.parse::<Version>().is_ok()));
    let fingerprint = |text: &str| text.parse::<Revision>().ok()?.fingerprint;
    assert!(texts().any(|text| fingerprint(text).is_some()));
}

/// A target, and an input that one of its corpus became by a few changes.
fn changed_input() -> impl Strategy<Value = (Property, Vec<u8>)> {
    let all: Vec<(Property, Vec<u8>)> = PROPERTIES
        .into_iter()
        .flat_map(|property| {
            let inputs = corpus(property.0).into_iter();
            inputs.map(move |(_, bytes)| (property, bytes))
        })
        .collect();
    let change = (any::<Index>(), 0..5_u8, any::<u64>());
    let changes = proptest::collection::vec(change, 0..6);
    (proptest::sample::select(all), changes).prop_map(|((property, mut bytes), changes)| {
        for (at, kind, by) in changes {
            change_at(&mut bytes, at, kind, by);
        }
        (property, bytes)
    })
}

fn change_at(bytes: &mut Vec<u8>, at: Index, kind: u8, by: u64) {
    let at = at.index(bytes.len() + 1);
    let some = by.to_le_bytes();
    match (kind, bytes.get_mut(at)) {
        (0, Some(byte)) => *byte ^= 1 << (by % 8),
        (1, Some(byte)) => *byte = some[0],
        (2, _) => bytes.truncate(at),
        (3, _) => {
            // A number larger than anything that follows it.
            bytes.splice(at..at, [253, 255, 255, 255, 255, some[0], 0, 0, 0]);
        }
        _ => {
            let length = usize::from(some[1]).min(bytes.len() - at);
            let piece = bytes[at..at + length].to_vec();
            bytes.splice(at..at, piece);
        }
    }
}

proptest! {
    #[test]
    fn inputs_that_were_changed_keep_every_property((property, bytes) in changed_input()) {
        check(property.1, &bytes);
    }

    #[test]
    fn random_bytes_keep_every_property(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for (_, property) in PROPERTIES {
            check(property, &bytes);
            // A codec that is known, and the rest as it comes.
            check(property, &[&[1], &bytes[..]].concat());
        }
    }
}

/// Eight bytes announced 40,000 writes, and four megabytes were taken for them.
#[test]
fn a_count_in_a_short_frame_takes_no_more_memory_than_its_length_allows() {
    for length in [8_usize, 1_000, 1_100, 4_200, 17_000, 70_000] {
        for count in (3..20).map(|power| 1_u32 << power) {
            let mut bytes = vec![1, 0, 252];
            bytes.extend(count.to_le_bytes());
            bytes.resize(length, 0);
            check(frame, &bytes);
        }
    }
}

#[test]
fn a_greeting_longer_than_any_is_refused_though_it_could_be_read() {
    let hello = Hello {
        protocol: codec::PROTOCOL,
        cluster: "c".repeat(HELLO_BYTES_MAX),
        node: "n1".to_owned(),
        lane: Lane::Live,
    };
    let frame = codec::encode_hello(&hello);
    let refused = codec::decode_hello(&frame[LENGTH_BYTES..]);
    assert!(matches!(refused, Err(DecodeError::Length { .. })));
}
