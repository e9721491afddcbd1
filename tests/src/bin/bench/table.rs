//! What a bench found: figures of each contestant, and ours against theirs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::peers::Program;

/// The name of our own row.
pub(crate) const OURS: &str = "basic-agent";

/// The result of one bench.
pub(crate) struct Table {
    /// Its name on the command line.
    pub(crate) bench: &'static str,
    /// What was done, in a sentence or two.
    pub(crate) work: String,
    /// How many nodes did it.
    pub(crate) nodes: u16,
    /// What was measured.
    pub(crate) columns: &'static [Column],
    /// Who was measured, ours first.
    pub(crate) contestants: Vec<Figures>,
    /// Peers that are not installed.
    pub(crate) absent: Vec<Program>,
    /// What a reader should know to judge the figures.
    pub(crate) notes: Vec<String>,
}

/// One figure of each contestant.
pub(crate) struct Column {
    /// Its name in JSON, with its unit.
    pub(crate) key: &'static str,
    /// Its heading, without the unit.
    pub(crate) heading: &'static str,
    /// Its unit.
    pub(crate) unit: Unit,
    /// How it follows from what was measured.
    pub(crate) summary: Summary,
}

/// How many measurements become one figure.
#[derive(Clone, Copy)]
pub(crate) enum Summary {
    /// The middle one of those under the column's own key.
    Median,
    /// The middle one of a series that several columns look at.
    MedianOf(&'static str),
    /// The largest of such a series.
    WorstOf(&'static str),
    /// All that are under the column's own key together.
    Sum,
}

/// How a figure is written.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
    /// Events in a second.
    PerSecond,
    /// Hundredths: of one processor core, say.
    Percent,
    /// Mebibytes.
    Mebibytes,
    /// Things counted.
    Count,
}

/// A contestant with all that was measured of it.
pub(crate) struct Figures {
    /// Its name.
    pub(crate) name: String,
    /// Which version of it.
    pub(crate) version: String,
    /// Measurements in the order in which they were made, by the key of a column
    /// or the name of a series, in the column's unit.
    samples: BTreeMap<&'static str, Vec<f64>>,
    /// In how many rounds they were made.
    pub(crate) rounds: u16,
}

impl Figures {
    pub(crate) fn new(name: impl Into<String>, version: impl Into<String>) -> Figures {
        Figures {
            name: name.into(),
            version: version.into(),
            samples: BTreeMap::new(),
            rounds: 0,
        }
    }

    /// Adds one measurement.
    pub(crate) fn add(&mut self, series: &'static str, value: f64) {
        self.samples.entry(series).or_default().push(value);
    }

    /// Adds a round, with one measurement for each column.
    pub(crate) fn add_round(&mut self, columns: &[Column], round: &[f64]) {
        for (column, value) in columns.iter().zip(round) {
            self.add(column.key, *value);
        }
        self.rounds += 1;
    }

    fn figures(&self, columns: &[Column]) -> Vec<Option<f64>> {
        let figures = columns
            .iter()
            .map(|column| column.figure(self.samples.get(column.series())?));
        figures.collect()
    }
}

impl Column {
    /// Where its measurements are.
    fn series(&self) -> &'static str {
        match self.summary {
            Summary::Median | Summary::Sum => self.key,
            Summary::MedianOf(series) | Summary::WorstOf(series) => series,
        }
    }

    fn figure(&self, samples: &[f64]) -> Option<f64> {
        match self.summary {
            Summary::Median | Summary::MedianOf(_) => median(samples.to_vec()),
            Summary::WorstOf(_) => samples.iter().copied().max_by(f64::total_cmp),
            Summary::Sum => (!samples.is_empty()).then(|| samples.iter().sum()),
        }
    }
}

impl Table {
    /// Each contestant's figures, then for each peer ours divided by its.
    fn rows(&self) -> Vec<(String, Vec<Option<f64>>)> {
        let measured = self.contestants.iter();
        let rows = measured.map(|c| (c.name.clone(), c.figures(self.columns)));
        rows.collect()
    }

    fn ratios(&self) -> Vec<(String, Vec<Option<f64>>)> {
        let rows = self.rows();
        let Some((_, ours)) = rows.iter().find(|(name, _)| name == OURS) else {
            return Vec::new();
        };
        let theirs = rows.iter().filter(|(name, _)| name != OURS);
        theirs
            .map(|(name, theirs)| {
                let pairs = ours.iter().zip(theirs);
                let ratio = pairs.map(|(ours, theirs)| match (ours, theirs) {
                    (Some(ours), Some(theirs)) if *theirs > 0.0 => Some(ours / theirs),
                    _ => None,
                });
                (name.clone(), ratio.collect())
            })
            .collect()
    }

    /// The same as a JSON document, with every measurement.
    pub(crate) fn to_json(&self) -> Value {
        let keyed = |values: &[Option<f64>]| {
            let keys = self.columns.iter().map(|column| column.key.to_owned());
            keys.zip(values.iter().map(|value| json!(value)))
                .collect::<Map<_, _>>()
        };
        let contestants = self.contestants.iter().map(|contestant| {
            json!({
                "name": contestant.name,
                "version": contestant.version,
                "figures": keyed(&contestant.figures(self.columns)),
                "samples": contestant.samples,
                "rounds": contestant.rounds,
            })
        });
        let ratios = self.ratios();
        let ratios = ratios
            .iter()
            .map(|(name, ratio)| (name.clone(), keyed(ratio).into()));
        let absent = self
            .absent
            .iter()
            .map(|program| json!({"name": program.name(), "install": program.advice()}));
        json!({
            "bench": self.bench,
            "work": self.work,
            "nodes": self.nodes,
            "contestants": contestants.collect::<Vec<_>>(),
            "ours_divided_by": ratios.collect::<Map<_, _>>(),
            "not_installed": absent.collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}: {}\n", self.bench, self.work)?;
        let mut lines = vec![
            std::iter::once(String::new())
                .chain(self.columns.iter().map(|column| column.heading.to_owned()))
                .collect::<Vec<_>>(),
        ];
        for (name, figures) in self.rows() {
            let cells = self
                .columns
                .iter()
                .zip(figures)
                .map(|(column, figure)| match figure {
                    Some(figure) => column.unit.written(figure),
                    None => "-".to_owned(),
                });
            lines.push(std::iter::once(name).chain(cells).collect());
        }
        for (name, ratio) in self.ratios() {
            let cells = ratio.into_iter().map(|ratio| match ratio {
                Some(ratio) => format!("{ratio:.2}"),
                None => "-".to_owned(),
            });
            lines.push(
                std::iter::once(format!("ours / {name}"))
                    .chain(cells)
                    .collect(),
            );
        }
        write_aligned(f, &lines)?;
        writeln!(f)?;
        for contestant in &self.contestants {
            let rounds = match contestant.rounds {
                1 => "1 round".to_owned(),
                count => format!("{count} rounds"),
            };
            writeln!(f, "{} {}: {rounds}", contestant.name, contestant.version)?;
        }
        for program in &self.absent {
            writeln!(
                f,
                "{} is not installed: {}",
                program.name(),
                program.advice()
            )?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}

impl Unit {
    fn written(self, figure: f64) -> String {
        let decimals = match figure {
            figure if figure < 10.0 => 2,
            figure if figure < 100.0 => 1,
            _ => 0,
        };
        match self {
            Unit::Milliseconds => format!("{figure:.decimals$} ms"),
            Unit::Microseconds => format!("{figure:.decimals$} µs"),
            Unit::PerSecond => format!("{figure:.0} /s"),
            Unit::Percent => format!("{figure:.decimals$} %"),
            Unit::Mebibytes => format!("{figure:.1} MiB"),
            Unit::Count => format!("{figure:.0}"),
        }
    }
}

/// A duration as a figure of a column in milliseconds.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// A duration as a figure of a column in microseconds.
pub(crate) fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The middle one, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    match values.len() % 2 {
        1 => Some(upper),
        _ => Some((values.get(middle - 1)? + upper) / 2.0),
    }
}

/// The first cell of each line to the left, all others to the right.
fn write_aligned(f: &mut fmt::Formatter<'_>, lines: &[Vec<String>]) -> fmt::Result {
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    for line in lines {
        let mut text = String::new();
        for (column, cell) in line.iter().enumerate() {
            let width = width(column);
            text.push_str(&match column {
                0 => format!("  {cell:<width$}"),
                _ => format!("  {cell:>width$}"),
            });
        }
        writeln!(f, "{}", text.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column {
            key: "p50_ms",
            heading: "p50",
            unit: Unit::Milliseconds,
            summary: Summary::Median,
        },
        Column {
            key: "requests_per_second",
            heading: "requests",
            unit: Unit::PerSecond,
            summary: Summary::Median,
        },
    ];

    fn table() -> Table {
        let contestant = |name: &str, rounds: &[[f64; 2]]| {
            let mut figures = Figures::new(name, "1.0");
            for round in rounds {
                figures.add_round(COLUMNS, round);
            }
            figures
        };
        Table {
            bench: "proxy",
            work: "some work".to_owned(),
            nodes: 3,
            columns: COLUMNS,
            contestants: vec![
                contestant(OURS, &[[1.0, 300.0], [2.0, 100.0], [9.0, 200.0]]),
                contestant("nginx", &[[3.0, 100.0], [5.0, 100.0]]),
            ],
            absent: vec![Program::Haproxy],
            notes: vec!["a note".to_owned()],
        }
    }

    #[test]
    fn medians_and_ratios_are_written_in_aligned_columns() {
        let text = table().to_string();
        let expected = "
proxy: some work

                    p50  requests
  basic-agent   2.00 ms    200 /s
  nginx         4.00 ms    100 /s
  ours / nginx     0.50      2.00

basic-agent 1.0: 3 rounds
nginx 1.0: 2 rounds
haproxy is not installed: scripts/bench --install-peers (Debian package haproxy)
a note
";
        assert_eq!(text, expected);
    }

    #[test]
    fn json_holds_figures_ratios_and_every_measurement() {
        let document = table().to_json();
        assert_eq!(document["contestants"][0]["figures"]["p50_ms"], 2.0);
        assert_eq!(document["contestants"][0]["samples"]["p50_ms"][2], 9.0);
        assert_eq!(
            document["ours_divided_by"]["nginx"]["requests_per_second"],
            2.0
        );
        assert_eq!(document["not_installed"][0]["name"], "haproxy");
    }

    #[test]
    fn two_columns_can_look_at_one_series_and_a_missing_one_is_empty() {
        let column = |summary| Column {
            key: "key",
            heading: "heading",
            unit: Unit::Count,
            summary,
        };
        let columns = [
            column(Summary::MedianOf("series")),
            column(Summary::WorstOf("series")),
            column(Summary::Sum),
        ];
        let mut figures = Figures::new("name", "1.0");
        for value in [5.0, 1.0, 3.0] {
            figures.add("series", value);
        }
        assert_eq!(figures.figures(&columns), [Some(3.0), Some(5.0), None]);
    }

    #[test]
    fn the_median_of_nothing_is_nothing() {
        assert_eq!(median(Vec::new()), None);
        assert_eq!(median(vec![3.0, 1.0]), Some(2.0));
    }
}
