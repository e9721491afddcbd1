//! A write as the operation that brings about the same anew.
//!
//! Where a write was taken out of the state, its version must not come back: what beat it may
//! be forgotten. What it wanted can be done again under a new version, and how depends on
//! what the document is *now*: a tally is a running total, so only what is missing from it is
//! added; a removal of elements names additions, and takes off those that are still there.
//! In goes the write, the document and the time, out comes what a client would ask for, or
//! nothing where it is no use any more. Nothing can fail; the collection's merge rule may
//! refuse the operation like anybody's.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::json::Members;
use super::{Action, Amount, Document, Part, Write};

/// What a write comes to when it is made again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Again {
    /// What to do.
    pub action: Action,
    /// How long the document is to live, where the write said so.
    pub ttl: Option<Duration>,
}

impl Document {
    /// The operation that does to this document what a write wanted; `None` where it has
    /// nothing to do here, or its time is over.
    pub fn again(&self, write: &Write, now_ms: u64) -> Option<Again> {
        let written = Document {
            writes: vec![write.clone()],
        };
        let ttl = match written.expires_at() {
            None => None,
            Some(at_ms) => {
                let left = at_ms.checked_sub(now_ms).filter(|left| *left > 0)?;
                Some(Duration::from_millis(left))
            }
        };
        let action = self.action_of(&written, write)?;
        Some(Again { action, ttl })
    }

    fn action_of(&self, written: &Document, write: &Write) -> Option<Action> {
        let mut fields = Members::default();
        let (mut step, mut elements, mut tags) = (None, BTreeSet::new(), Vec::new());
        let (mut root, mut set) = (None, None);
        for one in &write.parts {
            let text = one.value.as_deref().map(super::plan::text);
            match &one.part {
                Part::Root => root = Some(one.value.clone()),
                Part::Field(name) => fields.set(name, text.unwrap_or("null")),
                Part::Tally(_) => step = self.missing(written, &one.part),
                Part::Set => set = Some(one.value.is_some()),
                Part::Element(tag) => match text {
                    Some(text) => {
                        elements.insert(text);
                    }
                    None => tags.push(*tag),
                },
                Part::Reset(_) | Part::Expiry => {}
            }
        }
        if let Some(step) = step {
            return (step != 0).then(|| Action::Patch(format!("{{\"add\":{step}}}").into()));
        }
        let gone: BTreeSet<&Bytes> = tags
            .iter()
            .filter_map(|tag| self.part(&Part::Element(*tag))?.1)
            .collect();
        let gone = gone.into_iter().map(|text| super::plan::text(text));
        let gone: Vec<&str> = gone.filter(|text| !elements.contains(text)).collect();
        if root == Some(None) && elements.is_empty() || set == Some(false) {
            return (!self.is_tombstone(0)).then_some(Action::Delete);
        }
        if !elements.is_empty() || !gone.is_empty() {
            let added: Vec<&str> = elements.into_iter().collect();
            let (added, gone) = (added.join(","), gone.join(","));
            let patch = format!("{{\"add\":[{added}],\"remove\":[{gone}]}}");
            return Some(Action::Patch(patch.into()));
        }
        match (root, set) {
            // With all that the same write laid over it.
            (Some(Some(_)), _) => written.value(0).map(Action::Put),
            (_, Some(_)) => Some(Action::Patch(Bytes::from_static(b"{\"add\":[]}"))),
            _ if fields.iter().next().is_some() => Some(Action::Patch(fields.to_text().into())),
            _ => None,
        }
    }

    /// What this document lacks of a tally.
    fn missing(&self, written: &Document, part: &Part) -> Option<i128> {
        let amount = |document: &Document| {
            let (_, value) = document.part(part)?;
            Amount::decode(value?)
        };
        let theirs = amount(written)?;
        let ours = amount(self).filter(|ours| ours.seq == theirs.seq);
        let ours = ours.map_or(0, |ours| i128::from(ours.total));
        Some(i128::from(theirs.total) - ours)
    }
}
