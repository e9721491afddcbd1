//! The task that records what happens.

use std::time::SystemTime;

use basic_membership::{Cluster, EventStream, Lagged};
use tokio::sync::watch;
use tracing::warn;

use super::announced::Announced;
use super::decisions::Decisions;
use super::kind::Kind;
use super::record::{Cause, CauseCode, Fact};
use super::servers::Verdicts;
use super::{Events, transition};
use crate::operations::AuditEntry;
use crate::records::{Records, System};
use crate::servers::Verdict;

/// Where the run before left off.
pub(super) struct Start {
    pub(super) decisions: Decisions,
}

impl Start {
    /// Records for as long as it runs. What membership says from the moment of this call on is not missed, also if the
    /// future is polled later.
    pub(super) fn run(
        self,
        events: Events,
        cluster: Cluster,
        records: Records,
    ) -> impl Future<Output = ()> + Send + 'static {
        let transitions = cluster.events();
        async move {
            let transitions = transitions_of(events.clone(), transitions);
            let announcements = announcements_of(events.clone(), cluster);
            let verdicts = verdicts_of(events.clone(), records.clone());
            let decisions = decisions_of(events, records, self.decisions);
            tokio::join!(transitions, announcements, verdicts, decisions);
        }
    }
}

async fn transitions_of(events: Events, mut stream: EventStream) {
    while let Some(next) = stream.next().await {
        let fact = match next {
            Ok(event) => transition::fact(&event),
            Err(lagged) => missed(&events, lagged),
        };
        events.note(fact);
    }
    std::future::pending::<()>().await;
}

async fn announcements_of(events: Events, cluster: Cluster) {
    let mut changes = cluster.watch();
    let mut announced = Announced::default();
    loop {
        let members = changes.borrow_and_update().clone();
        for fact in announced.observe(members.iter(), SystemTime::now()) {
            events.note(fact);
        }
        wait(&mut changes).await;
    }
}

async fn verdicts_of(events: Events, records: Records) {
    let mut changes = records.changes(System::Probes);
    let mut verdicts = Verdicts::default();
    loop {
        match records.all::<Verdict>(System::Probes) {
            Ok(found) => {
                for fact in verdicts.observe(found, SystemTime::now()) {
                    events.note(fact);
                }
            }
            Err(error) => {
                warn!(%error, "the verdicts on servers cannot be read; they make no events");
            }
        }
        changes.changed().await;
    }
}

async fn decisions_of(events: Events, records: Records, mut decisions: Decisions) {
    let mut changes = records.changes(System::Audit);
    loop {
        match records.all::<AuditEntry>(System::Audit) {
            Ok(audit) => {
                for fact in decisions.observe(audit) {
                    events.note(fact);
                }
            }
            Err(error) => warn!(%error, "the audit cannot be read; decisions make no events"),
        }
        changes.changed().await;
    }
}

async fn wait<T>(changes: &mut watch::Receiver<T>) {
    if changes.changed().await.is_err() {
        // Gossip has stopped.
        std::future::pending::<()>().await;
    }
}

fn missed(events: &Events, lagged: Lagged) -> Fact {
    let cause = Cause::new(
        CauseCode::Overload,
        "they came faster than they could be recorded",
    );
    let missed = lagged.missed;
    let message = format!(
        "{missed} events of members are missing here: {}",
        cause.text
    );
    let own = events.identity.id.clone();
    let mut fact = Fact::new(SystemTime::now(), Kind::Missed, own, cause, message);
    fact.evidence.missed = Some(missed);
    fact
}
