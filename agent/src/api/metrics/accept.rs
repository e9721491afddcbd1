//! Which of the two text formats a client wants.
//!
//! Prometheus asks for OpenMetrics first and takes the older format too. The older one is what
//! everything else understands, `promtool check metrics` among it, so it is for whoever does not
//! ask.

use axum::http::{HeaderMap, header};
use prometheus_client::encoding::prometheus_text;

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// The text format of Prometheus, 0.0.4.
    Prometheus,
}

impl Format {
    /// By the `Accept` headers of a request: OpenMetrics where it is named, and liked no less than plain text.
    pub(super) fn wanted(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(header::ACCEPT).iter();
        let accepted = accepted.filter_map(|value| value.to_str().ok());
        let ranges: Vec<Range<'_>> = accepted
            .flat_map(|value| value.split(','))
            .map(Range::of)
            .collect();
        let liking = |essence: &str| {
            let named = ranges.iter().filter(|range| range.is(essence));
            named.map(|range| range.quality).fold(0.0, f64::max)
        };
        let open = liking("application/openmetrics-text");
        match open > 0.0 && open >= liking("text/plain") {
            true => Format::OpenMetrics,
            false => Format::Prometheus,
        }
    }

    /// What the answer says that it is.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => prometheus_text::CONTENT_TYPE,
        }
    }
}

/// One of what a client takes.
struct Range<'a> {
    essence: &'a str,
    /// From 0, not at all, to 1.
    quality: f64,
    version: Option<&'a str>,
}

impl<'a> Range<'a> {
    fn of(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let mut range = Self {
            essence: parts.next().unwrap_or_default(),
            quality: 1.0,
            version: None,
        };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => range.quality = value.trim().parse().unwrap_or(0.0),
                "version" => range.version = Some(value.trim().trim_matches('"')),
                _ => {}
            }
        }
        range
    }

    /// Whether it is this type, in a version that there is.
    fn is(&self, essence: &str) -> bool {
        self.essence.eq_ignore_ascii_case(essence)
            && matches!(self.version, None | Some("0.0.1" | "0.0.4" | "1.0.0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(accept: &[&str]) -> Format {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(header::ACCEPT, value.parse().unwrap());
        }
        Format::wanted(&headers)
    }

    #[test]
    fn who_asks_for_open_metrics_gets_it_and_everybody_else_what_everybody_reads() {
        for accept in [
            // Prometheus 2 and 3.
            &[
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            ][..],
            &[
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            ],
            &["Application/OpenMetrics-Text; Version=\"1.0.0\""],
            &["text/plain;q=0.5", "application/openmetrics-text"],
        ] {
            assert_eq!(wanted(accept), Format::OpenMetrics, "{accept:?}");
        }
        for accept in [
            &[][..],
            &["*/*"],
            &["text/plain"],
            &["text/plain;version=0.0.4, application/openmetrics-text;q=0.5"],
            &["application/openmetrics-text;q=0"],
            &["application/openmetrics-text;version=2.0.0, text/plain;q=0.1"],
            &["application/openmetrics-text;q=much"],
            &["application/vnd.google.protobuf;q=0.9;,;=;"],
        ] {
            assert_eq!(wanted(accept), Format::Prometheus, "{accept:?}");
        }
    }
}
