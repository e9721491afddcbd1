//! How long the others take to know that a node leaves.

use super::*;

const NODES: usize = 10;

#[tokio::test]
async fn a_leave_is_known_to_all_of_ten_nodes_when_it_returns() {
    let ids = ["n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8", "n9"];
    let first = plan(ids[0]).join().await;
    let seed = [first.address];
    let mut nodes = vec![first];
    for id in &ids[1..] {
        nodes.push(plan(id).seeded_by(&seed).join().await);
    }
    for node in &nodes {
        for id in ids {
            node.sees(id, MemberState::Active).await;
        }
    }

    let leaver = nodes.pop().unwrap();
    let id: NodeId = leaver.id.parse().unwrap();
    let began = Instant::now();
    let observers: Vec<_> = nodes
        .iter()
        .map(|node| {
            let (mut changes, id) = (node.cluster.watch(), id.clone());
            tokio::spawn(async move {
                let mut seen = [None; 2];
                for (seen, state) in seen
                    .iter_mut()
                    .zip([MemberState::Leaving, MemberState::Left])
                {
                    let reached = |members: &Arc<Members>| {
                        let now = members.find(&id).map(|member| member.state);
                        now == Some(state) || now == Some(MemberState::Left)
                    };
                    changes.wait_for(reached).await.unwrap();
                    *seen = Some(began.elapsed());
                }
                seen.map(Option::unwrap)
            })
        })
        .collect();
    let report = leaver.cluster.leave().await.unwrap();
    let returned = began.elapsed();
    assert_eq!(
        (report.informed.len(), report.unconfirmed.len()),
        (NODES - 1, 0)
    );
    let (mut leaving, mut left) = (Vec::new(), Vec::new());
    for observer in observers {
        let [first, last] = tokio::time::timeout(HANG, observer).await.unwrap().unwrap();
        leaving.push(first);
        left.push(last);
    }
    for (what, mut times) in [("leaving", leaving), ("left", left)] {
        times.sort();
        println!(
            "{what} seen by {} observers: median {:?}, worst {:?}",
            times.len(),
            times[times.len() / 2],
            times[times.len() - 1]
        );
    }
    println!(
        "the report says {:?}; leave returned after {returned:?}",
        report.took
    );
    for node in &nodes {
        assert_eq!(node.state_of(leaver.id), Some(MemberState::Left));
    }
    stop_all(nodes).await;
}
