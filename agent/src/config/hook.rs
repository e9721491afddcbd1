//! What the hooks of events are told by: a command, a URL, the kinds of events, and on which nodes.

use std::fmt;
use std::str::FromStr;

use http::uri::{Scheme, Uri};
use toml_edit::{Array, Value};

use crate::events::Kind;

use super::address::HostPort;
use super::schema::FlagShape;
use super::suggestion::{self, Hint};
use super::value::{Choice, Setting, ValueError};

/// Most words of a command.
const WORDS_MAX: usize = 64;

/// A program and its arguments, run as they are, without a shell; empty if there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommandLine(Vec<String>);

/// An `http` or `https` URL with path and query. It may hold a token, so its `Debug` shows host and port alone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WebhookUrl {
    https: bool,
    host_port: HostPort,
    authority: String,
    path_and_query: String,
}

/// The kinds of events that hooks are told of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventKinds(Vec<Kind>);

/// Which agents tell the hooks of an event that all of them see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub enum HooksOn {
    /// One of them, and another one if it fails.
    OneNode,
    /// Each of them.
    EveryNode,
}

impl CommandLine {
    /// A command of these words.
    #[cfg(test)]
    pub(crate) fn new(words: Vec<String>) -> Self {
        Self(words)
    }

    /// The program, and its arguments after it; empty if there is none.
    pub fn words(&self) -> &[String] {
        &self.0
    }
}

impl WebhookUrl {
    /// Whether it is `https`.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// Where to connect to; the port of a URL without one is 80 or 443.
    pub fn host_port(&self) -> &HostPort {
        &self.host_port
    }

    /// Host and port as they were written, for the `Host` header.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// What is asked for; it begins with `/`.
    pub fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let https = match uri.scheme()? {
            scheme if *scheme == Scheme::HTTPS => true,
            scheme if *scheme == Scheme::HTTP => false,
            _ => return None,
        };
        let authority = uri.authority()?.as_str();
        // A user name would not be sent, and what is after `#` never is.
        if authority.contains('@') || text.contains('#') {
            return None;
        }
        let port = authority.strip_prefix(uri.authority()?.host())?;
        let default = if https { ":443" } else { ":80" };
        let port = if matches!(port, "" | ":") {
            default
        } else {
            port
        };
        let host = uri.authority()?.host();
        let host_port = HostPort::from_text(&format!("{host}{port}")).ok()?;
        let path_and_query = uri.path_and_query().map_or("/", |target| target.as_str());
        let slash = if path_and_query.starts_with('/') {
            ""
        } else {
            "/"
        };
        Some(Self {
            https,
            host_port,
            authority: authority.to_owned(),
            path_and_query: format!("{slash}{path_and_query}"),
        })
    }
}

impl FromStr for WebhookUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        <Self as Setting>::from_text(text)
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({}, …)", self.host_port)
    }
}

impl EventKinds {
    /// The kinds.
    pub fn kinds(&self) -> &[Kind] {
        &self.0
    }
}

impl Choice for HooksOn {
    const EXPECTED: &'static str = "\"one-node\" or \"every-node\"";
    const CHOICES: &'static [(&'static str, Self)] =
        &[("one-node", Self::OneNode), ("every-node", Self::EveryNode)];
}

impl Setting for CommandLine {
    const EXPECTED: &'static str = "an array of a program and its arguments such as [\"/usr/local/bin/notify\", \"--cluster\"]";
    const FLAG_SHAPE: FlagShape = FlagShape::Many;

    /// Reads `/usr/local/bin/notify,--cluster`; a word with a comma needs a file.
    fn from_text(text: &str) -> Result<Self, ValueError> {
        words(texts(text))
    }

    fn to_text(&self) -> String {
        self.0.join(",")
    }

    fn from_toml(value: &Value) -> Result<Self, ValueError> {
        words(strings::<Self>(value)?)
    }

    fn to_toml(&self) -> Value {
        Value::from(self.0.iter().map(String::as_str).collect::<Array>())
    }
}

impl Setting for WebhookUrl {
    const EXPECTED: &'static str =
        "an http or https URL without a user name, such as \"http://127.0.0.1:9000/events\"";

    fn from_text(text: &str) -> Result<Self, ValueError> {
        Self::parse(text).ok_or_else(|| ValueError::malformed::<Self>(text))
    }

    fn to_text(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority, self.path_and_query)
    }
}

impl Setting for EventKinds {
    const EXPECTED: &'static str = "an array of kinds of events such as [\"failed\", \"returned\"]";
    const FLAG_SHAPE: FlagShape = FlagShape::Many;

    fn from_text(text: &str) -> Result<Self, ValueError> {
        kinds(texts(text))
    }

    fn to_text(&self) -> String {
        let names: Vec<_> = self.0.iter().map(|kind| kind.as_str()).collect();
        names.join(",")
    }

    fn from_toml(value: &Value) -> Result<Self, ValueError> {
        kinds(strings::<Self>(value)?)
    }

    fn to_toml(&self) -> Value {
        Value::from(self.0.iter().map(|kind| kind.as_str()).collect::<Array>())
    }
}

fn texts(text: &str) -> Vec<&str> {
    let texts = text.split(',').map(str::trim);
    texts.filter(|item| !item.is_empty()).collect()
}

fn strings<T: Setting>(value: &Value) -> Result<Vec<&str>, ValueError> {
    let array = value
        .as_array()
        .ok_or_else(|| ValueError::wrong_type::<T>(value))?;
    let item = |item| Value::as_str(item).ok_or_else(|| ValueError::wrong_type::<T>(item));
    array.iter().map(item).collect()
}

fn words(words: Vec<&str>) -> Result<CommandLine, ValueError> {
    if words.len() > WORDS_MAX {
        return Err(ValueError::TooMany {
            count: words.len(),
            max: WORDS_MAX,
        });
    }
    // A NUL ends a word unseen; a program without a name is a mistake.
    let bad = words
        .iter()
        .enumerate()
        .find(|(place, word)| word.contains('\0') || (*place == 0 && word.trim().is_empty()));
    match bad {
        Some((_, word)) => Err(ValueError::malformed::<CommandLine>(word)),
        None => Ok(CommandLine(words.into_iter().map(str::to_owned).collect())),
    }
}

fn kinds(names: Vec<&str>) -> Result<EventKinds, ValueError> {
    let mut kinds = Vec::new();
    for name in names {
        let kind = Kind::named(name).ok_or_else(|| ValueError::NotAChoice {
            value: name.to_owned(),
            expected: "a kind of event",
            hint: Hint::nearest_only(suggestion::nearest(name, Kind::NAMES.iter().map(|k| k.0))),
        })?;
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    Ok(EventKinds(kinds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_has_the_port_of_its_scheme_and_keeps_path_and_query() {
        for (text, place, target) in [
            ("http://hooks.example.org", "hooks.example.org:80", "/"),
            (
                "https://hooks.example.org/a?b=c",
                "hooks.example.org:443",
                "/a?b=c",
            ),
            ("http://[::1]:9000/x", "[::1]:9000", "/x"),
        ] {
            let url = WebhookUrl::from_text(text).unwrap();
            assert_eq!(url.host_port().to_string(), place);
            assert_eq!(url.path_and_query(), target);
            assert_eq!(WebhookUrl::from_text(&url.to_text()), Ok(url));
        }
        for bad in [
            "",
            "hooks.example.org",
            "ftp://a/",
            "http://user@a/",
            "http://a:0/",
            "http:///x",
            "http://a/#b",
        ] {
            assert!(WebhookUrl::from_text(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn the_debug_form_of_a_webhook_keeps_its_token() {
        let url = WebhookUrl::from_text("https://a.example/send?token=secret").unwrap();
        assert_eq!(format!("{url:?}"), "WebhookUrl(a.example:443, …)");
    }

    #[test]
    fn a_misspelt_kind_of_event_is_refused_with_the_nearest() {
        let error = EventKinds::from_text("left,faild").unwrap_err().to_string();
        assert!(
            error.contains("faild") && error.contains("failed"),
            "{error}"
        );
    }

    #[test]
    fn a_command_keeps_its_words_as_they_are() {
        let toml: Value = r#"["/bin/x y", "", "a,b", " $(c)"]"#.parse().unwrap();
        let command = CommandLine::from_toml(&toml).unwrap();
        assert_eq!(command.words(), ["/bin/x y", "", "a,b", " $(c)"]);
        assert_eq!(CommandLine::from_text("").unwrap().words(), [""; 0]);
        let nameless: Value = r#"["", "x"]"#.parse().unwrap();
        assert!(CommandLine::from_toml(&nameless).is_err());
    }
}
