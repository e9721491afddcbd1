//! Comparing and mending over connections.

use super::*;
use crate::model::document::Part;
use crate::storage::{self, Finish, Storage, Table, records, state};
use crate::verify::{PartState, Reason};

/// Nodes with their stores.
async fn stores(size: u16) -> (Vec<Node>, Vec<MemoryStorage>) {
    stores_in(&Network::default(), size).await
}

async fn stores_in(network: &Network, size: u16) -> (Vec<Node>, Vec<MemoryStorage>) {
    let open = |number| {
        let storage = MemoryStorage::default();
        (node_on(network, number, "c", storage.clone()), storage)
    };
    let (nodes, stores): (Vec<Node>, Vec<MemoryStorage>) = (1..=size).map(open).unzip();
    introduce(&nodes).await;
    (nodes, stores)
}

fn options(repair: Repair) -> VerifyOptions {
    VerifyOptions {
        deep: true,
        repair,
        limit: PATIENCE,
    }
}

async fn verify(node: &Node, repair: Repair) -> Report {
    let report = timeout(PATIENCE, node.handle.verify(options(repair)));
    report.await.expect("it ends").expect("it is begun")
}

/// Waits until all nodes have what each of them has written.
async fn level(nodes: &[Node]) {
    for node in nodes {
        assert!(node.handle.flush(PATIENCE).await);
    }
}

fn row_key(name: &str) -> Vec<u8> {
    records::encode_key(&key(name))
}

/// Changes the last byte but one of a row, behind the replica's back.
fn damage(storage: &MemoryStorage, name: &str) {
    let work = &mut |writer: &mut dyn storage::Writer| {
        let mut row = writer.get(Table::Entries, &row_key(name))?.unwrap();
        let at = row.len() - 2;
        row[at] = b'7';
        writer.insert(Table::Entries, &row_key(name), &row)?;
        Ok(Finish::Commit)
    };
    storage.write(work).unwrap();
}

fn remove(storage: &MemoryStorage, name: &str) {
    let work = &mut |writer: &mut dyn storage::Writer| {
        writer.remove(Table::Entries, &row_key(name))?;
        Ok(Finish::Commit)
    };
    storage.write(work).unwrap();
}

fn value(node: &Node, name: &str) -> Option<Bytes> {
    node.handle.entry(&key(name)).unwrap()?.value
}

fn names(report: &Report) -> Vec<Vec<u8>> {
    let findings = report.findings.iter();
    findings
        .map(|finding| finding.difference.key.to_vec())
        .collect()
}

#[tokio::test]
async fn what_differs_is_found_planned_and_mended_from_any_node() {
    let (nodes, stores) = stores(3).await;
    // More than one page of keys, and more than one range.
    for number in 0..1_200 {
        let node = &nodes[number % 3];
        write(node, put(&format!("k{number:04}"), "{\"a\":1}"))
            .await
            .unwrap();
    }
    level(&nodes).await;
    let clean = verify(&nodes[0], Repair::No).await;
    assert!(clean.is_clean(), "{clean:?}");
    assert!(clean.nodes.iter().all(|node| node.documents == 1_200));

    damage(&stores[1], "k0007");
    remove(&stores[2], "k1100");
    for asked in &nodes {
        let report = verify(asked, Repair::No).await;
        assert!(!report.is_clean());
        assert_eq!(names(&report), [row_key("k0007"), row_key("k1100")]);
        let place = |name: &str| {
            let mut nodes = report.nodes.iter();
            nodes.position(|node| node.node.as_str() == name).unwrap()
        };
        let part = &report.findings[0].difference.parts[0];
        assert_eq!(part.part, Some(Part::Root));
        let text = |name: &str| match &part.states[place(name)] {
            Some(PartState::Is(_, Some(text))) => text.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!((text("n1"), text("n3")), (text("n3"), "{\"a\":1}".into()));
        assert_eq!(text("n2"), "{\"a\":7}");
        let part = &report.findings[1].difference.parts[0];
        assert_eq!(part.states[place("n3")], Some(PartState::Absent));
    }

    let plan = verify(&nodes[0], Repair::Plan).await;
    let remedies: Vec<_> = plan.findings.iter().map(|one| one.remedy.clone()).collect();
    let planned = |node: usize, reason: Reason| {
        Some(Remedy {
            nodes: vec![node],
            reason: Some(reason),
            outcome: Outcome::Planned,
        })
    };
    assert_eq!(
        remedies,
        [planned(1, Reason::Majority), planned(2, Reason::Merged)]
    );
    assert_eq!(value(&nodes[1], "k0007").unwrap(), "{\"a\":7}");

    let mut watch = nodes[1].handle.watch(None, "k0007", None).unwrap();
    let mended = verify(&nodes[0], Repair::Apply).await;
    assert_eq!((mended.differing, mended.mended), (2, 2), "{mended:?}");
    assert_eq!(value(&nodes[1], "k0007").unwrap(), "{\"a\":1}");
    assert_eq!(value(&nodes[2], "k1100").unwrap(), "{\"a\":1}");
    let seen = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
    assert_eq!(
        seen.item.change.entry.value.as_deref(),
        Some(&b"{\"a\":1}"[..])
    );
    for asked in &nodes {
        let report = verify(asked, Repair::No).await;
        assert!(report.is_clean(), "{report:?}");
    }
}

#[tokio::test]
async fn writes_that_go_on_are_no_difference_and_hide_none() {
    let (nodes, stores) = stores(3).await;
    write(&nodes[0], put("still", "{\"a\":1}")).await.unwrap();
    level(&nodes).await;
    damage(&stores[2], "still");
    let writing = Arc::new(AtomicBool::new(true));
    let writers: Vec<_> = nodes
        .iter()
        .map(|node| {
            let (handle, writing) = (node.handle.clone(), writing.clone());
            tokio::spawn(async move {
                let mut number = 0;
                while writing.load(Ordering::SeqCst) {
                    // Few keys, so that all nodes write over each other all the time.
                    let write = put(&format!("busy{}", number % 20), format!("{number}"));
                    let done = handle.write(write, AckTarget::Local, PATIENCE).await;
                    done.unwrap();
                    number += 1;
                }
                number
            })
        })
        .collect();
    for round in 0..10 {
        let report = verify(&nodes[round % 3], Repair::No).await;
        assert!(report.complete);
        assert_eq!(names(&report), [row_key("still")], "{report:?}");
        assert_eq!(report.undecided, 0);
        assert!(
            report.nodes.iter().all(|node| node.faulty == 0),
            "{report:?}"
        );
    }
    let mended = verify(&nodes[0], Repair::Apply).await;
    assert_eq!((mended.differing, mended.mended), (1, 1), "{mended:?}");
    writing.store(false, Ordering::SeqCst);
    for writer in writers {
        assert!(writer.await.unwrap() > 10);
    }
    level(&nodes).await;
    let report = verify(&nodes[1], Repair::No).await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.in_flight, 0);
}

#[tokio::test]
async fn what_is_on_its_way_is_counted_and_is_no_difference() {
    let (nodes, stores) = stores(3).await;
    for name in ["u1", "u2"] {
        write(&nodes[0], put(name, "{\"a\":1}")).await.unwrap();
    }
    level(&nodes).await;
    // As if the writes were still on their way to n3.
    let work = &mut |writer: &mut dyn storage::Writer| {
        for name in ["u1", "u2"] {
            writer.remove(Table::Entries, &row_key(name))?;
        }
        let vector = state::vector(writer)?;
        let written = vector.iter().next().unwrap();
        state::set_vector(writer, written.0, None)?;
        Ok(Finish::Commit)
    };
    stores[2].write(work).unwrap();
    for node in &nodes {
        let shallow = VerifyOptions {
            deep: false,
            ..options(Repair::No)
        };
        let report = timeout(PATIENCE, node.handle.verify(shallow));
        let report = report.await.unwrap().unwrap();
        assert_eq!((report.in_flight, report.differing), (2, 0), "{report:?}");
        assert!(report.is_clean(), "{report:?}");
    }
}

#[tokio::test]
async fn a_node_that_cannot_be_asked_is_named_and_nothing_is_mended_without_it() {
    let network = Network::default();
    let (nodes, stores) = stores_in(&network, 3).await;
    write(&nodes[0], put("u1", "{\"a\":1}")).await.unwrap();
    level(&nodes).await;
    damage(&stores[1], "u1");
    network.nodes.lock().unwrap().remove(&address(3));
    let report = verify(&nodes[0], Repair::No).await;
    assert!(
        report.nodes[2].failed.is_some() && !report.is_clean(),
        "{report:?}"
    );
    assert_eq!(names(&report), [row_key("u1")]);
    let refused = nodes[0].handle.verify(options(Repair::Apply)).await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(&refused, VerifyError::Incomplete { node, .. } if node.as_str() == "n3"),
        "{refused}"
    );
    assert_eq!(value(&nodes[1], "u1").unwrap(), "{\"a\":7}");
    let mended = verify(&nodes[0], Repair::ApplyPartly).await;
    assert_eq!(mended.mended, 1);
    assert_eq!(value(&nodes[0], "u1"), value(&nodes[1], "u1"));
}

#[tokio::test]
async fn a_version_that_does_not_know_comparisons_is_named_as_old() {
    struct Old;

    impl Connector for Old {
        fn connect<'c>(&'c self, _: &'c Peer) -> Connecting<'c> {
            Box::pin(async {
                let (near, mut far) = tokio::io::duplex(1024);
                tokio::spawn(async move {
                    // It cannot decode the greeting, and parts.
                    let mut length = [0; 4];
                    let _ = far.read_exact(&mut length).await;
                });
                Ok(Box::new(near) as Box<dyn Stream>)
            })
        }
    }

    let storage = Arc::new(MemoryStorage::default());
    let handle = start(storage, Options::new("c", "n1"), Arc::new(Old)).unwrap();
    let id = PeerId::new("n2");
    let address = address(2);
    handle.set_peers(vec![Peer { id, address }]).await;
    let report = handle.verify(options(Repair::No)).await.unwrap();
    let failed = report.nodes[1].failed.clone().unwrap();
    assert!(failed.contains("older version"), "{failed}");
}

#[tokio::test]
async fn a_node_takes_part_in_a_few_comparisons_at_a_time_and_says_so_to_others() {
    let nodes = cluster(1).await;
    let hello = |lane| Hello {
        protocol: PROTOCOL,
        cluster: "c".into(),
        node: "x".into(),
        lane,
    };
    let ask = codec::encode_request(&crate::verify::Request::Documents { keys: Vec::new() });
    let mut open = Vec::new();
    for number in 0..3 {
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        let handle = nodes[0].handle.clone();
        tokio::spawn(async move { handle.serve(Box::new(far), PeerId::new("x")).await });
        let greeting = codec::encode_hello(&hello(Lane::Verify));
        near.write_all(&greeting).await.unwrap();
        incoming::read_hello(&mut near).await.unwrap();
        near.write_all(&ask).await.unwrap();
        let length = incoming::read_length(&mut near, codec::FRAME_BYTES_MAX).await;
        let frame = incoming::read_body(&mut near, length.unwrap().unwrap()).await;
        let answer = codec::decode_answer(&frame.unwrap()).unwrap();
        let busy = answer == crate::verify::Answer::Busy;
        assert_eq!(busy, number == 2, "{answer:?}");
        open.push(near);
    }
    write(&nodes[0], put("u1", "{}")).await.unwrap();
}

#[tokio::test]
async fn tables_that_do_not_fit_the_documents_are_told_and_mended() {
    let (nodes, stores) = stores(2).await;
    for number in 0..40 {
        write(&nodes[0], put(&format!("k{number}"), "1"))
            .await
            .unwrap();
    }
    level(&nodes).await;
    let origin = nodes[0].handle.status().borrow().origin;
    let work = &mut |writer: &mut dyn storage::Writer| {
        writer.remove(Table::Dots, &records::encode_dots_row(origin, 0))?;
        writer.remove(Table::Feed, &1_u64.to_be_bytes())?;
        Ok(Finish::Commit)
    };
    stores[1].write(work).unwrap();
    let report = verify(&nodes[0], Repair::No).await;
    let faulty: Vec<u64> = report.nodes.iter().map(|node| node.faulty).collect();
    assert!(
        faulty[0] == 0 && faulty[1] > 31 && report.differing == 0,
        "{report:?}"
    );
    let mended = verify(&nodes[0], Repair::Apply).await;
    assert!(
        mended.nodes[1].mended > 31 && mended.is_clean(),
        "{mended:?}"
    );
    assert!(verify(&nodes[1], Repair::No).await.is_clean());
}
