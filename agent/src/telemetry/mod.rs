//! Telemetry: where the agent's own log lines go, and how they look.
//!
//! Owns the process-wide subscriber of `tracing`. In goes [`LogConfig`]; out come lines on standard error, one per
//! event, for a service manager to keep: text for people, coloured only on a terminal (and not where `NO_COLOR` is
//! set), or one JSON object a line. Times are RFC 3339 in UTC. It can fail only if a subscriber is installed already.
//!
//! What may be logged: changes of state, once, where they are decided, with fields rather than prose. Never a secret
//! and never a document or a body of a request: types that hold a secret have a `Debug` without it, and nobody writes
//! `expose()` into an event. One event costs 13,000 to 22,000 instructions, so the path of a request has none.

use std::env;
use std::io::{self, IsTerminal as _};

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{LogConfig, LogFormat};

/// Why log lines cannot be written as configured.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The process has a subscriber, and can have only one.
    #[error("logging is set up already")]
    AlreadySetUp(#[source] tracing::subscriber::SetGlobalDefaultError),
}

/// Sends the log lines of the whole process to standard error.
///
/// # Errors
/// If the process has a subscriber already; that one stays.
pub fn init(config: &LogConfig) -> Result<(), TelemetryError> {
    let colour = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    tracing::subscriber::set_global_default(subscriber(config, colour, io::stderr))
        .map_err(TelemetryError::AlreadySetUp)
}

/// A subscriber that writes lines to `writer` as configured.
fn subscriber<W>(config: &LogConfig, colour: bool, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // The directives were parsed when the configuration was read, so none is lost here.
    let filter = EnvFilter::builder().parse_lossy(config.level.as_str());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    match config.format {
        LogFormat::Text => Box::new(lines.with_ansi(colour).finish()),
        LogFormat::Json => Box::new(lines.json().flatten_event(true).finish()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use crate::config::{Config, FlagValue, PeerSecret, Sources};

    use super::*;

    /// What `log` writes under the given flags of the configuration.
    fn lines(flags: &[(&str, &str)], log: impl FnOnce()) -> String {
        let flags = flags.iter().map(|(flag, value)| FlagValue {
            flag: (*flag).to_owned(),
            value: (*value).to_owned(),
        });
        let sources = Sources {
            flags: flags.collect(),
            ..Sources::default()
        };
        let config = Config::load(&sources).unwrap().config.log;
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&written);
        let subscriber = subscriber(&config, false, move || Shared(Arc::clone(&writer)));
        tracing::subscriber::with_default(subscriber, log);
        let bytes = written.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_json_line_is_an_object_with_the_fields_and_a_time_in_utc() {
        let text = lines(&[("--log-format", "json")], || {
            tracing::info!(node = "n1", "joined");
        });
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(line["message"], "joined");
        assert_eq!(line["node"], "n1");
        assert_eq!(line["level"], "INFO");
        let time = line["timestamp"].as_str().unwrap();
        assert!(
            time.ends_with('Z') && humantime::parse_rfc3339(time).is_ok(),
            "{time}"
        );
    }

    #[test]
    fn a_text_line_outside_a_terminal_has_no_escape_sequences() {
        let text = lines(&[], || tracing::warn!("slow"));
        assert!(text.contains("WARN") && text.contains("slow"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn what_is_below_the_level_is_not_written() {
        let log = || {
            tracing::debug!(target: "basic_sync", "wanted");
            tracing::debug!(target: "basic_balancer", "unwanted");
        };
        let text = lines(&[("--log-level", "info,basic_sync=debug")], log);
        assert!(
            text.contains("wanted") && !text.contains("unwanted"),
            "{text}"
        );
    }

    #[test]
    fn a_secret_in_an_event_is_not_shown() {
        let variables = [(
            "BASIC_AGENT_PEER_SECRET".into(),
            "0123456789abcdef0123456789abcdef".into(),
        )];
        let sources = Sources {
            environment: variables.into_iter().collect(),
            ..Sources::default()
        };
        let loaded = Config::load(&sources).unwrap();
        let secret: PeerSecret = loaded.peer_secret.read().unwrap().unwrap();
        let text = lines(&[], || {
            tracing::info!(?secret, ?loaded, ?sources, "started");
        });
        assert!(text.contains("PeerSecret(redacted)"), "{text}");
        assert!(!text.contains("0123456789abcdef"), "{text}");
    }
}
