//! Each node's own tables: checked against each other, and set right. All nodes at once, a
//! stretch each.

use bytes::Bytes;

use super::{Repair, Run};
use crate::storage::mending::{Mend, Mended};
use crate::verify::indexes::Place;
use crate::verify::message::KEYS_MAX;
use crate::verify::{Answer, Fault, FaultKind, Request};

/// How often the tables are gone through where faults are mended: one may hide another.
const PASSES: usize = 4;
/// How often a sum is begun that another one ends.
const SUMS_MAX: usize = 3;
/// Steps of a sum in one question.
const SUM_STEPS: usize = 4;

impl Run {
    /// Checks the tables of all nodes that take part, and mends them where that is wanted.
    pub(super) async fn check_tables(&mut self) {
        let apply = matches!(self.options.repair, Repair::Apply | Repair::ApplyPartly);
        let mut nodes = self.taking_part();
        for _ in 0..if apply { PASSES } else { 1 } {
            // What the last pass finds stays in the report.
            nodes = self.pass(nodes, apply).await;
            if nodes.is_empty() {
                break;
            }
        }
        self.sum(apply).await;
    }

    /// Goes once through the tables of nodes; returns those on which something was mended.
    async fn pass(&mut self, nodes: Vec<usize>, apply: bool) -> Vec<usize> {
        let mut places: Vec<Option<Place>> = vec![None; self.ways.len()];
        for node in nodes {
            let report = &mut self.report.nodes[node];
            report.faults.clear();
            (report.faulty, report.rows) = (0, 0);
            places[node] = Some(Place::default());
        }
        let mut mended = Vec::new();
        loop {
            let next = places.iter_mut().enumerate();
            let questions = next.filter_map(|(node, place)| {
                let from = place.take()?;
                Some((node, Request::Check { from }))
            });
            let questions: Vec<_> = questions.collect();
            if questions.is_empty() {
                return mended;
            }
            if self.is_over() {
                self.report.complete = false;
                return mended;
            }
            for (node, answer) in self.ask(questions).await {
                let Answer::Checked { rows, faults, next } = answer else {
                    self.confused(node);
                    continue;
                };
                let report = &mut self.report.nodes[node];
                report.rows += rows;
                report.note(&faults);
                if apply && self.mend_faults(node, &faults).await && !mended.contains(&node) {
                    mended.push(node);
                }
                places[node] = next;
            }
        }
    }

    /// Mends faults; whether there was any that can be.
    async fn mend_faults(&mut self, node: usize, faults: &[Fault]) -> bool {
        let work: Vec<Mend> = faults.iter().filter_map(Fault::remedy).collect();
        for work in work.chunks(KEYS_MAX) {
            let mut work = work.to_vec();
            while !work.is_empty() && !self.is_over() {
                let request = Request::Mend { work: work.clone() };
                let mut outcomes = Vec::new();
                for (node, answer) in self.ask(vec![(node, request)]).await {
                    match answer {
                        Answer::Mended(mended) => outcomes = mended,
                        _ => self.confused(node),
                    }
                }
                let done = outcomes.iter().filter(|one| **one == Mended::Done);
                let done = u64::try_from(done.count()).unwrap_or(u64::MAX);
                self.report.nodes[node].mended += done;
                let left = work.into_iter().zip(outcomes);
                let left = left.filter(|(_, outcome)| *outcome == Mended::More);
                work = left.map(|(mend, _)| mend).collect();
            }
        }
        !work.is_empty()
    }

    /// Sums up each node's documents and compares with the digest that it keeps.
    async fn sum(&mut self, settle: bool) {
        let mut random = [0; 8];
        // Another number would do as well; two sums at once disturb each other either way.
        let _ = getrandom::fill(&mut random);
        let id = u64::from_be_bytes(random);
        // Each node, and how often its sum was begun already; again where it was lost.
        let taking_part = self.taking_part().into_iter();
        let mut begin: Vec<(usize, usize)> = taking_part.map(|node| (node, 0)).collect();
        let mut go_on: Vec<(usize, usize)> = Vec::new();
        while !(begin.is_empty() && go_on.is_empty()) {
            if self.is_over() {
                self.report.complete = false;
                return;
            }
            let steps = |begins: bool| -> Vec<Mend> {
                let step = |step| Mend::Sum {
                    id,
                    begin: begins && step == 0,
                    settle,
                };
                (0..SUM_STEPS).map(step).collect()
            };
            let begun = begin.drain(..).map(|(node, tries)| (node, tries + 1, true));
            let more = go_on.drain(..).map(|(node, tries)| (node, tries, false));
            let asked: Vec<(usize, usize, bool)> = begun.chain(more).collect();
            let questions = asked.iter().map(|(node, _, begins)| {
                let work = steps(*begins);
                (*node, Request::Mend { work })
            });
            for (node, answer) in self.ask(questions.collect()).await {
                let Answer::Mended(outcomes) = answer else {
                    self.confused(node);
                    continue;
                };
                let tries = asked.iter().find(|(asked, ..)| *asked == node);
                let tries = tries.map_or(SUMS_MAX, |(_, tries, _)| *tries);
                match outcomes.into_iter().find(|one| *one != Mended::More) {
                    None => go_on.push((node, tries)),
                    Some(Mended::Lost) if tries < SUMS_MAX => begin.push((node, tries)),
                    Some(end) => self.summed(node, end, settle),
                }
            }
        }
    }

    fn summed(&mut self, node: usize, end: Mended, settle: bool) {
        let report = &mut self.report.nodes[node];
        match end {
            Mended::Done => report.digest_right = Some(true),
            Mended::WasWrong if settle => {
                report.digest_right = Some(true);
                report.mended += 1;
            }
            Mended::WasWrong => report.note(&[Fault {
                kind: FaultKind::Digest,
                key: Bytes::new(),
                dot: None,
                position: 0,
            }]),
            // Another sum, or a commit that failed, has ended it each time.
            Mended::Lost | Mended::Changed | Mended::More => self.report.complete = false,
        }
    }
}
