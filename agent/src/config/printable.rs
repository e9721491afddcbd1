//! Text from elsewhere made fit for one line of a terminal: no control characters, not too long.
//!
//! A key, a value or a server's answer may hold an escape sequence that moves the cursor or rewrites the title; shown
//! as it is, it could make a message say something else.

use std::fmt::{self, Write as _};

/// How many characters of a value are shown in a message.
const QUOTED_MAX: usize = 80;

/// Displays a text with its control characters escaped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printable<'a> {
    text: &'a str,
    quotes: bool,
    chars_max: usize,
}

impl<'a> Printable<'a> {
    /// The whole text.
    pub(crate) fn plain(text: &'a str) -> Self {
        Self {
            text,
            quotes: false,
            chars_max: usize::MAX,
        }
    }

    /// The text in quotation marks, shortened where it is long.
    pub(crate) fn quoted(text: &'a str) -> Self {
        Self {
            text,
            quotes: true,
            chars_max: QUOTED_MAX,
        }
    }
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.quotes {
            f.write_char('"')?;
        }
        let mut chars = self.text.chars();
        for c in chars.by_ref().take(self.chars_max) {
            if is_unprintable(c) || (self.quotes && c == '"') {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        if chars.next().is_some() {
            f.write_char('…')?;
        }
        if self.quotes {
            f.write_char('"')?;
        }
        Ok(())
    }
}

/// Control characters, and the marks that reverse the direction of the text after them.
fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_letters_are_not() {
        assert_eq!(
            Printable::plain("梁鑫\u{1b}[2J\n").to_string(),
            "梁鑫\\u{1b}[2J\\n"
        );
        assert_eq!(
            Printable::quoted("say \"hi\"").to_string(),
            "\"say \\\"hi\\\"\""
        );
    }

    #[test]
    fn a_long_value_is_shortened() {
        let shown = Printable::quoted(&"x".repeat(200)).to_string();
        assert_eq!(shown, format!("\"{}…\"", "x".repeat(80)));
    }
}
