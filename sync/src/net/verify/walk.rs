//! From the first key to the last: digests of ranges, and the keys of those that differ.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{Run, VerifyError};
use crate::storage::state::Digest;
use crate::verify::message::KEYS_MAX;
use crate::verify::{Answer, Item, Request};

impl Run {
    /// Compares all keys.
    pub(super) async fn walk(&mut self) -> Result<(), VerifyError> {
        let mut from = Bytes::new();
        loop {
            if self.is_over() {
                return Ok(());
            }
            let cut = self.desk.cut(from.clone()).await;
            let cut = cut.map_err(|failed| {
                VerifyError::Own(match failed {
                    Answer::Failed(reason) => reason,
                    _ => String::new(),
                })
            })?;
            let request = Request::Digests {
                from: from.clone(),
                bounds: cut.bounds.clone(),
                to_end: cut.to_end,
            };
            let mut differs = vec![false; cut.digests.len()];
            let own: u64 = cut.digests.iter().map(|digest| digest.count).sum();
            self.report.nodes[0].documents += own;
            self.progress.documents.fetch_add(own, Ordering::Relaxed);
            let others = self.taking_part().into_iter().filter(|node| *node != 0);
            let questions = others.map(|node| (node, request.clone())).collect();
            for (node, answer) in self.ask(questions).await {
                match answer {
                    Answer::Digests(digests) if digests.len() == differs.len() => {
                        for ((differs, own), digest) in
                            differs.iter_mut().zip(&cut.digests).zip(digests)
                        {
                            *differs |= digest != *own;
                            self.report.nodes[node].documents += digest.count;
                        }
                    }
                    _ => self.confused(node),
                }
            }
            let mut begin = from;
            let ends = cut.bounds.iter().cloned().map(Some);
            for (end, differs) in ends.chain([None]).zip(differs) {
                if differs {
                    self.list(begin.clone(), end.clone()).await;
                }
                begin = end.unwrap_or_default();
            }
            self.judge_found().await;
            self.own_is_there()?;
            if cut.to_end {
                self.report.complete = true;
                return Ok(());
            }
            from = begin_after(&cut.bounds);
        }
    }

    fn own_is_there(&self) -> Result<(), VerifyError> {
        match &self.report.nodes[0].failed {
            Some(reason) => Err(VerifyError::Own(reason.clone())),
            None => Ok(()),
        }
    }

    /// Finds the keys of a range that differ.
    async fn list(&mut self, from: Bytes, to: Option<Bytes>) {
        let mut next = Some(from);
        while let Some(from) = next.take() {
            if self.is_over() {
                return;
            }
            let request = Request::Items {
                from,
                to: to.clone(),
            };
            let mut pages = Vec::new();
            for (node, answer) in self.ask_all(&request).await {
                match answer {
                    Answer::Items { items, more } if !(more && items.is_empty()) => {
                        pages.push((items, more));
                    }
                    _ => self.confused(node),
                }
            }
            // What lies beyond the shortest page is not known of all nodes yet.
            let ends = pages.iter().filter(|(_, more)| *more);
            let upto = ends
                .filter_map(|(items, _)| items.last())
                .min_by(|a, b| a.key.cmp(&b.key));
            let upto = upto.map(|item| item.key.clone());
            self.found.extend(differing(&pages, upto.as_ref()));
            if self.found.len() >= KEYS_MAX {
                self.judge_found().await;
            }
            next = upto.map(|key| {
                let mut next = key.to_vec();
                next.push(0);
                next.into()
            });
        }
    }
}

fn begin_after(bounds: &[Bytes]) -> Bytes {
    bounds.last().cloned().unwrap_or_default()
}

/// The keys up to `upto` that are not the same on all pages.
fn differing(pages: &[(Vec<Item>, bool)], upto: Option<&Bytes>) -> Vec<Bytes> {
    let mut keys: BTreeMap<&Bytes, (usize, Digest, bool)> = BTreeMap::new();
    for Item { key, content } in pages.iter().flat_map(|(items, _)| items) {
        if upto.is_some_and(|upto| key > upto) {
            continue;
        }
        let seen = keys.entry(key).or_insert((0, *content, true));
        seen.0 += 1;
        seen.2 &= seen.1 == *content;
    }
    let differs = |(key, (count, _, same)): (&Bytes, (usize, Digest, bool))| {
        (count < pages.len() || !same).then(|| key.clone())
    };
    keys.into_iter().filter_map(differs).collect()
}
