//! Operators' decisions in a cluster that gossips against them.

use super::*;
use crate::directive::Directive;

#[tokio::test]
async fn a_removed_node_is_so_for_all_through_its_restarts_until_it_joins_again() {
    let [one, two, three] = three().await;
    let removal = removal_of(&one, "n3");
    for node in [&one, &two, &three] {
        node.cluster.set_directives(removal.clone());
        node.sees("n3", MemberState::Removed).await;
    }
    let itself = three.member("n3").unwrap();
    assert!(
        itself.is_self && itself.live,
        "it is told, and goes on gossiping"
    );
    let mark = itself.metadata.joined;

    let seed = [one.address];
    let three = three.rest().await.seeded_by(&seed).join().await;
    let incarnation = three.cluster.identity().incarnation;
    wait("the new life has arrived", || {
        let known = one.member("n3").unwrap();
        known.incarnation == incarnation && known.live
    })
    .await;
    assert_eq!(one.state_of("n3"), Some(MemberState::Removed));

    let three = three.rest().await.seeded_by(&seed);
    Identity::rejoin(three.data_dir.path(), None, SystemTime::now()).unwrap();
    let three = three.join().await;
    assert!(three.member("n3").unwrap().metadata.joined > mark);
    for node in [&one, &two] {
        node.sees("n3", MemberState::Active).await;
    }
    stop_all([one, two, three]).await;
}

#[tokio::test]
async fn a_drained_node_that_stops_is_in_maintenance_and_a_failed_one_that_lives_stays_failed() {
    let [one, two, three] = three().await;
    let drained = Directive {
        drain: true,
        ..Directive::default()
    };
    let failed = Directive {
        failed: true,
        weight: Some(0),
        ..Directive::default()
    };
    one.cluster.set_directives(Directives::from([
        ("n2".parse().unwrap(), failed),
        ("n3".parse().unwrap(), drained),
    ]));
    one.sees("n2", MemberState::Failed).await;
    one.sees("n3", MemberState::Draining).await;
    let two_seen = one.member("n2").unwrap();
    assert!(two_seen.live && two_seen.weight() == 0);
    assert_eq!(
        two.state_of("n2"),
        Some(MemberState::Active),
        "not decided there"
    );
    three.cluster.stop().await;
    one.sees("n3", MemberState::Maintenance).await;
    one.cluster.set_directives(Directives::new());
    one.sees("n2", MemberState::Active).await;
    one.sees("n3", MemberState::Failed).await;
    stop_all([one, two]).await;
}
