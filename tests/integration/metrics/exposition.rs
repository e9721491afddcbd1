//! The text format of OpenMetrics 1.0.0, read strictly: what the standard forbids is an error.
//!
//! As far as agents use it: no timestamps, exemplars or created series.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// What was exposed.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    /// By name and labels, as in `name{a=1,b=2}`, the labels in the order of their names.
    values: BTreeMap<String, f64>,
}

/// A family while its lines are read.
#[derive(Debug)]
struct Family {
    name: String,
    kind: Option<String>,
    help: bool,
    unit: bool,
    samples: usize,
}

struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: String,
}

impl Exposition {
    /// The value of a series.
    pub(super) fn value(&self, series: &str) -> Option<f64> {
        self.values.get(series).copied()
    }

    /// Reads a whole one.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let body = text.strip_suffix("# EOF\n").ok_or("no # EOF at the end")?;
        let mut families: Vec<Family> = Vec::new();
        let mut read = Self::default();
        for (index, line) in body.lines().enumerate() {
            let taken = match line.strip_prefix("# ") {
                Some(descriptor) => describe(&mut families, descriptor),
                None => read.take(families.last_mut(), line),
            };
            taken.map_err(|error| format!("line {}: {error}: {line}", index + 1))?;
        }
        check_names(&families)?;
        Ok(read)
    }

    fn take(&mut self, family: Option<&mut Family>, line: &str) -> Result<(), String> {
        let family = family.ok_or("a sample of no family")?;
        let sample = Sample::read(line)?;
        let value: f64 = sample.value.parse().map_err(|_| "no number")?;
        let kind = family.kind.as_deref().ok_or("a family without a type")?;
        let suffix = sample.name.strip_prefix(family.name.as_str());
        let suffix = suffix.ok_or("a sample of another family")?;
        let fits = match kind {
            "counter" => suffix == "_total" && value >= 0.0 && value.is_finite(),
            "gauge" | "unknown" => suffix.is_empty(),
            "info" => suffix == "_info" && sample.value == "1",
            "histogram" => match suffix {
                "_sum" | "_count" => value >= 0.0,
                "_bucket" => sample.labels.contains_key("le"),
                _ => false,
            },
            _ => false,
        };
        if !fits {
            return Err(format!("not as in a family of type {kind}"));
        }
        family.samples += 1;
        let mut series = sample.name;
        let labels = sample.labels.iter();
        let labels: Vec<_> = labels
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if !labels.is_empty() {
            let _ = write!(series, "{{{}}}", labels.join(","));
        }
        match self.values.insert(series, value) {
            None => Ok(()),
            Some(_) => Err("a series that there was before".to_owned()),
        }
    }
}

/// Takes a line that describes a family; the three kinds of them come before any sample.
fn describe(families: &mut Vec<Family>, descriptor: &str) -> Result<(), String> {
    let mut words = descriptor.splitn(3, ' ');
    let (Some(keyword), Some(name), Some(text)) = (words.next(), words.next(), words.next()) else {
        return Err("not a descriptor".to_owned());
    };
    if families.last().is_none_or(|family| family.name != name) {
        if !is_name(name, ":") || families.iter().any(|family| family.name == name) {
            return Err("no name, or one that there was before".to_owned());
        }
        families.push(Family {
            name: name.to_owned(),
            kind: None,
            help: false,
            unit: false,
            samples: 0,
        });
    }
    let family = families.last_mut().ok_or("no family")?;
    let first = match keyword {
        "TYPE" => family.kind.replace(text.to_owned()).is_none(),
        "HELP" => !std::mem::replace(&mut family.help, true) && !text.trim().is_empty(),
        "UNIT" => !std::mem::replace(&mut family.unit, true) && name.ends_with(&format!("_{text}")),
        _ => false,
    };
    match first && family.samples == 0 {
        true => Ok(()),
        false => Err("a descriptor out of place".to_owned()),
    }
}

/// Nothing is without a sample, a help text or a type, and no sample's name could be of two families.
fn check_names(families: &[Family]) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for family in families {
        let suffixes = match family.kind.as_deref() {
            Some("counter") => &["", "_total", "_created"][..],
            Some("info") => &["", "_info"],
            Some("histogram") => &["", "_sum", "_count", "_bucket", "_created"],
            _ => &[""],
        };
        let fresh = suffixes
            .iter()
            .all(|suffix| names.insert(format!("{}{suffix}", family.name)));
        if !fresh || !family.help || family.samples == 0 {
            return Err(format!("a family like another, or not whole: {family:?}"));
        }
        let base_unit = family.name.ends_with("_seconds") || family.name.ends_with("_bytes");
        if base_unit != family.unit {
            return Err(format!("a unit that is not declared: {family:?}"));
        }
    }
    Ok(())
}

impl Sample {
    fn read(line: &str) -> Result<Self, String> {
        let end = line.find(['{', ' ']).ok_or("no value")?;
        let (name, mut rest) = line.split_at(end);
        if !is_name(name, ":") {
            return Err("no name".to_owned());
        }
        let mut labels = BTreeMap::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside;
            loop {
                let (label, after) = rest.split_once("=\"").ok_or("no label")?;
                let (value, after) = unescaped(after)?;
                if !is_name(label, "") || labels.insert(label.to_owned(), value).is_some() {
                    return Err(format!("the label {label}"));
                }
                rest = after;
                if let Some(after) = rest.strip_prefix('}') {
                    rest = after;
                    break;
                }
                rest = rest.strip_prefix(',').ok_or("labels without a comma")?;
            }
        }
        let value = rest.strip_prefix(' ').ok_or("no value")?;
        Ok(Self {
            name: name.to_owned(),
            labels,
            value: value.to_owned(),
        })
    }
}

/// The value of a label and what comes after its quotation mark.
fn unescaped(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[index + 1..])),
            '\\' => value.push(match characters.next() {
                Some((_, 'n')) => '\n',
                Some((_, escaped @ ('\\' | '"'))) => escaped,
                _ => return Err("an escape that there is not".to_owned()),
            }),
            character => value.push(character),
        }
    }
    Err("a value without an end".to_owned())
}

fn is_name(name: &str, also: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || also.contains(c);
    name.chars().all(fits) && name.starts_with(|c: char| fits(c) && !c.is_ascii_digit())
}

#[test]
fn what_the_format_forbids_is_refused() {
    let good = "# HELP a_seconds Help.\n# TYPE a_seconds gauge\n# UNIT a_seconds seconds\na_seconds{x=\"\\\"\\\\\\n,}\",y=\"\"} 1.5\n";
    let read = |text: &str| Exposition::read(text);
    let told = read(&format!("{good}# EOF\n")).unwrap();
    assert_eq!(told.value("a_seconds{x=\"\\\n,},y=}"), Some(1.5));
    let counter = "# HELP c C.\n# TYPE c counter\n";
    for bad in [
        good.to_owned(),
        format!("{good}\n# EOF\n"),
        format!("{good}{good}# EOF\n"),
        format!("{good}# EOF\n# EOF\n"),
        format!("{good}a_seconds 1\na_seconds 1\n# EOF\n"),
        "a 1\n# EOF\n".to_owned(),
        "# HELP a_seconds Help.\n# TYPE a_seconds gauge\na_seconds 1\n# EOF\n".to_owned(),
        "# TYPE a gauge\na 1\n# EOF\n".to_owned(),
        format!("{counter}# EOF\n"),
        format!("{counter}c 1\n# EOF\n"),
        format!("{counter}c_total -1\n# EOF\n"),
        format!("{counter}c_total x\n# EOF\n"),
        format!("{counter}c_total{{}} 1\n# EOF\n"),
        format!("{counter}c_total{{x=\"\\t\"}} 1\n# EOF\n"),
        format!("{counter}c_total{{x=\"1\",x=\"2\"}} 1\n# EOF\n"),
        format!("{counter}c_total{{1x=\"1\"}} 1\n# EOF\n"),
        format!("{counter}c_total{{x=\"1\"y=\"2\"}} 1\n# EOF\n"),
        format!("{counter}c_total 1\n# HELP c_total G.\n# TYPE c_total gauge\nc_total 1\n# EOF\n"),
    ] {
        assert!(read(&bad).is_err(), "{bad}");
    }
}
