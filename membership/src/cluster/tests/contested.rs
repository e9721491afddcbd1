//! Two processes with one id, as a copied data directory makes them.

use std::fs;

use super::*;

#[tokio::test]
async fn two_nodes_with_one_id_name_each_other_and_a_third_names_both() {
    let third = plan("n3").join().await;
    let original = plan("n1").seeded_by(&[third.address]).join().await;
    third.sees("n1", MemberState::Active).await;
    let copy = plan("n1").seeded_by(&[third.address]);
    let file = "identity.json";
    fs::copy(
        original.data_dir.path().join(file),
        copy.data_dir.path().join(file),
    )
    .unwrap();
    let copy = copy.join().await;

    for (node, rival) in [(&original, &copy), (&copy, &original)] {
        let mut conflict = node.cluster.identity_conflict();
        let named = conflict.wait_for(|conflict| {
            let at = conflict.as_ref().map(|conflict| conflict.address);
            at == Some(rival.address)
        });
        tokio::time::timeout(HANG, named).await.unwrap().unwrap();
    }
    wait("the third names both addresses", || {
        let contested = third.cluster.diagnostics().contested;
        let claimants = contested.iter().flat_map(|one| &one.claimants);
        let addresses: Vec<_> = claimants.map(|claimant| claimant.address).collect();
        addresses == [original.address, copy.address]
    })
    .await;
    assert_eq!(third.cluster.diagnostics().identity_conflict, None);

    copy.cluster.stop().await;
    wait("the third sees one again", || {
        third.cluster.diagnostics().contested.is_empty()
    })
    .await;
    stop_all([third, original]).await;
}
