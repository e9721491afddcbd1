//! Moments as Go writes them: RFC 3339 with up to nine digits of a second and any offset.
//!
//! They are checked and kept as text. No decision rests on them: clocks of clients are not trusted.

/// Go's `time.Time{}`, which stands for no moment at all.
pub const ZERO: &str = "0001-01-01T00:00:00Z";

/// Whether this is a moment by RFC 3339, such as `2025-09-19T08:15:47.123456789+08:00`.
pub fn is_rfc3339(text: &str) -> bool {
    parse(text.as_bytes()).is_some()
}

fn parse(text: &[u8]) -> Option<()> {
    let (date, rest) = text.split_at_checked(10)?;
    let (year, month, day) = (
        number(date.get(..4)?)?,
        number(date.get(5..7)?)?,
        number(date.get(8..)?)?,
    );
    let rest = rest
        .strip_prefix(b"T")
        .or_else(|| rest.strip_prefix(b"t"))?;
    let (time, rest) = rest.split_at_checked(8)?;
    let (hour, minute, second) = (
        number(time.get(..2)?)?,
        number(time.get(3..5)?)?,
        number(time.get(6..)?)?,
    );
    let separators = [date[4], date[7], time[2], time[5]];
    // A leap second is one more.
    let in_range =
        (1..=days(year, month)?).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    (separators == *b"--::" && in_range).then_some(())?;
    offset(after_fraction(rest)?)
}

fn days(year: u32, month: u32) -> Option<u32> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 => Some(if leap { 29 } else { 28 }),
        4 | 6 | 9 | 11 => Some(30),
        1..=12 => Some(31),
        _ => None,
    }
}

fn after_fraction(text: &[u8]) -> Option<&[u8]> {
    let Some(fraction) = text.strip_prefix(b".") else {
        return Some(text);
    };
    let digits = fraction
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    (1..=9).contains(&digits).then(|| &fraction[digits..])
}

fn offset(text: &[u8]) -> Option<()> {
    match text {
        b"Z" | b"z" => Some(()),
        [b'+' | b'-', hours @ .., b':', m1, m2] if hours.len() == 2 => {
            (number(hours)? < 24 && number(&[*m1, *m2])? < 60).then_some(())
        }
        _ => None,
    }
}

fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number: u32, byte| match byte {
        b'0'..=b'9' => Some(number * 10 + u32::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_go_writes_is_taken() {
        for good in [
            ZERO,
            "2025-09-19T08:15:47Z",
            "2025-09-19T08:15:47.1Z",
            "2025-09-19T08:15:47.123456789+08:00",
            "2024-02-29t23:59:60z",
            "9999-12-31T23:59:59-11:30",
        ] {
            assert!(is_rfc3339(good), "{good}");
        }
    }

    #[test]
    fn what_is_no_moment_is_not() {
        for bad in [
            "",
            "2025-09-19",
            "2025-09-19 08:15:47Z",
            "2025-09-19T08:15:47",
            "2025-13-19T08:15:47Z",
            "2025-02-29T08:15:47Z",
            "2025-00-19T08:15:47Z",
            "2025-09-00T08:15:47Z",
            "2025-09-19T24:15:47Z",
            "2025-09-19T08:60:47Z",
            "2025-09-19T08:15:61Z",
            "2025/09/19T08:15:47Z",
            "2025-09-19T08:15:47.Z",
            "2025-09-19T08:15:47.1234567890Z",
            "2025-09-19T08:15:47+0800",
            "2025-09-19T08:15:47+24:00",
            "2025-09-19T08:15:47Zx",
            "梁5-09-19T08:15:47Z",
            "1758298547",
        ] {
            assert!(!is_rfc3339(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_a_panic(text in ".{0,40}") {
            let _ = is_rfc3339(&text);
        }

        #[test]
        fn what_is_taken_otherwise_is_taken_here(seconds in 0u64..253_402_300_799, nanos in 0u32..1_000_000_000) {
            let moment = std::time::UNIX_EPOCH + std::time::Duration::new(seconds, nanos);
            prop_assert!(is_rfc3339(&humantime::format_rfc3339_nanos(moment).to_string()));
        }
    }
}
