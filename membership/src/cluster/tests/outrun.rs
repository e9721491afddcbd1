//! A node that lost its data directory while its clock went back.

use std::time::UNIX_EPOCH;

use super::*;

#[tokio::test]
async fn a_node_that_forgot_its_former_life_and_started_in_the_past_is_a_member_again() {
    let one = plan("n1").join().await;
    let two = plan("n2").seeded_by(&[one.address]).join().await;
    one.sees("n2", MemberState::Active).await;
    let former = one.member("n2").unwrap().incarnation;
    let resting = two.rest().await;
    one.sees("n2", MemberState::Failed).await;

    let wiped = Plan {
        data_dir: tempfile::tempdir().unwrap(),
        ..resting
    };
    let again = wiped.seeded_by(&[one.address]).join_at(UNIX_EPOCH).await;
    assert!(again.cluster.identity().incarnation < former);
    one.rejects(RejectReason::FormerLife).await;
    one.sees("n2", MemberState::Active).await;
    again.sees("n1", MemberState::Active).await;
    assert!(one.member("n2").unwrap().incarnation > former);
    stop_all([one, again]).await;
}
