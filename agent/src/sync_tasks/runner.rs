//! Keeps the workers busy, from the start of the agent to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use basic_membership::{AnnouncedState, NodeId};
use basic_sync::model::{Collection, Key};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::warn;

use super::attempt;
use super::board::Board;
use super::front::Shared;
use super::record::Record;
use crate::records::{RecordError, Records, System};

/// Puts this node's tasks on the board as the store has them; returns how many of them are not done.
pub(super) fn find(
    board: &mut Board,
    records: &Records,
    own: &NodeId,
) -> Result<usize, RecordError> {
    let mut found: Vec<(String, Record)> = records.all(System::Tasks)?;
    found.retain(|(_, record)| record.told.node == own.as_str());
    // Those that are done in the order in which they were, and the others in the order in which they came.
    found.sort_by_cached_key(|(_, record)| (record.told.finished_at.clone(), record.number));
    let mut unfinished = 0;
    for (id, record) in found {
        let told = &record.told;
        let write = match told.written_at.is_some() && !told.status.is_final() {
            true => records.find::<Record>(System::Tasks, &id)?,
            false => None,
        };
        let write = write.and_then(|(record, revision)| attempt::write_of(&record, &revision));
        let collection = Collection::new(&told.collection)?;
        let document = Key::new(collection, &told.key)?;
        unfinished += usize::from(!told.status.is_final());
        board.resume(id.as_str().into(), record, document, write);
    }
    Ok(unfinished)
}

/// Carries out tasks for as long as the agent runs. It begins once this node has what its peers have: a store that was
/// restored may show tasks as waiting that were done long ago.
pub(super) async fn run(shared: Arc<Shared>) {
    has_caught_up(&shared).await;
    let over = shared.board().forget();
    attempt::forget(&shared, over).await;
    let workers = usize::from(shared.config.workers);
    let mut running = JoinSet::new();
    loop {
        while running.len() < workers {
            let next = shared.board().take(shared.began.elapsed());
            let Some((id, job)) = next else { break };
            running.spawn(attempt::carry_out(shared.clone(), id, job));
        }
        let due = shared.board().next_due();
        tokio::select! {
            () = shared.wake.notified() => {}
            () = until(shared.began, due), if due.is_some() && running.len() < workers => {}
            Some(ended) = running.join_next() => {
                // A panic is a defect; the agent names this part and stops.
                if let Err(error) = ended && error.is_panic() {
                    warn!("a task failed");
                    std::panic::resume_unwind(error.into_panic());
                }
            }
        }
    }
}

async fn has_caught_up(shared: &Shared) {
    let mut members = shared.cluster.watch();
    let announced = members.wait_for(|members| {
        let own = members.find(&shared.own);
        own.is_some_and(|own| {
            !matches!(
                own.metadata.announced,
                AnnouncedState::Joining | AnnouncedState::CatchingUp
            )
        })
    });
    if announced.await.is_err() {
        // Gossip has stopped, and the agent will.
        std::future::pending::<()>().await;
    }
}

async fn until(began: Instant, due: Option<Duration>) {
    let wait = due.unwrap_or_default().saturating_sub(began.elapsed());
    sleep(wait).await;
}
