//! What a run that died has left: its processes, hosts, names, bridge and filter.
//!
//! A name tells the process that made it ([`PREFIX`]); what belongs to a process
//! that is gone is removed, and nothing else is touched.

use std::collections::BTreeSet;
use std::fs;

use rustix::process::Signal;

use super::PREFIX;
use super::command::{CommandError, ip, nft, nft_json};
use super::{NetworkError, names};
use crate::harness::process::ProcessId;

/// Removes everything whose maker is gone.
///
/// # Errors
/// When it cannot be listed, or a part of it not removed.
pub(super) fn remove() -> Result<(), NetworkError> {
    for namespace in orphans(namespaces()?) {
        // In a namespace of ours run only processes of ours.
        for pid in ip(&["netns", "pids", &namespace])?.split_ascii_whitespace() {
            if let Some(process) = pid.parse().ok().and_then(ProcessId::of) {
                // It may just have ended.
                let _ = process.signal(Signal::KILL);
            }
        }
        ip(&["netns", "delete", &namespace])?;
    }
    for link in orphans(links()) {
        // It may go by itself, with the namespace that its other end was in.
        if let Err(error) = ip(&["link", "delete", &link])
            && links().contains(&link)
        {
            return Err(error.into());
        }
    }
    for table in orphans(tables()?) {
        nft(&format!("delete table bridge {table}\n"))?;
    }
    for namespace in orphans(names::namespaces()) {
        names::remove(&namespace).map_err(NetworkError::Names)?;
    }
    Ok(())
}

/// Those of these names whose maker is gone.
fn orphans(names: BTreeSet<String>) -> impl Iterator<Item = String> {
    names.into_iter().filter(|name| {
        maker(name).is_some_and(|pid| !ProcessId::of(pid).is_some_and(ProcessId::is_alive))
    })
}

/// The process that made what has this name, if it is one of ours.
fn maker(name: &str) -> Option<u32> {
    let rest = name.strip_prefix(PREFIX)?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (pid, suffix) = rest.split_at(end);
    let is_ours = suffix.is_empty() || suffix.starts_with(['b', 'n', 'v']);
    pid.parse().ok().filter(|_| is_ours)
}

fn namespaces() -> Result<BTreeSet<String>, CommandError> {
    let listed = ip(&["netns", "list"])?;
    let names = listed
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().next());
    Ok(names.map(str::to_owned).collect())
}

fn links() -> BTreeSet<String> {
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten();
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

fn tables() -> Result<BTreeSet<String>, CommandError> {
    let listed = nft_json(&["list", "tables", "bridge"])?;
    let items = listed["nftables"].as_array().cloned().unwrap_or_default();
    Ok(items
        .iter()
        .filter_map(|item| item["table"]["name"].as_str())
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_maker_and_names_of_others_tell_nobody() {
        for name in ["chaos4711", "chaos4711b", "chaos4711n2", "chaos4711v2"] {
            assert_eq!(maker(name), Some(4711), "{name}");
        }
        for name in ["chaos", "chaosb", "chaos4711x", "eth0", "my-chaos4711b"] {
            assert_eq!(maker(name), None, "{name}");
        }
    }

    #[test]
    fn what_a_living_process_made_is_no_orphan() {
        let own = format!("{PREFIX}{}b", std::process::id());
        // No pid is as large as this one.
        let gone = format!("{PREFIX}{}b", u32::MAX);
        let names = BTreeSet::from([own, gone.clone(), "eth0".to_owned()]);
        assert_eq!(orphans(names).collect::<Vec<_>>(), [gone]);
    }
}
