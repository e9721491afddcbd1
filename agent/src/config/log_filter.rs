//! What is logged: a level, or directives for parts of the program.

use tracing_subscriber::EnvFilter;

use super::suggestion::{self, Hint};
use super::value::{Setting, ValueError};

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Directives in the language of [`EnvFilter`], known to be valid: `info`, or `info,basic_sync=debug`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogFilter(String);

impl LogFilter {
    /// The directives.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Setting for LogFilter {
    const EXPECTED: &'static str = "a level (off, error, warn, info, debug, trace) or directives such as \"info,basic_sync=debug\"";

    fn from_text(text: &str) -> Result<Self, ValueError> {
        let directives: Vec<_> = text.split(',').map(str::trim).collect();
        // EnvFilter takes a lone word that is no level for the name of a module and logs all of it, so that "inof"
        // would quietly mean something else. Asking for `=` costs nothing: `module=trace` says the same.
        let stray = directives.iter().find(|word| {
            !word.contains(['=', '[']) && !LEVELS.contains(&&*word.to_ascii_lowercase())
        });
        if let Some(word) = stray {
            return Err(ValueError::NotAChoice {
                value: (*word).to_owned(),
                expected: Self::EXPECTED,
                hint: Hint::nearest_only(suggestion::nearest(word, LEVELS)),
            });
        }
        match EnvFilter::builder().parse(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(ValueError::malformed::<Self>(text)),
        }
    }

    fn to_text(&self) -> String {
        self.0.clone()
    }
}
