//! The order of things at one write, as the kernel saw it: the request came, the journal
//! was written and synced, and only then the answer went out.
//!
//! In: a trace by strace of an agent that takes writes one at a time. Out: for each write
//! its calls in order, or what is wrong with them ([`in_order`]). The other tests here kill
//! agents; `kill -9` keeps what the kernel has, so none of them would notice a sync that is
//! left out.

use std::fs;
use std::path::Path;
use std::process::Command;

use basic_tests::harness::process::around;
use serde_json::json;

use crate::world::{World, sync_faults};

const WRITES: usize = 50;
/// Where they go; the name is looked for in the bytes that are traced.
const COLLECTION: &str = "traced";
/// Bytes of a buffer that are shown: the key stands within.
const SHOWN: &str = "2048";

#[tokio::test]
async fn every_answer_to_a_write_goes_out_after_the_journal_was_synced() {
    if !sync_faults() {
        return;
    }
    let mut world = World::new("traced", 1);
    let file = world.layout(1).directory().join("trace");
    world.start_by(1, |command| traced(&command, &file));
    world.wait_answering(1).await;
    for number in 0..WRITES {
        let url = format!("{}/v1/data/{COLLECTION}/{number:09}", world.api(1));
        let document = json!({ "number": number });
        let answer = world.client.put_json(&url, &document).await.unwrap();
        assert!(answer.status.is_success(), "{}", answer.text());
    }
    world.stop(1).await;
    let trace = fs::read_to_string(&file).unwrap();
    let events = events(&trace);
    for number in 0..WRITES {
        let calls = in_order(&events, number).unwrap_or_else(|wrong| panic!("{wrong}"));
        if number == WRITES / 2 {
            eprintln!("one write of {WRITES}, from its request to its answer:\n{calls}");
        }
    }
}

/// The command, with its calls that matter written to a file.
fn traced(command: &Command, file: &Path) -> Command {
    let mut strace = Command::new("strace");
    strace.args([
        "-D",
        "-f",
        "-qq",
        "-ttt",
        "-y",
        "-s",
        SHOWN,
        "--seccomp-bpf",
    ]);
    strace.args([
        "-e",
        "trace=recvfrom,sendto,writev,pwrite64,fdatasync,fsync",
    ]);
    strace.arg("-o").arg(file).arg("--");
    around(strace, command)
}

/// A call of a thread as it begins, or as it ends.
struct Event<'t> {
    thread: &'t str,
    name: &'t str,
    /// What is told at this moment: arguments, or the rest of them and the result.
    text: &'t str,
    begins: bool,
    ends: bool,
    line: &'t str,
}

/// The lines of a trace: `THREAD TIME call(arguments) = result`, or in two halves,
/// `call(arguments <unfinished ...>` and `<... call resumed>) = result`.
fn events(trace: &str) -> Vec<Event<'_>> {
    trace.lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<Event<'_>> {
    let (thread, rest) = line.split_once(' ')?;
    let (_, rest) = rest.trim_start().split_once(' ')?;
    let resumed = rest.strip_prefix("<... ");
    let (name, text) = match resumed {
        Some(rest) => rest.split_once(" resumed>")?,
        None => rest.split_once('(')?,
    };
    Some(Event {
        thread,
        name,
        text,
        begins: resumed.is_none(),
        ends: !text.ends_with("<unfinished ...>"),
        line,
    })
}

impl Event<'_> {
    fn is_on_journal(&self) -> bool {
        self.text.contains("/journal-")
    }

    fn is_done(&self) -> bool {
        self.ends && self.text.ends_with(" = 0")
    }
}

/// The calls of one write, request to answer, if they are in the order that they must be.
fn in_order(events: &[Event<'_>], number: usize) -> Result<String, String> {
    let missing = |what: &str| format!("write {number}: no {what} before its answer");
    let request = format!("PUT /v1/data/{COLLECTION}/{number:09} ");
    let asked = events
        .iter()
        .position(|event| event.name == "recvfrom" && event.text.contains(&request))
        .ok_or_else(|| missing("request"))?;
    let after = &events[asked..];
    let answered = after
        .iter()
        .position(|event| {
            let sends = matches!(event.name, "sendto" | "writev");
            sends && event.begins && event.text.contains("HTTP/1.1 2")
        })
        .ok_or_else(|| format!("write {number} was not answered"))?;
    let between = &after[..answered];
    // A NUL ends the collection's name, and is shown in three digits before a digit.
    let key = format!("{COLLECTION}\\000{number:09}");
    let written = between
        .iter()
        .position(|event| {
            event.name == "pwrite64" && event.is_on_journal() && event.text.contains(&key)
        })
        .ok_or_else(|| missing("record in the journal"))?;
    let thread = between[written].thread;
    let mut syncs = between[written..]
        .iter()
        .filter(|event| event.thread == thread && matches!(event.name, "fdatasync" | "fsync"));
    let begun = syncs
        .next()
        .filter(|event| event.begins && event.is_on_journal())
        .ok_or_else(|| missing("sync of the journal"))?;
    let ended = if begun.ends {
        Some(begun)
    } else {
        syncs.next()
    };
    let ended = ended.filter(|event| event.is_done());
    ended.ok_or_else(|| missing("sync that was done"))?;
    Ok(excerpt(&after[..=answered]))
}

fn excerpt(events: &[Event<'_>]) -> String {
    const WIDTH: usize = 150;
    let lines = events.iter().map(|event| {
        let line: String = event.line.chars().take(WIDTH).collect();
        let cut = line.len() < event.line.len();
        let end = event
            .line
            .rsplit_once(" = ")
            .map_or("", |(_, result)| result);
        match cut {
            true => format!("  {line}… = {end}\n"),
            false => format!("  {line}\n"),
        }
    });
    lines.collect()
}

#[test]
fn a_trace_without_the_sync_in_its_place_is_noticed() {
    let request = r#"7 1.0 recvfrom(9<socket:[1]>, "PUT /v1/data/traced/000000003 HTTP/1.1\r\n", 8192, 0, NULL, NULL) = 99"#;
    let record = r#"8 1.1 pwrite64(5</d/journal-01.log>, "x traced\000000000003", 64, 80) = 64"#;
    let begun = "8 1.2 fdatasync(5</d/journal-01.log> <unfinished ...>";
    let other = "9 1.2 fdatasync(6</d/store.redb>) = 0";
    let ended = "8 1.3 <... fdatasync resumed>) = 0";
    let failed = "8 1.3 <... fdatasync resumed>) = -1 EIO (Input/output error)";
    let whole = "8 1.2 fdatasync(5</d/journal-01.log>) = 0";
    let answer =
        r#"7 1.4 writev(9<socket:[1]>, [{iov_base="HTTP/1.1 200 OK\r\n", iov_len=17}], 1) = 17"#;
    let check = |lines: &[&str]| {
        let trace = lines.join("\n");
        in_order(&events(&trace), 3)
    };
    assert!(check(&[request, record, whole, answer]).is_ok());
    assert!(check(&[request, record, begun, other, ended, answer]).is_ok());
    for (lines, lacks) in [
        (&[request, record, answer][..], "sync of the journal"),
        (&[request, record, answer, whole], "sync of the journal"),
        (&[request, record, other, answer], "sync of the journal"),
        (&[request, whole, record, answer], "sync of the journal"),
        (
            &[request, record, begun, answer, ended],
            "sync that was done",
        ),
        (
            &[request, record, begun, failed, answer],
            "sync that was done",
        ),
        (&[record, whole, request, answer], "record in the journal"),
        (&[request, record, whole], "was not answered"),
    ] {
        let wrong = check(lines).unwrap_err();
        assert!(wrong.contains(lacks), "{wrong}: {lines:?}");
    }
}
