//! Comparing the stores of all nodes, and mending them (`crate::verify` says how it is
//! judged).
//!
//! - `desk`: answers questions from this node's store. A few comparisons at a time; others
//!   are told to come back.
//! - `asked`: a node that is asked: this one, or a peer over a connection of its own
//!   ([`Lane::Verify`](crate::codec::Lane)), so that neither pushes nor pulls wait for it.
//! - `walk`: from the first key to the last, a handful of ranges at a time.
//! - `judge`: keys that differ: look, let the nodes come level, look again; then mend.
//! - `tables`: each node's own tables.
//! - `report`: what is asked for, and what comes out.
//!
//! In goes a wish ([`VerifyOptions`]); out comes a [`Report`], also where nodes could not be
//! asked: it names them. One at a time from a node. It holds a page of keys or documents of
//! each node in memory, and lists of findings that are bounded.

mod asked;
mod desk;
mod judge;
mod report;
mod tables;
mod walk;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use super::incoming::Greeting;
use super::{Connector, Peer};
use crate::model::{PeerId, Timestamp};
use crate::verify::{Answer, Request};
use asked::Way;
pub(super) use desk::Desk;

pub use report::{
    FINDINGS_MAX, Finding, NodeReport, Outcome, Remedy, Repair, Report, VerifyError, VerifyOptions,
};

/// What it takes to compare. Clones share it.
#[derive(Clone)]
pub(super) struct Verifier {
    pub(super) desk: Desk,
    pub(super) connector: Arc<dyn Connector>,
    pub(super) greeting: Greeting,
    pub(super) under_way: Arc<Semaphore>,
    progress: Arc<Progress>,
}

/// How far the comparison that is under way has come.
#[derive(Debug, Default)]
struct Progress {
    documents: AtomicU64,
    differing: AtomicU64,
}

/// How far a comparison has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VerifyProgress {
    /// Documents of this node that were looked at.
    pub documents: u64,
    /// Keys that were found to differ.
    pub differing: u64,
}

impl Verifier {
    pub(super) fn new(desk: Desk, connector: Arc<dyn Connector>, greeting: Greeting) -> Self {
        Self {
            desk,
            connector,
            greeting,
            under_way: Arc::new(Semaphore::new(1)),
            progress: Arc::default(),
        }
    }

    /// How far the comparison has come that is under way from this node, if one is.
    pub(super) fn progress(&self) -> Option<VerifyProgress> {
        let idle = self.under_way.available_permits() > 0;
        (!idle).then(|| VerifyProgress {
            documents: self.progress.documents.load(Ordering::Relaxed),
            differing: self.progress.differing.load(Ordering::Relaxed),
        })
    }

    /// Compares this node with these peers.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub(super) async fn run(
        &self,
        peers: Vec<Peer>,
        options: VerifyOptions,
    ) -> Result<Report, VerifyError> {
        let place = self.under_way.clone().try_acquire_owned();
        let _place = place.map_err(|_| VerifyError::UnderWay)?;
        let began = Instant::now();
        self.progress.documents.store(0, Ordering::Relaxed);
        self.progress.differing.store(0, Ordering::Relaxed);
        let floor = self.desk.floor().map_err(VerifyError::Own)?;
        let mut run = self.begin(peers, &options, began).await;
        run.floor = floor;
        if options.repair == Repair::Apply
            && let Some(absent) = run.report.nodes.iter().find(|node| node.failed.is_some())
        {
            return Err(VerifyError::Incomplete {
                node: absent.node.clone(),
                reason: absent.failed.clone().unwrap_or_default(),
            });
        }
        run.walk().await?;
        if options.deep || options.repair != Repair::No {
            run.check_tables().await;
        }
        run.report.took = began.elapsed();
        Ok(run.report)
    }

    async fn begin(&self, peers: Vec<Peer>, options: &VerifyOptions, began: Instant) -> Run {
        let mut connecting = JoinSet::new();
        for (at, peer) in peers.iter().cloned().enumerate() {
            let Self {
                connector,
                greeting,
                ..
            } = self.clone();
            connecting
                .spawn(async move { (at, asked::connect(&*connector, &greeting, &peer).await) });
        }
        let own = PeerId::new(&self.greeting.node);
        let mut nodes = vec![NodeReport::new(own)];
        nodes.extend(peers.into_iter().map(|peer| NodeReport::new(peer.id)));
        let mut ways: Vec<Option<Arc<Mutex<Way>>>> = nodes.iter().map(|_| None).collect();
        let own = Way::Own(self.desk.clone());
        ways[0] = Some(Arc::new(Mutex::new(own)));
        while let Some(connected) = connecting.join_next().await {
            // A task that has panicked leaves its node without a way.
            let Ok((at, connected)) = connected else {
                continue;
            };
            match connected {
                Ok(way) => ways[at + 1] = Some(Arc::new(Mutex::new(way))),
                Err(reason) => nodes[at + 1].failed = Some(reason),
            }
        }
        for (node, way) in nodes.iter_mut().zip(&ways) {
            if way.is_none() && node.failed.is_none() {
                node.failed = Some("it could not be asked".to_owned());
            }
        }
        Run {
            desk: self.desk.clone(),
            progress: self.progress.clone(),
            ways,
            options: options.clone(),
            deadline: began.checked_add(options.limit),
            patience: judge::PATIENCE,
            floor: Timestamp::default(),
            found: BTreeSet::new(),
            report: Report {
                nodes,
                ..Report::default()
            },
        }
    }
}

/// A comparison under way.
struct Run {
    desk: Desk,
    progress: Arc<Progress>,
    /// How to ask each node of the report; `None` where that has failed.
    ways: Vec<Option<Arc<Mutex<Way>>>>,
    options: VerifyOptions,
    /// When it ends, done or not; `None` where that is beyond all times.
    deadline: Option<Instant>,
    /// How long nodes may take to come level.
    patience: std::time::Duration,
    /// No node has let go of a deletion dated later: each lets go up to the lowest floor of
    /// all, of which this node's own is one.
    floor: Timestamp,
    /// Keys that differ and are to be judged.
    found: BTreeSet<Bytes>,
    report: Report,
}

impl Run {
    fn is_over(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// The places of the nodes that can be asked.
    fn taking_part(&self) -> Vec<usize> {
        (0..self.ways.len())
            .filter(|node| self.ways[*node].is_some())
            .collect()
    }

    /// Asks nodes, each its own question, all at once. One that fails takes no part any
    /// more, and is not in the answers.
    async fn ask(&mut self, questions: Vec<(usize, Request)>) -> Vec<(usize, Answer)> {
        let mut asking = JoinSet::new();
        for (node, request) in questions {
            if let Some(way) = self.ways[node].clone() {
                asking.spawn(async move { (node, way.lock().await.ask(&request).await) });
            }
        }
        let mut answers = Vec::new();
        while let Some(asked) = asking.join_next().await {
            // A panic has been reported by then; the node's answer is missing.
            let Ok((node, answer)) = asked else { continue };
            match answer {
                Ok(answer) => answers.push((node, answer)),
                Err(reason) => self.lose(node, reason),
            }
        }
        answers.sort_by_key(|(node, _)| *node);
        answers
    }

    /// The same question to all that take part.
    async fn ask_all(&mut self, request: &Request) -> Vec<(usize, Answer)> {
        let nodes = self.taking_part().into_iter();
        let questions = nodes.map(|node| (node, request.clone())).collect();
        self.ask(questions).await
    }

    /// A node takes no part any more.
    fn lose(&mut self, node: usize, reason: String) {
        self.ways[node] = None;
        self.report.nodes[node].failed.get_or_insert(reason);
    }

    /// A node has answered something else than was asked.
    fn confused(&mut self, node: usize) {
        self.lose(node, "it answered something else than was asked".to_owned());
    }
}
