//! What people read: lines, tables, colours only on a terminal.

use std::io::{self, IsTerminal, Write};

/// Prints a line. A reader that has gone away, as `head` does, is no failure.
pub(crate) fn line(text: impl AsRef<str>) {
    let _ = writeln!(io::stdout(), "{}", text.as_ref());
}

/// Says what is going on, beside the output proper.
pub(crate) fn note(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}

/// Good news, in green.
pub(crate) fn good(text: &str) -> String {
    painted("32", text, io::stdout().is_terminal())
}

/// Bad news, in red.
pub(crate) fn bad(text: &str) -> String {
    painted("31", text, io::stdout().is_terminal())
}

/// Bad news on standard error, in red.
pub(crate) fn error(text: &str) -> String {
    painted("31", text, io::stderr().is_terminal())
}

fn painted(colour: &str, text: &str, terminal: bool) -> String {
    // https://no-color.org: set and not empty means none.
    let declined = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    match terminal && !declined {
        true => format!("\x1b[{colour}m{text}\x1b[0m"),
        false => text.to_owned(),
    }
}

/// Lines with aligned columns; the first row is the heading. The last column
/// is not padded, so it alone may be coloured.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let last = column + 1 == row.len();
            let padding = match widths.get(column) {
                Some(width) if !last => width + 2 - cell.chars().count(),
                _ => 0,
            };
            text.push_str(cell);
            text.push_str(&" ".repeat(padding));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_their_longest_cell() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["node", "pid", "state"]), row(["1", "123456", "ready"])];
        assert_eq!(table(&rows), "node  pid     state\n1     123456  ready\n");
    }
}
