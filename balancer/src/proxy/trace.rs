//! The ids by which a request is found again: `X-Request-Id` and W3C `traceparent`.
//!
//! Valid ones of the client are kept, so that its logs and ours name the same request; others are
//! replaced. In: headers and random numbers. Out: header values. Format of `traceparent`:
//! W3C Trace Context, 3.2: version, trace id, parent id, flags, in lower-case hexadecimal.

use http::HeaderValue;

/// Most characters of a request id of a client. It ends up in logs.
const REQUEST_ID_CHARS_MAX: usize = 128;

/// Length of a `traceparent` of version 00.
const TRACEPARENT_CHARS: usize = 55;

/// The id to know this request by: the client's own if it can be kept, else a new one.
pub(super) fn request_id(sent: Option<&HeaderValue>, random: u128) -> HeaderValue {
    match sent {
        Some(id) if is_request_id(id.as_bytes()) => id.clone(),
        _ => text(&format!("{random:032x}")),
    }
}

/// The `traceparent` to forward, and whether it continues the client's trace.
///
/// The trace id and flags of a valid one are kept and this proxy becomes the parent, by the id
/// `span`. A new trace is `trace`, and is not sampled unless someone decides so. Zeros are no
/// ids: they become ones.
pub(super) fn traceparent(
    sent: Option<&HeaderValue>,
    trace: u128,
    span: u64,
) -> (HeaderValue, bool) {
    let span = span.max(1);
    match sent.and_then(|sent| parse_traceparent(sent.as_bytes())) {
        Some((trace, flags)) => (text(&format!("00-{trace}-{span:016x}-{flags}")), true),
        None => (
            text(&format!("00-{:032x}-{span:016x}-00", trace.max(1))),
            false,
        ),
    }
}

fn is_request_id(id: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@~".contains(byte);
    (1..=REQUEST_ID_CHARS_MAX).contains(&id.len()) && id.iter().all(is_plain)
}

/// Trace id and flags. Of a version after 00, what version 00 knows of it (4.2).
fn parse_traceparent(sent: &[u8]) -> Option<(&str, &str)> {
    let sent = str::from_utf8(sent).ok()?;
    let mut parts = sent.splitn(5, '-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let (parent, flags) = (parts.next()?, parts.next()?);
    let is_sound = is_hex(version, 2)
        && version != "ff"
        && (version != "00" || sent.len() == TRACEPARENT_CHARS)
        && is_hex(trace, 32)
        && trace.contains(|digit| digit != '0')
        && is_hex(parent, 16)
        && parent.contains(|digit| digit != '0')
        && is_hex(flags, 2);
    is_sound.then_some((trace, flags))
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Text that is known to be fit for a header.
fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(sent: &str) -> (String, bool) {
        let sent = HeaderValue::from_str(sent).unwrap();
        let (value, continues) = traceparent(Some(&sent), 0xabc, 0xdef);
        (value.to_str().unwrap().to_owned(), continues)
    }

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn a_valid_trace_is_continued_under_this_parent() {
        let (value, continues) = forwarded(&format!("00-{TRACE}-b7ad6b7169203331-01"));
        assert_eq!(value, format!("00-{TRACE}-0000000000000def-01"));
        assert!(continues);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let (value, continues) = forwarded(&format!("cc-{TRACE}-b7ad6b7169203331-01-what"));
        assert_eq!(value, format!("00-{TRACE}-0000000000000def-01"));
        assert!(continues);
    }

    #[test]
    fn an_invalid_trace_is_replaced() {
        let zeros = "0".repeat(32);
        let invalid = [
            String::new(),
            "00".to_owned(),
            format!("00-{TRACE}-b7ad6b7169203331"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{zeros}-b7ad6b7169203331-01"),
            format!("00-{}-b7ad6b7169203331-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-b7ad6b7169203331-01-what"),
            format!("ff-{TRACE}-b7ad6b7169203331-01"),
        ];
        let new = format!("00-{:032x}-0000000000000def-00", 0xabc);
        for sent in invalid {
            assert_eq!(forwarded(&sent), (new.clone(), false), "{sent}");
        }
    }

    #[test]
    fn a_plain_request_id_is_kept_and_any_other_replaced() {
        let id = |sent: &str| request_id(Some(&HeaderValue::from_str(sent).unwrap()), 7);
        assert_eq!(id("Req-1:a/b"), "Req-1:a/b");
        let new = format!("{:032x}", 7);
        for sent in ["", "a b", "a\"b", "a,b", &"x".repeat(129)] {
            assert_eq!(id(sent), new.as_str(), "{sent}");
        }
        assert_eq!(request_id(None, 7), new.as_str());
    }
}
