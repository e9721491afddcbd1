//! What the file survives, and what is refused.

use proptest::prelude::*;

use super::*;
use crate::roster::tests::{entry, known};

fn cluster() -> ClusterName {
    "c".parse().unwrap()
}

#[test]
fn what_is_saved_is_loaded_with_addresses_of_both_families() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("roster.json");
    assert_eq!(load(&path, &cluster()).unwrap(), Roster::default());
    let mut six = entry("n6", 6);
    six.peer = "[2001:db8::1]:9400".parse().unwrap();
    six.last_seen = None;
    let roster = Roster::from_entries([entry("n1", 1), six]);
    save(&path, &cluster(), &roster).unwrap();
    assert_eq!(load(&path, &cluster()).unwrap(), roster);
}

#[test]
fn the_roster_of_another_cluster_is_named_and_moved_aside_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("roster.json");
    save(&path, &cluster(), &known(&["n1"])).unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    let other: ClusterName = "other".parse().unwrap();
    let error = load(&path, &other).unwrap_err();
    let RosterError::OtherCluster { aside, of, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*of, cluster());
    assert_eq!(fs::read_to_string(aside).unwrap(), whole);
    assert_eq!(load(&path, &other).unwrap(), Roster::default());
}

#[test]
fn a_damaged_file_is_named_and_moved_aside_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("roster.json");
    save(&path, &cluster(), &known(&["n1", "n2"])).unwrap();
    let good = fs::read_to_string(&path).unwrap();
    let damages = [
        String::new(),
        good[..good.len() / 2].to_owned(),
        good.replace("n1", "n3"),
        good.replace("\"format\": 1", "\"format\": 2"),
        good.replace("127.0.0.1:1", "127.0.0.1:9"),
        " ".repeat((1 << 20) + 1),
    ];
    for damage in damages {
        assert_ne!(damage, good);
        fs::write(&path, &damage).unwrap();
        let error = load(&path, &cluster()).unwrap_err();
        let RosterError::Damaged { aside, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(fs::read_to_string(aside).unwrap(), damage);
        assert_eq!(load(&path, &cluster()).unwrap(), Roster::default());
    }
}

#[test]
fn a_crash_between_write_and_rename_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("roster.json");
    save(&path, &cluster(), &known(&["n1"])).unwrap();
    fs::write(path.with_extension("json.tmp"), b"{\"form").unwrap();
    assert_eq!(load(&path, &cluster()).unwrap(), known(&["n1"]));
}

#[test]
fn the_largest_roster_fits_its_file() {
    let name = |n| format!("{n:0>64}");
    let entries = (0..ENTRIES_MAX).map(|n| RosterEntry {
        incarnation: Incarnation::MAX,
        joined: JoinMark::MAX,
        peer: "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"
            .parse()
            .unwrap(),
        last_state: MemberState::Maintenance,
        ..entry(&name(n), 1)
    });
    let roster = Roster::from_entries(entries);
    let bytes = encode(&cluster(), &roster).unwrap();
    assert!(bytes.len() as u64 <= FILE_LEN_MAX, "{}", bytes.len());
    assert_eq!(decode(&bytes).unwrap().1, roster);
}

proptest! {
    #[test]
    fn no_content_of_the_file_panics(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn no_number_in_a_file_that_is_signed_panics(
        incarnation in any::<u64>(),
        joined in any::<u64>(),
        seen in any::<u64>(),
    ) {
        let nodes = vec![Node {
            incarnation: Incarnation(incarnation),
            joined: JoinMark(joined),
            last_seen_ms: Some(seen),
            ..Node::of(&entry("n1", 1))
        }];
        let checksum = checksum(&cluster(), &nodes).unwrap();
        let record = Record { format: FORMAT, cluster: cluster(), nodes, checksum };
        let decoded = decode(&serde_json::to_vec(&record).unwrap());
        let in_range = incarnation <= Incarnation::MAX.0 && joined <= JoinMark::MAX.0;
        prop_assert!(in_range || decoded.is_err());
    }
}
