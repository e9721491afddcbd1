//! Durations as people write them: `200ms`, `1h 30m`.

use std::time::Duration;

use humantime::DurationError;

/// Digits that a number may have: of fractions of a second, and of anything longer. Larger
/// ones can add up to more than a [`Duration`] holds, at which the parser below panics
/// instead of refusing.
const FRACTION_DIGITS_MAX: usize = 15;
const DIGITS_MAX: usize = 9;
/// Characters that a text may have.
const TEXT_MAX: usize = 64;

/// Reads a duration.
///
/// # Errors
/// [`DurationError`] says what is wrong with it.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    if text.len() > TEXT_MAX || has_long_number(text) {
        return Err(DurationError::NumberOverflow);
    }
    humantime::parse_duration(text)
}

fn has_long_number(mut text: &str) -> bool {
    while let Some(begin) = text.find(|c: char| c.is_ascii_digit()) {
        let number = &text[begin..];
        let end = number.find(|c: char| !c.is_ascii_digit());
        let (digits, rest) = number.split_at(end.unwrap_or(number.len()));
        let unit = rest.trim_start();
        let fraction = ["ns", "us", "ms"].iter().any(|name| unit.starts_with(name));
        let most = if fraction {
            FRACTION_DIGITS_MAX
        } else {
            DIGITS_MAX
        };
        if digits.len() > most {
            return true;
        }
        text = rest;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_would_overflow_is_refused() {
        for text in [
            "18446744073709551615s 1000000000ns",
            "99999999999999999999y",
            &"1s ".repeat(100),
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(parse_duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("9999999999ns").map(|d| d.as_secs()), Ok(9));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "([0-9]{1,22} ?(ns|us|ms|s|m|h|days|weeks|months|years|y) ?){0,8}") {
            let _ = parse_duration(&text);
        }
    }
}
