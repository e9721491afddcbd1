//! `status`: whether all is well, and if not, what is wrong, since when, how that is known and what to do.
//!
//! The exit code tells it to scripts: 1 if something does not work (a finding of severity error), 0 otherwise, be there
//! warnings or not. `etcdctl endpoint health` and `systemctl status` do likewise; a warning that ended a script would
//! soon be silenced, and with it the errors.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use clap::Args;

use crate::config::Printable;
use crate::host::bytes;

use super::CliError;
use super::client::{self, Client, Endpoint, Finding, Target};
use super::flags::{ClientArgs, FormatArgs};
use super::output::{Colour, Output};
use super::sync::span;

/// Flags of `status`.
#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    #[command(flatten)]
    format: FormatArgs,
}

impl Status {
    pub(super) async fn execute(
        self,
        client: &Client,
        output: &mut Output,
    ) -> Result<(), CliError> {
        let answer = client.get(Target::new("/v1/status")).await?;
        if self.format.json {
            output.document(&answer.body)?;
        }
        let status: client::Status = answer.json()?;
        if !self.format.json {
            output.text(&describe(&status, SystemTime::now(), output))?;
        }
        let is_error = |finding: &Finding| finding.severity.as_deref() == Some("error");
        if status.findings.iter().any(is_error) {
            return Err(CliError::Attention);
        }
        Ok(())
    }
}

/// The whole text. What comes from the agent is made fit for a terminal; writing to a string cannot fail.
fn describe(status: &client::Status, now: SystemTime, output: &Output) -> String {
    let mut text = verdict(status, output);
    for finding in &status.findings {
        let _ = write!(text, "\n{}", describe_finding(finding, now, output));
    }
    text.push('\n');
    for (name, sentence) in [
        ("members", Some(members(status))),
        ("app", app(status, now)),
        ("proxy", proxy(status)),
        ("replication", replication(status)),
        ("gossip", gossip(status)),
        ("disk", disk(status)),
        ("agent", agent(status)),
    ] {
        if let Some(sentence) = sentence {
            let sentence = sentence.replace('\n', "\n             ");
            let _ = writeln!(text, "{name:<12} {sentence}");
        }
    }
    text
}

fn verdict(status: &client::Status, output: &Output) -> String {
    let node = shown(status.own_id.as_deref().unwrap_or("this node"));
    let cluster = shown(status.cluster.as_deref().unwrap_or("unknown"));
    let (colour, verdict) = match (status.findings.len(), status.ready) {
        (0, Some(false)) => {
            let state = shown(status.state.as_deref().unwrap_or("unknown"));
            (
                Colour::Doubtful,
                format!("nothing is wrong, but it is not ready yet (state {state})."),
            )
        }
        (0, _) => (Colour::Good, "all is well.".to_owned()),
        (1, _) => (Colour::Bad, "one thing needs attention.".to_owned()),
        (count, _) => (Colour::Bad, format!("{count} things need attention.")),
    };
    format!(
        "{node} in cluster {cluster}: {}\n",
        output.paint(Some(colour), &verdict)
    )
}

fn describe_finding(finding: &Finding, now: SystemTime, output: &Output) -> String {
    let severity = finding.severity.as_deref().unwrap_or("warning");
    let colour = if severity == "error" {
        Colour::Bad
    } else {
        Colour::Doubtful
    };
    let fact = shown(finding.fact.as_deref().unwrap_or("something is wrong"));
    let since = finding
        .since
        .as_ref()
        .map(|since| format!(" (for {})", shown(&since.age(now))));
    let severity = output.paint(Some(colour), &shown(severity));
    let mut text = format!("{severity}: {fact}{}\n", since.unwrap_or_default());
    if let Some(cause) = &finding.cause {
        let _ = writeln!(text, "  cause     {}", shown(cause));
    }
    for line in finding.evidence.iter().flat_map(|lines| lines.iter()) {
        let _ = writeln!(text, "  evidence  {}", shown(line));
    }
    for line in finding.next.iter().flat_map(|lines| lines.iter()) {
        let _ = writeln!(text, "  next      {}", shown(line));
    }
    text
}

fn members(status: &client::Status) -> String {
    let count = |value: &serde_json::Value| value.as_u64().filter(|count| *count > 0);
    let states = status.members.iter().filter(|(state, _)| *state != "total");
    let states: Vec<_> = states
        .filter_map(|(state, value)| Some(format!("{} {}", count(value)?, shown(state))))
        .collect();
    let total = status
        .members
        .get("total")
        .and_then(serde_json::Value::as_u64);
    match (total, states.is_empty()) {
        (Some(total), false) => format!("{total}: {}", states.join(", ")),
        (Some(total), true) => total.to_string(),
        (None, false) => states.join(", "),
        (None, true) => "unknown".to_owned(),
    }
}

fn app(status: &client::Status, now: SystemTime) -> Option<String> {
    let app = status.app.as_ref()?;
    let url = shown(app.url.as_deref().unwrap_or("the server"));
    let health = match app.healthy {
        Some(true) => "is healthy",
        Some(false) => "is not healthy",
        None => "has not been probed yet",
    };
    let since = app
        .since
        .as_ref()
        .map(|since| format!(", for {}", shown(&since.age(now))));
    let reason = app.reason.as_ref().filter(|reason| !reason.is_empty());
    let reason = reason.map(|reason| format!(": {}", shown(reason)));
    Some(format!(
        "{url} {health}{}{}",
        since.unwrap_or_default(),
        reason.unwrap_or_default()
    ))
}

fn proxy(status: &client::Status) -> Option<String> {
    let proxy = status.proxy.as_ref()?;
    let number = |number: Option<u64>| number.map_or("?".to_owned(), |number| number.to_string());
    let mut text = format!(
        "{}, {} requests, {} failed, {} retried",
        shown(proxy.listen.as_deref().unwrap_or("-")),
        number(proxy.requests),
        number(proxy.failed),
        number(proxy.retried),
    );
    for endpoint in &proxy.endpoints {
        let _ = write!(text, "\n{}", describe_endpoint(endpoint));
    }
    Some(text)
}

fn describe_endpoint(endpoint: &Endpoint) -> String {
    let number = |number: Option<u64>| number.map_or("?".to_owned(), |number| number.to_string());
    let ejected = if endpoint.ejected == Some(true) {
        ", ejected"
    } else {
        ""
    };
    format!(
        "{} at {}: {}{ejected}, {} requests, {} failures, {} in flight",
        shown(endpoint.id.as_deref().unwrap_or("-")),
        shown(endpoint.target.as_deref().unwrap_or("-")),
        shown(endpoint.admission.as_deref().unwrap_or("unknown")),
        number(endpoint.requests),
        number(endpoint.failures),
        number(endpoint.in_flight),
    )
}

fn replication(status: &client::Status) -> Option<String> {
    let sync = status.sync.as_ref()?;
    let mut text = match sync.caught_up {
        Some(true) => "caught up".to_owned(),
        Some(false) => "catching up".to_owned(),
        None => "unknown".to_owned(),
    };
    let count = |count: Option<u64>| count.filter(|count| *count > 0);
    for peer in &sync.peers {
        let connected = if peer.connected == Some(true) {
            "connected"
        } else {
            "not connected"
        };
        let behind = count(peer.behind).map(|n| {
            let since = peer
                .behind_ms
                .map(|ms| format!(" (known for {})", span(ms)));
            let since = since.unwrap_or_default();
            format!(", {n} of its changes are not here yet{since}")
        });
        let ahead = count(peer.unacknowledged).map(|n| {
            let age = peer.unacknowledged_ms;
            let age = age.map(|ms| format!(" (the oldest {} old)", span(ms)));
            let age = age.unwrap_or_default();
            format!(", {n} changes of this node are not there yet{age}")
        });
        let error = peer.last_error.as_ref();
        let error = error.map(|error| format!(", last error: {}", shown(error)));
        let _ = write!(
            text,
            "\n{}: {connected}{}{}{}",
            shown(peer.id.as_deref().unwrap_or("-")),
            behind.unwrap_or_default(),
            ahead.unwrap_or_default(),
            error.unwrap_or_default()
        );
    }
    Some(text)
}

/// The numbers that show how well the others are heard, and this node by them.
fn gossip(status: &client::Status) -> Option<String> {
    let gossip = status.gossip.as_ref()?;
    let mut facts = Vec::new();
    if let Some(age) = gossip.heartbeat_age_max_ms {
        let phi = gossip.phi_max.zip(gossip.phi_limit);
        let phi = phi.map(|(phi, limit)| format!(" (phi at most {phi:.1}, limit {limit})"));
        let phi = phi.unwrap_or_default();
        facts.push(format!("every live member was heard within {age} ms{phi}"));
    }
    if let Some(age) = gossip.last_inbound_ms {
        let at = gossip.advertised.as_ref();
        let at = at.map(|at| format!(" at {}", shown(at)));
        let at = at.unwrap_or_default();
        facts.push(format!("others reached this node{at} {age} ms ago"));
    }
    if let Some(offset) = gossip.clock_offset_max_ms {
        let offset = offset.unsigned_abs();
        facts.push(format!("clocks are within {offset} ms"));
    }
    if let Some(delay) = gossip.tick_delay_max_ms {
        facts.push(format!("its own ticks came at most {delay} ms late"));
    }
    (!facts.is_empty()).then(|| facts.join("\n"))
}

fn disk(status: &client::Status) -> Option<String> {
    let disk = status.disk.as_ref()?;
    let (free, total) = disk.free_bytes.zip(disk.total_bytes)?;
    Some(format!("{} of {} are free", bytes(free), bytes(total)))
}

fn agent(status: &client::Status) -> Option<String> {
    let version = shown(status.version.as_deref()?);
    let uptime = status
        .uptime_seconds
        .and_then(|s| Duration::try_from_secs_f64(s).ok());
    let uptime = uptime.map(|uptime| format!(", up for {}", client::age(uptime)));
    Some(format!("version {version}{}", uptime.unwrap_or_default()))
}

fn shown(text: &str) -> String {
    Printable::plain(text).to_string()
}
