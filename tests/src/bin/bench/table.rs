//! What a bench found: figures of each contestant, and ours against theirs.

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
}

/// A contestant with its figures of each round, in the order of the columns.
pub(crate) struct Figures {
    /// Its name.
    pub(crate) name: String,
    /// Which version of it.
    pub(crate) version: String,
    /// For each round, one number a column, in the column's unit.
    pub(crate) rounds: Vec<Vec<f64>>,
}

impl Figures {
    pub(crate) fn new(name: impl Into<String>, version: impl Into<String>) -> Figures {
        Figures {
            name: name.into(),
            version: version.into(),
            rounds: Vec::new(),
        }
    }

    fn medians(&self, columns: usize) -> Vec<Option<f64>> {
        let column = |index: usize| {
            let values = self
                .rounds
                .iter()
                .filter_map(|round| round.get(index))
                .copied();
            median(values.collect())
        };
        (0..columns).map(column).collect()
    }
}

impl Table {
    /// Each contestant's medians, then for each peer ours divided by its.
    fn rows(&self) -> Vec<(String, Vec<Option<f64>>)> {
        let measured = self.contestants.iter();
        let rows = measured.map(|c| (c.name.clone(), c.medians(self.columns.len())));
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

    /// The same as a JSON document, with the figures of every round.
    pub(crate) fn to_json(&self) -> Value {
        let keyed = |values: &[Option<f64>]| {
            let keys = self.columns.iter().map(|column| column.key.to_owned());
            keys.zip(values.iter().map(|value| json!(value)))
                .collect::<Map<_, _>>()
        };
        let contestants = self.contestants.iter().map(|contestant| {
            let rounds = contestant
                .rounds
                .iter()
                .map(|round| keyed(&round.iter().copied().map(Some).collect::<Vec<_>>()));
            json!({
                "name": contestant.name,
                "version": contestant.version,
                "median": keyed(&contestant.medians(self.columns.len())),
                "rounds": rounds.collect::<Vec<_>>(),
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
            let rounds = match contestant.rounds.len() {
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
        },
        Column {
            key: "requests_per_second",
            heading: "requests",
            unit: Unit::PerSecond,
        },
    ];

    fn table() -> Table {
        let contestant = |name: &str, rounds: &[[f64; 2]]| Figures {
            rounds: rounds.iter().map(|round| round.to_vec()).collect(),
            ..Figures::new(name, "1.0")
        };
        Table {
            bench: "proxy",
            work: "some work".to_owned(),
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
    fn json_holds_medians_ratios_and_every_round() {
        let document = table().to_json();
        assert_eq!(document["contestants"][0]["median"]["p50_ms"], 2.0);
        assert_eq!(document["contestants"][0]["rounds"][2]["p50_ms"], 9.0);
        assert_eq!(
            document["ours_divided_by"]["nginx"]["requests_per_second"],
            2.0
        );
        assert_eq!(document["not_installed"][0]["name"], "haproxy");
    }

    #[test]
    fn the_median_of_nothing_is_nothing() {
        assert_eq!(median(Vec::new()), None);
        assert_eq!(median(vec![3.0, 1.0]), Some(2.0));
    }
}
