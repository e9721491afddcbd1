//! What a backup holds while writes go on, and what it brings back.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::{BackupFailed, PASSES_MAX, Scratch};
use super::*;

fn writes(bytes: &[u8]) -> u64 {
    let all = items(bytes, None).unwrap();
    let counts = all.iter().map(|item| match item {
        Item::Writes(writes) => writes.len() as u64,
        _ => 0,
    });
    counts.sum()
}

#[test]
fn an_empty_replica_gets_all_that_was_there_deletions_included() {
    let mut old = Node::new(1);
    for n in 0..50 {
        old.put(&format!("u{n}"), "one");
        old.put(&format!("u{n}"), "two");
    }
    old.delete("u7");
    let mut new = Node::new(2);
    let taken = new.restore(&old.backed_up());
    assert_eq!(taken.taken_in, 50);
    assert_eq!(new.digest(), old.digest());
    assert_eq!(new.text("u8").as_deref(), Some("two"));
    assert_eq!(new.text("u7"), None);
    // Superseded writes are claimed, so that nobody has to look for them.
    assert_eq!(new.vector(), old.vector());
    // Whoever deletes and comes back late does not bring it back.
    let again = new.restore(&old.backed_up());
    assert_eq!(
        (again.taken_in, again.superseded, again.repeated),
        (0, 0, 50)
    );
}

#[test]
fn an_old_backup_brings_back_nothing_that_was_deleted_or_changed_since() {
    let mut node = Node::new(1);
    for key in ["kept", "deleted", "changed"] {
        node.put(key, "then");
    }
    let backup = node.backed_up();
    node.delete("deleted");
    node.put("changed", "now");
    node.put("made", "now");
    let before = (node.digest(), node.vector());
    let taken = node.restore(&backup);
    assert_eq!(taken.taken_in, 0);
    assert_eq!((node.digest(), node.vector()), before);
    // The same where the deletion is all that the cluster still knows of the key.
    let mut lost = Node::new(2);
    lost.restore(&node.backed_up());
    lost.restore(&backup);
    assert_eq!(lost.digest(), node.digest());
    assert_eq!(lost.text("deleted"), None);
    assert_eq!(lost.text("changed").as_deref(), Some("now"));
}

#[test]
fn a_store_put_back_to_an_old_state_uses_no_number_again() {
    let mut node = Node::new(1);
    node.put("u1", "old");
    let old_state = node.storage.fork();
    node.put("u2", "lost with the disk");
    let backup = node.backed_up();

    let mut back = Node::on(old_state, 1, 2_000);
    let before = back.replica.status().origin;
    back.restore(&backup);
    back.put("u3", "new");
    let vector = back.vector();
    assert_ne!(back.replica.status().origin, before);
    assert_eq!(vector.of(before).map(|set| set.highest()), Some(2));
    assert_eq!(back.text("u2").as_deref(), Some("lost with the disk"));
    assert_eq!(back.text("u3").as_deref(), Some("new"));
}

#[test]
fn writes_of_a_former_life_come_back_and_do_not_end_this_one() {
    let mut node = Node::new(1);
    node.put("u1", "old");
    let state = node.storage.fork();
    node.put("u2", "of the former life");
    let backup = node.backed_up();
    let mut twin = Node::on(state, 1, 2_000);
    twin.put("u1", "its own life");
    let origin = twin.replica.status().origin;
    twin.restore(&backup);
    twin.put("u3", "and on");
    assert_eq!(twin.replica.status().origin, origin);
    assert_eq!(twin.text("u2").as_deref(), Some("of the former life"));
}

#[test]
fn a_backup_of_some_collections_claims_nothing() {
    let mut old = Node::new(1);
    old.put("users/u1", "one");
    old.put("orders/o1", "one");
    let about = About {
        collections: Some(BTreeSet::from([Collection::new("users").unwrap()])),
        ..About::default()
    };
    let mut backup = Backup::begin(Arc::new(old.storage.clone()), about, 0).unwrap();
    let bytes = rest_of(&mut backup);
    let mut new = Node::new(2);
    assert_eq!(new.restore(&bytes).taken_in, 1);
    assert_eq!(new.text("users/u1").as_deref(), Some("one"));
    let missing = new.vector().missing_count(&old.vector());
    assert_eq!(missing, 1, "the order can still come");
    new.restore(&old.backed_up());
    assert_eq!(new.digest(), old.digest());
}

proptest! {
    /// Between any two portions anything is written.
    #[test]
    fn a_backup_holds_what_is_there_at_its_end_whatever_is_written_meanwhile(
        steps in proptest::collection::vec((0..12_usize, 0..20_u8, any::<bool>()), 0..60),
        portion in 1..6_usize,
    ) {
        let mut node = Node::new(1);
        for n in 0..20 {
            node.put(&format!("u{n}"), "before");
        }
        let before = node.vector();
        let mut backup = node.backup();
        backup.set_portions(portion, 8);
        let mut bytes = Vec::new();
        let mut steps = steps.into_iter();
        while let Some(piece) = backup.step(9).unwrap() {
            bytes.extend(piece);
            let Some((count, first, deletes)) = steps.next() else { continue };
            for n in 0..count {
                let key = format!("u{}", usize::from(first) + n);
                match deletes && node.text(&key).is_some() {
                    true => node.delete(&key),
                    false => node.put(&key, "meanwhile"),
                }
            }
        }
        let mut new = Node::new(2);
        new.restore(&bytes);
        prop_assert!(new.vector().covers(&before));
        // Later writes come as from a peer, and nothing is missing then.
        new.restore(&node.backed_up());
        prop_assert_eq!(new.digest(), node.digest());
        prop_assert_eq!(new.vector(), node.vector());
    }
}

#[test]
fn writes_while_it_is_read_are_in_and_what_they_replaced_is_claimed() {
    let mut node = Node::new(1);
    for n in 0..40 {
        node.put(&format!("u{n}"), "before");
    }
    let mut backup = node.backup();
    backup.set_portions(3, 100);
    let mut bytes = Vec::new();
    let mut written = 0;
    while let Some(piece) = backup.step(9).unwrap() {
        bytes.extend(piece);
        // Ahead of the reading and behind it.
        for key in ["u0", "u39"] {
            if written < 20 {
                node.put(key, &format!("{written}"));
                written += 1;
            }
        }
    }
    assert_eq!(written, 20);
    let mut new = Node::new(2);
    new.restore(&bytes);
    assert_eq!(new.digest(), node.digest());
    assert_eq!(new.vector(), node.vector());
}

#[test]
fn a_backup_that_comes_to_no_end_gives_up() {
    let mut node = Node::new(1);
    for n in 0..3 {
        node.put(&format!("u{n}"), "before");
    }
    let mut backup = node.backup();
    backup.set_portions(2, 2);
    let failed = loop {
        match backup.step(9) {
            Err(failed) => break failed,
            Ok(None) => panic!("it ended"),
            Ok(Some(_)) => {
                for n in 0..3 {
                    node.put(&format!("u{n}"), "again");
                }
            }
        }
    };
    let BackupFailed::Restless { passes } = failed else {
        panic!("{failed}");
    };
    assert_eq!(passes, PASSES_MAX + 1);
}

#[test]
fn large_documents_make_many_frames_and_come_back() {
    let mut node = Node::new(1);
    for n in 0..6 {
        node.put(&format!("u{n}"), &format!("{n}").repeat(400_000));
    }
    let bytes = node.backed_up();
    let all = items(&bytes, None).unwrap();
    let frames = all.iter().filter(|item| matches!(item, Item::Writes(_)));
    assert!(frames.count() >= 3);
    assert_eq!(writes(&bytes), 6);
    let mut new = Node::new(2);
    new.restore(&bytes);
    assert_eq!(new.digest(), node.digest());
}

#[test]
fn a_scratch_store_lists_the_documents_of_a_backup_in_order() {
    let mut node = Node::new(1);
    for key in ["b/2", "a/1", "a-b/1", "a/2", "a/3"] {
        node.put(key, "text");
    }
    node.delete("a/2");
    let directory = tempfile::tempdir().unwrap();
    let mut scratch = Scratch::new(directory.path()).unwrap();
    for item in items(&node.backed_up(), None).unwrap() {
        if let Item::Writes(writes) = item {
            scratch.take_in(&writes).unwrap();
        }
    }
    let mut names = Vec::new();
    let mut collection = scratch.collection_after(None).unwrap();
    while let Some(name) = collection {
        let page = scratch.documents(&name, None, 10, 0).unwrap();
        names.extend(
            page.documents
                .iter()
                .map(|change| format!("{:?}", change.key)),
        );
        collection = scratch.collection_after(Some(&name)).unwrap();
    }
    assert_eq!(names, ["a/1", "a/3", "a-b/1", "b/2"]);
}
