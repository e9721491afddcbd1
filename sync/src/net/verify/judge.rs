//! Keys that differ: truly, or because something is on its way; and what becomes of them.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::sleep;
use tracing::{info, warn};

use super::{FINDINGS_MAX, Finding, Outcome, Remedy, Repair, Run};
use crate::model::VersionVector;
use crate::storage::mending::{Mend, Mended};
use crate::verify::compare::{self, PartDifference};
use crate::verify::message::KEYS_MAX;
use crate::verify::plan::{self, Plan};
use crate::verify::{Answer, Difference, Held, Reason, Request};

/// How long nodes may take to come level, the first time, ...
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// ... and once they did not.
const PATIENCE_LATER: Duration = Duration::from_millis(500);
/// Between two questions whether they have.
const LEVEL_PAUSE: Duration = Duration::from_millis(100);
/// How often a key that changes meanwhile is mended anew.
const TRIES: usize = 5;
/// Bytes of documents in one piece of work for a node, about.
const WORK_BYTES: usize = 1024 * 1024;

/// What nodes hold for some keys.
struct Look {
    /// The nodes, by their places in the report, ascending.
    nodes: Vec<usize>,
    /// The vector of each.
    vectors: Vec<VersionVector>,
    /// Of each key, what each node holds.
    held: Vec<Vec<Held>>,
}

/// What a look at keys found.
#[derive(Default)]
struct Looked {
    /// Those in which no node waits for another.
    suspects: Vec<Suspect>,
    /// How many differ only because a node waits for another.
    in_flight: u64,
}

/// A key that differs truly.
struct Suspect {
    key: Bytes,
    parts: Vec<PartDifference>,
    /// What each node holds, in the order of `nodes`.
    held: Vec<Held>,
    nodes: Vec<usize>,
}

impl Run {
    /// Judges the keys that were found to differ.
    pub(super) async fn judge_found(&mut self) {
        let keys: Vec<Bytes> = std::mem::take(&mut self.found).into_iter().collect();
        let Looked {
            suspects,
            in_flight,
        } = self.look_for_differences(&keys).await;
        self.report.in_flight += in_flight;
        if suspects.is_empty() {
            return;
        }
        let keys: Vec<Bytes> = suspects.iter().map(|suspect| suspect.key.clone()).collect();
        if !self.come_level().await {
            self.report.undecided += u64::try_from(keys.len()).unwrap_or(u64::MAX);
            let room = FINDINGS_MAX.saturating_sub(self.report.undecided_keys.len());
            self.report
                .undecided_keys
                .extend(keys.into_iter().take(room));
            return;
        }
        let again = self.look_for_differences(&keys).await;
        self.report.in_flight += again.in_flight;
        let mut confirmed = Vec::new();
        for mut suspect in again.suspects {
            let Some(before) = suspects.iter().find(|before| before.key == suspect.key) else {
                continue;
            };
            suspect.parts = compare::lasting(&before.parts, suspect.parts);
            if !suspect.parts.is_empty() {
                confirmed.push(suspect);
            }
        }
        for suspects in chunks(confirmed) {
            self.settle(suspects).await;
        }
    }

    /// Looks at keys, as many at a time as make a page.
    async fn look_for_differences(&mut self, keys: &[Bytes]) -> Looked {
        let mut looked = Looked::default();
        let mut rest = keys;
        while !rest.is_empty() && !self.is_over() {
            let page = &rest[..rest.len().min(KEYS_MAX)];
            let look = self.look(page).await;
            if look.held.is_empty() {
                break;
            }
            let count = look.held.len();
            for (key, held) in page.iter().zip(look.held) {
                let parts = compare::parts(&held, &look.vectors);
                if parts.is_empty() {
                    let differs = held.windows(2).any(|two| two[0].digest != two[1].digest);
                    looked.in_flight += u64::from(differs);
                } else {
                    let parts = parts.into_iter().map(|part| self.placed(part, &look.nodes));
                    looked.suspects.push(Suspect {
                        key: key.clone(),
                        parts: parts.collect(),
                        held,
                        nodes: look.nodes.clone(),
                    });
                }
            }
            rest = &rest[count..];
        }
        looked
    }

    /// The states of a part in the order of the report.
    fn placed(&self, part: PartDifference, nodes: &[usize]) -> PartDifference {
        let mut states = vec![None; self.report.nodes.len()];
        for (node, state) in nodes.iter().zip(part.states) {
            states[*node] = state;
        }
        PartDifference { states, ..part }
    }

    /// What the nodes hold for the first of these keys: of as many as all have told.
    async fn look(&mut self, keys: &[Bytes]) -> Look {
        let mut look = Look {
            nodes: Vec::new(),
            vectors: Vec::new(),
            held: Vec::new(),
        };
        let request = Request::Documents {
            keys: keys.to_vec(),
        };
        let mut told = Vec::new();
        for (node, answer) in self.ask_all(&request).await {
            match answer {
                Answer::Documents { vector, held }
                    if held.len() <= keys.len() && (keys.is_empty() || !held.is_empty()) =>
                {
                    look.nodes.push(node);
                    look.vectors.push(vector);
                    told.push(held);
                }
                _ => self.confused(node),
            }
        }
        let count = told.iter().map(Vec::len).min().unwrap_or(0);
        for _ in 0..count {
            look.held.push(Vec::with_capacity(told.len()));
        }
        for held in told {
            for (of_key, held) in look.held.iter_mut().zip(held) {
                of_key.push(held);
            }
        }
        look
    }

    /// Waits until every node has all that any of them has now; whether that came about.
    async fn come_level(&mut self) -> bool {
        let mut goal = VersionVector::default();
        for vector in self.look(&[]).await.vectors {
            goal.merge(&vector);
        }
        let until = Instant::now() + self.patience;
        loop {
            let look = self.look(&[]).await;
            if look.vectors.iter().all(|vector| vector.covers(&goal)) {
                return true;
            }
            if Instant::now() >= until || self.is_over() {
                self.patience = PATIENCE_LATER;
                return false;
            }
            sleep(LEVEL_PAUSE).await;
        }
    }

    /// Notes keys that differ, plans what to do, and does it where that is wanted.
    async fn settle(&mut self, suspects: Vec<Suspect>) {
        let repair = self.options.repair;
        let plans: Vec<Option<Plan>> = suspects
            .iter()
            .map(|suspect| match repair {
                Repair::No => None,
                _ => plan::plan(&suspect.key, &suspect.held, self.floor),
            })
            .collect();
        let all_there = self.report.nodes.iter().all(|node| node.failed.is_none());
        let open = match repair {
            Repair::No | Repair::Plan => Vec::new(),
            // A node that has gone meanwhile may hold what decides.
            Repair::Apply if !all_there => suspects.iter().map(|one| one.key.clone()).collect(),
            Repair::Apply | Repair::ApplyPartly => self.mend(&suspects, &plans).await,
        };
        for (suspect, plan) in suspects.into_iter().zip(plans) {
            self.report.differing += 1;
            self.progress.differing.fetch_add(1, Ordering::Relaxed);
            let outcome = match (repair, &plan) {
                (_, None) => Outcome::Impossible,
                (_, Some(plan)) if plan.reason == Reason::Forgotten => Outcome::Doubtful,
                (Repair::No | Repair::Plan, _) => Outcome::Planned,
                _ if open.contains(&suspect.key) => Outcome::Open,
                _ => Outcome::Mended,
            };
            if outcome == Outcome::Mended {
                self.report.mended += 1;
                info!(key = ?String::from_utf8_lossy(&suspect.key), "a key that differed between nodes was mended");
            } else {
                warn!(key = ?String::from_utf8_lossy(&suspect.key), "a key differs between nodes");
            }
            if self.report.findings.len() >= FINDINGS_MAX {
                continue;
            }
            let remedy = (repair != Repair::No).then(|| Remedy {
                nodes: plan.as_ref().map_or_else(Vec::new, |plan| {
                    plan.nodes.iter().map(|at| suspect.nodes[*at]).collect()
                }),
                reason: plan.map(|plan| plan.reason),
                outcome,
            });
            self.report.findings.push(Finding {
                difference: Difference {
                    key: suspect.key,
                    parts: suspect.parts,
                },
                remedy,
            });
        }
    }

    /// Lets the nodes hold what was planned; returns the keys for which that failed. What has
    /// changed meanwhile is planned anew.
    async fn mend(&mut self, suspects: &[Suspect], plans: &[Option<Plan>]) -> Vec<Bytes> {
        let mut work = Vec::new();
        for (suspect, plan) in suspects.iter().zip(plans) {
            if let Some(plan) = plan.as_ref().filter(is_certain) {
                work.extend(pieces(&suspect.key, plan, &suspect.held, &suspect.nodes));
            }
        }
        let mut open = self.carry_out(work).await;
        for _ in 0..TRIES {
            if open.is_empty() || self.is_over() {
                break;
            }
            sleep(LEVEL_PAUSE).await;
            let mut still = Vec::new();
            for key in open {
                let look = self.look(std::slice::from_ref(&key)).await;
                let Some(held) = look.held.first() else {
                    still.push(key);
                    continue;
                };
                let same = held.iter().all(|one| one.digest == held[0].digest);
                match plan::plan(&key, held, self.floor).filter(|plan| is_certain(&plan)) {
                    _ if same => {}
                    Some(plan) => {
                        let work = pieces(&key, &plan, held, &look.nodes);
                        still.extend(self.carry_out(work).await);
                    }
                    None => still.push(key),
                }
            }
            open = still;
        }
        open
    }

    /// Gives nodes their work; returns the keys of which some was not done.
    async fn carry_out(&mut self, work: Vec<(usize, Mend)>) -> Vec<Bytes> {
        let mut open = Vec::new();
        let mut by_node: Vec<Vec<Mend>> = vec![Vec::new(); self.ways.len()];
        for (node, mend) in work {
            by_node[node].push(mend);
        }
        for (node, work) in by_node.into_iter().enumerate() {
            let keys: Vec<Bytes> = work.iter().filter_map(key_of).collect();
            let mut outcomes = Vec::new();
            for work in portions(work) {
                for (node, answer) in self.ask(vec![(node, Request::Mend { work })]).await {
                    match answer {
                        Answer::Mended(mended) => outcomes.extend(mended),
                        _ => self.confused(node),
                    }
                }
            }
            let outcomes = outcomes.into_iter().chain(std::iter::repeat(Mended::Lost));
            let failed = keys.into_iter().zip(outcomes);
            open.extend(
                failed
                    .filter(|(_, outcome)| *outcome != Mended::Done)
                    .map(|(key, _)| key),
            );
        }
        open.sort();
        open.dedup();
        open
    }
}

fn is_certain(plan: &&Plan) -> bool {
    plan.reason != Reason::Forgotten
}

/// What nodes have to do for a plan.
fn pieces(key: &Bytes, plan: &Plan, held: &[Held], nodes: &[usize]) -> Vec<(usize, Mend)> {
    let piece = |at: &usize| {
        let mend = Mend::Replace {
            key: key.clone(),
            expected: held[*at].digest,
            document: plan.document.clone(),
        };
        (nodes[*at], mend)
    };
    plan.nodes.iter().map(piece).collect()
}

fn key_of(mend: &Mend) -> Option<Bytes> {
    match mend {
        Mend::Replace { key, .. } | Mend::Entry { key } | Mend::Dot { key, .. } => {
            Some(key.clone())
        }
        Mend::Feed { .. } | Mend::Sum { .. } => None,
    }
}

/// Work in portions that fit a frame.
fn portions(work: Vec<Mend>) -> Vec<Vec<Mend>> {
    let mut portions: Vec<Vec<Mend>> = Vec::new();
    let mut bytes = usize::MAX;
    for mend in work {
        let weight = match &mend {
            Mend::Replace { document, .. } => document.weight(),
            _ => 0,
        };
        let full = portions.last().is_none_or(|last| last.len() >= KEYS_MAX);
        if full || bytes.saturating_add(weight) > WORK_BYTES {
            portions.push(Vec::new());
            bytes = 0;
        }
        bytes += weight;
        if let Some(last) = portions.last_mut() {
            last.push(mend);
        }
    }
    portions
}

fn chunks(suspects: Vec<Suspect>) -> Vec<Vec<Suspect>> {
    let mut chunks: Vec<Vec<Suspect>> = Vec::new();
    for suspect in suspects {
        match chunks.last_mut() {
            Some(last) if last.len() < KEYS_MAX => last.push(suspect),
            _ => chunks.push(vec![suspect]),
        }
    }
    chunks
}
