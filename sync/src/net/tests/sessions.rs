//! Waiting for what others have written, and seeing what is late.

use super::*;
use crate::model::{Dot, Epoch, Frontier, Origin, ReplicaId};
use crate::net::{Lacking, WaitError};

/// Two nodes that have been linked and no longer are.
async fn parted() -> Vec<Node> {
    let nodes = cluster(2).await;
    write(&nodes[0], put("before", "1")).await.unwrap();
    shows(&nodes[1], "before", &"1".into()).await;
    for node in &nodes {
        node.open.store(false, Ordering::SeqCst);
        node.handle.set_peers(Vec::new()).await;
    }
    nodes
}

async fn join_again(nodes: &[Node]) {
    for (node, other) in [(0, 2), (1, 1)] {
        nodes[node].open.store(true, Ordering::SeqCst);
        let peer = Peer {
            id: PeerId::new(&format!("n{other}")),
            address: address(other),
        };
        nodes[node].handle.set_peers(vec![peer]).await;
    }
}

#[tokio::test]
async fn a_wait_ends_when_what_was_written_and_read_elsewhere_is_here() {
    let nodes = parted().await;
    for number in 0..3 {
        let value = format!("{number}");
        write(&nodes[0], put("k", value)).await.unwrap();
    }
    let mut seen = Frontier::default();
    nodes[0].handle.entry_noting(&key("k"), &mut seen).unwrap();
    nodes[0]
        .handle
        .entry_noting(&key("none"), &mut seen)
        .unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        nodes[0].handle.wait_for(&seen, Duration::ZERO).await,
        Ok(()),
        "it is here as soon as the write is answered"
    );
    let other = nodes[1].handle.clone();
    let wanted = seen.clone();
    let waiting = tokio::spawn(async move {
        other.wait_for(&wanted, PATIENCE).await?;
        Ok::<_, WaitError>(other.entry(&key("k")).unwrap())
    });
    let written = seen.iter().next().unwrap();
    let lacking = Lacking {
        wanted: written,
        here: 1,
    };
    assert_eq!(
        nodes[1].handle.wait_for(&seen, Duration::ZERO).await,
        Err(WaitError::Lacking(vec![lacking]))
    );
    join_again(&nodes).await;
    let read = waiting.await.unwrap().unwrap().unwrap();
    assert_eq!(read.value, Some("2".into()));
}

#[tokio::test]
async fn what_never_comes_is_named_and_a_stop_ends_the_wait() {
    let nodes = cluster(1).await;
    let mut wanted = Frontier::default();
    let origin = Origin {
        replica: ReplicaId([9; 16]),
        epoch: Epoch(1),
    };
    let lost = Dot { origin, seq: 7 };
    wanted.note(lost);
    let waited = nodes[0].handle.wait_for(&wanted, Duration::from_millis(5));
    let lacking = Lacking {
        wanted: lost,
        here: 0,
    };
    assert_eq!(waited.await, Err(WaitError::Lacking(vec![lacking])));
    let handle = nodes[0].handle.clone();
    let waiting = tokio::spawn(async move { handle.wait_for(&wanted, PATIENCE).await });
    nodes[0].handle.shutdown().await;
    assert_eq!(waiting.await.unwrap(), Err(WaitError::Stopped));
}

/// That a key is gone rests on the write that deleted it, in a list as in a read.
#[tokio::test]
async fn what_is_not_there_rests_on_what_deleted_it() {
    let nodes = cluster(1).await;
    let handle = &nodes[0].handle;
    write(&nodes[0], put("a", "1")).await.unwrap();
    write(&nodes[0], put("b", "1")).await.unwrap();
    let delete = vec![Operation::new(key("b"), Action::Delete)];
    write(&nodes[0], delete).await.unwrap();
    let mut seen = Frontier::default();
    handle.entry_noting(&key("a"), &mut seen).unwrap();
    assert_eq!(seen.iter().map(|dot| dot.seq).collect::<Vec<_>>(), [1]);
    let users = Collection::new("users").unwrap();
    let page = handle.documents(&users, "", None, 10).unwrap();
    assert_eq!(page.documents.len(), 1);
    assert_eq!(page.seen.iter().map(|dot| dot.seq).collect::<Vec<_>>(), [3]);
    let page = handle.documents(&users, "a", None, 10).unwrap();
    assert_eq!(page.seen, seen, "what lies beyond the page is not in it");
}

#[tokio::test]
async fn what_a_peer_lacks_is_counted_and_its_age_grows_until_it_has_it() {
    let nodes = cluster(2).await;
    write(&nodes[0], put("k", "1")).await.unwrap();
    shows(&nodes[1], "k", &"1".into()).await;
    let handle = &nodes[0].handle;
    // It no longer hears: what is sent to it is not acknowledged.
    nodes[1].handle.shutdown().await;
    write(&nodes[0], put("k", "2")).await.unwrap();
    write(&nodes[0], put("k", "3")).await.unwrap();
    let lags = async |fits: fn(&PeerLag) -> bool| {
        let lag = async {
            loop {
                let lags = handle.lags();
                match lags.as_slice() {
                    [lag] if fits(lag) => return lag.clone(),
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        timeout(PATIENCE, lag).await.expect("it is seen")
    };
    let late = lags(|lag| {
        lag.status
            .as_ref()
            .is_some_and(|known| known.unacknowledged == 2)
    })
    .await;
    assert_eq!(late.peer, PeerId::new("n2"));
    let age = late.unacknowledged_for.unwrap();
    assert!(age < PATIENCE && late.behind_for.is_none(), "{late:?}");
    let later = lags(|lag| lag.unacknowledged_for > Some(Duration::from_millis(100))).await;
    assert!(later.unacknowledged_for > Some(age), "{later:?}");
}

#[tokio::test]
async fn of_several_operations_the_one_that_is_refused_is_named_and_none_is_done() {
    let nodes = cluster(1).await;
    let delete = || Operation::new(key("none"), Action::Delete);
    let several = [put("a", "1"), put("b", "2"), vec![delete()], put("c", "{")].concat();
    let refused = write(&nodes[0], several).await.unwrap_err();
    let WriteError::Refused(refused) = refused else {
        panic!("{refused}");
    };
    assert!(
        matches!(&refused, WriteRefused::Operation { index: 2, .. }),
        "{refused:?}"
    );
    assert_eq!(refused.reason(), &WriteRefused::NotFound(key("none")));
    for name in ["a", "b", "c"] {
        assert_eq!(nodes[0].handle.entry(&key(name)).unwrap(), None);
    }
    let large = Bytes::from(vec![b'1'; crate::model::VALUE_BYTES_MAX + 1]);
    let refused = write(&nodes[0], [put("a", "1"), put("b", large)].concat()).await;
    assert!(matches!(
        refused,
        Err(WriteError::Refused(WriteRefused::Operation { index: 1, reason }))
            if matches!(*reason, WriteRefused::DocumentTooLarge { .. })
    ));
    let alone = write(&nodes[0], vec![delete()]).await;
    assert!(matches!(
        alone,
        Err(WriteError::Refused(WriteRefused::NotFound(_)))
    ));
}
