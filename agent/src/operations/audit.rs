//! Who decided what, when, from where and why.
//!
//! One document a decision in `agent.audit`, on every node. Its key begins with the time, so that the order of keys is
//! the order of events. The newest [`ENTRIES_MAX`] are kept: whoever adds one deletes what is over.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use basic_membership::NodeId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::{info, warn};

use super::decision::Order;
use crate::records::{Batch, RecordError, Records, System};

/// Entries that are kept.
const ENTRIES_MAX: usize = 10_000;
/// Entries that one addition deletes at most; the rest is left to the next.
const PRUNED_MAX: usize = 256;
/// Longest name of whoever decides, in characters.
const BY_MAX: usize = 100;
/// Longest reason, in characters.
const WHY_MAX: usize = 500;

/// Who decides, as they say, and where they ask from.
#[derive(Debug, Clone)]
pub struct Actor {
    by: String,
    from: Option<IpAddr>,
    why: Option<String>,
}

/// Words for the record that are too long for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{field}\" has {count} characters; at most {most} are kept, so say it shorter")]
pub struct ActorError {
    /// Which words.
    pub field: &'static str,
    /// How many characters they have.
    pub count: usize,
    /// How many are allowed.
    pub most: usize,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// What was done, such as `drain`.
    pub action: String,
    /// To which node.
    pub node: String,
    /// By whom, when, from where, why.
    #[serde(flatten)]
    pub order: Order,
    /// What was in force before, ...
    pub before: Value,
    /// ... and after.
    pub after: Value,
}

/// The record of decisions. Clones share it.
#[derive(Clone)]
pub struct AuditLog {
    records: Records,
    own: NodeId,
    /// Tells apart what this agent records in one millisecond.
    number: Arc<AtomicU32>,
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog").finish_non_exhaustive()
    }
}

impl Actor {
    /// Someone who asks from this address; words that are empty count as none.
    ///
    /// # Errors
    /// [`ActorError`].
    pub fn new(
        by: Option<&str>,
        from: Option<IpAddr>,
        why: Option<&str>,
    ) -> Result<Self, ActorError> {
        let by = words("by", by, BY_MAX)?;
        Ok(Self {
            by: by.unwrap_or_else(|| "unknown".to_owned()),
            from,
            why: words("why", why, WHY_MAX)?,
        })
    }
}

fn words(
    field: &'static str,
    text: Option<&str>,
    most: usize,
) -> Result<Option<String>, ActorError> {
    let text = text.map(str::trim).filter(|text| !text.is_empty());
    match text.map(|text| text.chars().count()) {
        Some(count) if count > most => Err(ActorError { field, count, most }),
        _ => Ok(text.map(str::to_owned)),
    }
}

impl AuditLog {
    /// Of the agent on `own`.
    pub fn new(records: Records, own: NodeId) -> Self {
        Self {
            records,
            own,
            number: Arc::default(),
        }
    }

    /// An order of `actor` given to this agent now.
    pub fn order(&self, actor: &Actor) -> Order {
        Order {
            at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            by: actor.by.clone(),
            from: actor
                .from
                .map_or_else(|| "unknown".to_owned(), |from| from.to_string()),
            on: self.own.to_string(),
            why: actor.why.clone(),
        }
    }

    /// Writes the changes of a decision and its entry together: both or neither. Then logs it, and deletes the oldest
    /// entries where there are too many.
    ///
    /// # Errors
    /// [`RecordError`]; nothing was recorded then.
    pub async fn write(&self, changes: Batch, entry: &AuditEntry) -> Result<(), RecordError> {
        let batch = changes.put(System::Audit, &self.key(), entry)?;
        self.records.write(batch).await?;
        let Order { by, from, why, .. } = &entry.order;
        info!(
            action = entry.action,
            node = entry.node,
            by,
            from,
            why,
            "an operator decided"
        );
        if let Err(error) = self.prune(ENTRIES_MAX).await {
            // The entry is safe; the next one tries again.
            warn!(%error, "old audit records could not be deleted");
        }
        Ok(())
    }

    /// The newest entries first, at most `limit`, of one node or of all. Blocks while the disk is read.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn newest(&self, node: Option<&str>, limit: usize) -> Result<Vec<AuditEntry>, RecordError> {
        let entries = self.records.all::<AuditEntry>(System::Audit)?;
        let entries = entries.into_iter().rev().map(|(_, entry)| entry);
        let wanted = entries.filter(|entry| node.is_none_or(|node| entry.node == node));
        Ok(wanted.take(limit).collect())
    }

    fn key(&self) -> String {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        format!("{:015}-{number:08x}-{}", since.as_millis(), self.own)
    }

    async fn prune(&self, most: usize) -> Result<(), RecordError> {
        let records = self.records.clone();
        let reading = tokio::task::spawn_blocking(move || records.all::<Value>(System::Audit));
        // A panic while reading has been reported by itself.
        let Ok(found) = reading.await else {
            return Ok(());
        };
        let keys: Vec<String> = found?.into_iter().map(|(key, _)| key).collect();
        let over = keys.len().saturating_sub(most).min(PRUNED_MAX);
        for key in keys.iter().take(over) {
            // Another node may have deleted it meanwhile.
            self.records.delete(System::Audit, key).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::records::tests::records;

    fn log() -> AuditLog {
        AuditLog::new(records(), "n1".parse().unwrap())
    }

    fn entry(log: &AuditLog, node: &str, number: usize) -> AuditEntry {
        let from = "127.0.0.1".parse().ok();
        let actor = Actor::new(Some(" liang "), from, Some("")).unwrap();
        AuditEntry {
            action: "drain".to_owned(),
            node: node.to_owned(),
            order: log.order(&actor),
            before: json!(number),
            after: json!(number + 1),
        }
    }

    #[tokio::test]
    async fn entries_come_newest_first_and_the_oldest_go() {
        let log = log();
        for number in 0..6 {
            let node = if number % 2 == 0 { "n2" } else { "n3" };
            log.write(Batch::default(), &entry(&log, node, number))
                .await
                .unwrap();
        }
        let numbers = |node, limit| -> Vec<Value> {
            let entries = log.newest(node, limit).unwrap();
            entries.into_iter().map(|entry| entry.before).collect()
        };
        assert_eq!(numbers(None, 4), [5, 4, 3, 2]);
        assert_eq!(numbers(Some("n2"), 4), [4, 2, 0]);
        log.prune(2).await.unwrap();
        assert_eq!(numbers(None, 4), [5, 4]);
        log.prune(2).await.unwrap();
        assert_eq!(numbers(None, 4), [5, 4]);
    }

    #[tokio::test]
    async fn an_entry_that_cannot_be_written_with_its_changes_is_not_written() {
        let log = log();
        let changes = Batch::default()
            .delete(System::Members, "n2/drain")
            .unwrap();
        assert!(log.write(changes, &entry(&log, "n2", 0)).await.is_err());
        assert_eq!(log.newest(None, 1).unwrap(), []);
    }

    #[tokio::test]
    async fn an_entry_says_who_and_from_where_and_leaves_out_what_was_not_said() {
        let log = log();
        let entry = serde_json::to_value(entry(&log, "n2", 0)).unwrap();
        assert_eq!(entry["by"], "liang");
        assert_eq!(entry["from"], "127.0.0.1");
        assert_eq!(entry["on"], "n1");
        assert_eq!(entry.get("why"), None);
        assert!(entry["at"].as_str().unwrap().ends_with('Z'), "{entry}");
    }

    #[test]
    fn words_that_are_too_long_are_refused_with_their_limit() {
        let error = Actor::new(None, None, Some(&"梁".repeat(WHY_MAX + 1))).unwrap_err();
        assert_eq!((error.field, error.most), ("why", WHY_MAX));
        assert!(Actor::new(Some(&"b".repeat(BY_MAX)), None, Some(&"梁".repeat(WHY_MAX))).is_ok());
    }
}
