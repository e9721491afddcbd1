//! The roster at work: seeds that nobody configured.

use std::fs;
use std::net::Ipv6Addr;

use super::*;

fn listed(node: &Node) -> Vec<(String, MemberState)> {
    let roster = node.cluster.roster();
    roster
        .into_iter()
        .map(|entry| (entry.id.to_string(), entry.last_state))
        .collect()
}

async fn all_see_all(nodes: &[Node]) {
    for node in nodes {
        for other in nodes {
            node.sees(other.id, MemberState::Active).await;
        }
    }
}

#[tokio::test]
async fn a_cluster_that_was_stopped_as_a_whole_finds_itself_again_without_seeds() {
    let mut resting = Vec::new();
    for node in three().await {
        resting.push(node.rest().await);
    }
    let mut nodes = Vec::new();
    for plan in resting {
        nodes.push(plan.join().await);
    }
    all_see_all(&nodes).await;
    stop_all(nodes).await;
}

#[tokio::test]
async fn a_node_that_was_here_before_comes_in_though_both_its_seeds_are_dead() {
    let [one, two, three] = three().await;
    let seeds = [one.address, two.address];
    let fourth = plan("n4").seeded_by(&seeds).join().await;
    fourth.sees("n3", MemberState::Active).await;
    three.sees("n4", MemberState::Active).await;
    let fourth = fourth.rest().await.seeded_by(&seeds);
    stop_all([one, two]).await;
    for id in ["n1", "n2", "n4"] {
        three.sees(id, MemberState::Failed).await;
    }
    let fourth = fourth.join().await;
    fourth.sees("n3", MemberState::Active).await;
    three.sees("n4", MemberState::Active).await;
    stop_all([three, fourth]).await;
}

#[tokio::test]
async fn who_failed_or_left_stays_in_the_roster_over_a_restart_and_who_was_removed_does_not() {
    let [one, two, three] = three().await;
    let fourth = plan("n4").seeded_by(&[one.address]).join().await;
    one.sees("n4", MemberState::Active).await;
    two.cluster.leave().await.unwrap();
    three.cluster.stop().await;
    one.sees("n2", MemberState::Left).await;
    one.sees("n3", MemberState::Failed).await;
    one.cluster.set_directives(removal_of(&one, "n4"));
    one.sees("n4", MemberState::Removed).await;
    stop_all([fourth]).await;

    let one = one.rest().await.join().await;
    let expected = [
        ("n1".to_owned(), MemberState::Active),
        ("n2".to_owned(), MemberState::Left),
        ("n3".to_owned(), MemberState::Failed),
    ];
    assert_eq!(listed(&one), expected);
    stop_all([one]).await;
}

#[tokio::test]
async fn a_damaged_roster_is_told_about_and_keeps_nobody_from_starting() {
    let plan = plan("n1");
    let path = plan.data_dir.path().join("roster.json");
    fs::write(&path, "{\"format\": 1, ").unwrap();
    let node = plan.join().await;
    wait("the damage is told", || {
        let problem = node.cluster.diagnostics().roster_problem;
        problem.is_some_and(|problem| problem.contains("roster.json.damaged"))
    })
    .await;
    wait("a new roster is written", || path.exists()).await;
    assert_eq!(listed(&node), [("n1".to_owned(), MemberState::Active)]);
    stop_all([node]).await;
}

#[tokio::test]
async fn two_nodes_find_each_other_over_ipv6_and_again_without_seeds() {
    let over_ipv6 = |id| Plan {
        socket: UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap(),
        ..plan(id)
    };
    let one = over_ipv6("n1").join().await;
    let two = over_ipv6("n2").seeded_by(&[one.address]).join().await;
    let both = [one, two];
    all_see_all(&both).await;
    let [one, two] = both;
    let one = one.rest().await;
    two.sees("n1", MemberState::Failed).await;
    let (one, two) = (one.join().await, two.rest().await.join().await);
    let both = [one, two];
    all_see_all(&both).await;
    stop_all(both).await;
}
