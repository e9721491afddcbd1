//! What families are written on, one call for each.
//!
//! The library writes names, escaping and types. What it leaves to its callers is here: a family
//! without a series is left out with its description, and a unit that a name ends in is declared.

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder,
    NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// No label.
const NONE: [(&str, &str); 0] = [];

/// The sheet.
///
/// Names are as they come out but for the prefix, `_total` of counters and `_info`. A help text is one
/// line of plain text.
pub(super) struct Sheet<'a>(DescriptorEncoder<'a>);

/// What took how long, in all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    /// In seconds.
    pub(super) sum: f64,
    pub(super) count: u64,
}

impl<'a> Sheet<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// A number that goes up and down.
    pub(super) fn gauge(
        &mut self,
        name: &str,
        help: &str,
        value: impl EncodeGaugeValue,
    ) -> fmt::Result {
        self.gauges(name, help, [(NONE, value)])
    }

    /// The same, which may be unknown.
    pub(super) fn gauge_if_known(
        &mut self,
        name: &str,
        help: &str,
        value: Option<impl EncodeGaugeValue>,
    ) -> fmt::Result {
        self.gauges(name, help, value.map(|value| (NONE, value)))
    }

    /// Whether something is so: 1 or 0.
    pub(super) fn flag(&mut self, name: &str, help: &str, holds: bool) -> fmt::Result {
        self.gauge(name, help, u32::from(holds))
    }

    /// The same number of each of several.
    pub(super) fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, series, |metric, value| {
            metric.encode_gauge(value)
        })
    }

    /// Of the words that a state may be, 1 at the present one.
    pub(super) fn states<'w>(
        &mut self,
        name: &str,
        help: &str,
        words: impl IntoIterator<Item = &'w str>,
        present: &str,
    ) -> fmt::Result {
        let words = words.into_iter();
        let series = words.map(|word| ([("state", word)], u32::from(word == present)));
        self.gauges(name, help, series)
    }

    /// A number that only grows.
    pub(super) fn counter(
        &mut self,
        name: &str,
        help: &str,
        value: impl EncodeCounterValue,
    ) -> fmt::Result {
        self.counters(name, help, [(NONE, value)])
    }

    /// The same number of each of several.
    pub(super) fn counters<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Counter, series, |metric, value| {
            metric.encode_counter::<NoLabelSet, _, u64>(value, None)
        })
    }

    /// A number whose name says another type than it has: a linter takes a name that ends in `_total`
    /// for a counter's, unless the type is left open.
    pub(super) fn untyped(
        &mut self,
        name: &str,
        help: &str,
        value: impl EncodeGaugeValue,
    ) -> fmt::Result {
        self.family(
            name,
            help,
            MetricType::Unknown,
            [(NONE, value)],
            |metric, value| metric.encode_gauge(value),
        )
    }

    /// Waits of each of several. Nobody has sorted them by length: they are all in one bucket.
    pub(super) fn waits<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, Waits)>,
    ) -> fmt::Result {
        self.family(
            name,
            help,
            MetricType::Histogram,
            series,
            |metric, waits| {
                let Waits { sum, count } = *waits;
                metric.encode_histogram::<NoLabelSet>(sum, count, &[(f64::INFINITY, count)], None)
            },
        )
    }

    /// What does not change, in labels.
    pub(super) fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Info)?;
        metric.encode_info(&labels)
    }

    fn family<L: EncodeLabelSet, V>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        series: impl IntoIterator<Item = (L, V)>,
        write: impl Fn(&mut MetricEncoder<'_>, &V) -> fmt::Result,
    ) -> fmt::Result {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return Ok(());
        }
        let (name, unit) = without_unit(name);
        let mut family = self.0.encode_descriptor(name, help, unit, kind)?;
        for (labels, value) in series {
            write(&mut family.encode_family(&labels)?, &value)?;
        }
        Ok(())
    }
}

/// A name without the unit that it ends in, and that unit.
fn without_unit(name: &str) -> (&str, Option<&'static Unit>) {
    static SECONDS: Unit = Unit::Seconds;
    static BYTES: Unit = Unit::Bytes;
    let ends = [("_seconds", &SECONDS), ("_bytes", &BYTES)];
    let mut stems = ends
        .into_iter()
        .filter_map(|(end, unit)| Some((name.strip_suffix(end)?, Some(unit))));
    stems.next().unwrap_or((name, None))
}
