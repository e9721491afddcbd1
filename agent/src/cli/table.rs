//! Tables for people: columns aligned by what a terminal shows, which for 梁 is two places.

use unicode_width::UnicodeWidthStr as _;

use crate::config::Printable;

use super::output::{Colour, Output};

/// Space between two columns.
const GAP: &str = "  ";

/// Rows under a heading.
pub(super) struct Table {
    heading: Vec<Cell>,
    rows: Vec<Vec<Cell>>,
}

/// One entry of a table.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl Cell {
    /// A text, made fit for one line of a terminal.
    pub(super) fn new(text: impl AsRef<str>) -> Self {
        Self {
            text: Printable::plain(text.as_ref()).to_string(),
            colour: None,
        }
    }

    /// A text, or a dash where there is none.
    pub(super) fn optional(text: Option<impl AsRef<str>>) -> Self {
        text.map_or_else(|| Self::new("-"), Self::new)
    }

    /// The same in a colour.
    pub(super) fn painted(self, colour: Option<Colour>) -> Self {
        Self { colour, ..self }
    }
}

impl Table {
    /// A table with columns of these names.
    pub(super) fn new(columns: &[&str]) -> Self {
        let heading = columns
            .iter()
            .map(|name| Cell::new(name).painted(Some(Colour::Faint)));
        Self {
            heading: heading.collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The table as lines. The last column is not padded, so that no line ends in blanks.
    pub(super) fn render(&self, output: &Output) -> String {
        let rows = || std::iter::once(&self.heading).chain(&self.rows);
        let columns = rows().map(Vec::len).max().unwrap_or(0);
        let mut widths = vec![0; columns];
        for row in rows() {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.text.width().max(*width);
            }
        }
        let mut text = String::new();
        for row in rows() {
            for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
                text.push_str(&output.paint(cell.colour, &cell.text));
                if i + 1 < row.len() {
                    text.push_str(&" ".repeat(width - cell.text.width()));
                    text.push_str(GAP);
                }
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_what_a_terminal_shows() {
        let output = Output::to(Vec::new(), Vec::new(), false);
        let mut table = Table::new(&["KEY", "NAME", "AGE"]);
        table.row(vec![Cell::new("u1"), Cell::new("梁鑫"), Cell::new("30")]);
        table.row(vec![
            Cell::new("u2"),
            Cell::optional(None::<&str>),
            Cell::new("4"),
        ]);
        assert_eq!(
            table.render(&output),
            "KEY  NAME  AGE\nu1   梁鑫  30\nu2   -     4\n"
        );
    }

    #[test]
    fn escape_sequences_of_others_are_shown_and_not_obeyed() {
        let output = Output::to(Vec::new(), Vec::new(), false);
        let mut table = Table::new(&["KEY"]);
        table.row(vec![Cell::new("a\u{1b}[2Jb\nc")]);
        assert_eq!(table.render(&output), "KEY\na\\u{1b}[2Jb\\nc\n");
    }

    #[test]
    fn colour_does_not_change_the_alignment() {
        let plain = Output::to(Vec::new(), Vec::new(), false);
        let coloured = Output::to(Vec::new(), Vec::new(), true);
        let mut table = Table::new(&["A", "B"]);
        table.row(vec![
            Cell::new("good").painted(Some(Colour::Good)),
            Cell::new("x"),
        ]);
        let with_colour = table.render(&coloured);
        assert!(
            with_colour.contains("\u{1b}[32mgood\u{1b}[0m  x"),
            "{with_colour:?}"
        );
        let without: String = with_colour
            .replace("\u{1b}[32m", "")
            .replace("\u{1b}[2m", "")
            .replace("\u{1b}[0m", "");
        assert_eq!(without, table.render(&plain));
    }
}
