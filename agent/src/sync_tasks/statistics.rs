//! What has become of the tasks since the agent started, under the author's names.

use std::collections::BTreeMap;

use serde::Serialize;

/// Targets that are counted by name; further ones are counted together as [`OTHERS`].
const TARGETS_MAX: usize = 256;
/// The name for them, which no node can have.
const OTHERS: &str = "(others)";

/// Counts since the start of the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Tasks accepted, or found at the start.
    pub total_sync_tasks: u64,
    /// Those that all targets have confirmed.
    pub completed_sync_tasks: u64,
    /// Those that have failed.
    pub failed_sync_tasks: u64,
    /// Retries of any of them.
    pub retry_sync_tasks: u64,
    /// By target.
    pub sync_targets: BTreeMap<String, TargetCounts>,
}

/// Counts of one target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TargetCounts {
    /// Tasks that it has confirmed.
    pub success: u64,
    /// Tasks that failed without its confirmation.
    pub failed: u64,
}

impl Statistics {
    /// The counts of a target.
    pub(super) fn target(&mut self, name: &str) -> &mut TargetCounts {
        let targets = &mut self.sync_targets;
        let known = targets.contains_key(name) || targets.len() < TARGETS_MAX;
        let name = if known { name } else { OTHERS };
        targets.entry(name.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn they_bear_the_authors_names() {
        let mut statistics = Statistics {
            total_sync_tasks: 1,
            ..Statistics::default()
        };
        statistics.target("n2").success += 1;
        assert_eq!(
            json!(statistics),
            json!({
                "total_sync_tasks": 1, "completed_sync_tasks": 0, "failed_sync_tasks": 0, "retry_sync_tasks": 0,
                "sync_targets": {"n2": {"success": 1, "failed": 0}},
            })
        );
    }

    #[test]
    fn the_names_of_targets_are_bounded() {
        let mut statistics = Statistics::default();
        for number in 0..TARGETS_MAX + 5 {
            statistics.target(&format!("n{number}")).failed += 1;
        }
        assert_eq!(statistics.sync_targets.len(), TARGETS_MAX + 1);
        assert_eq!(statistics.sync_targets[OTHERS].failed, 5);
        statistics.target("n0").failed += 1;
        assert_eq!(statistics.sync_targets["n0"].failed, 2);
    }
}
