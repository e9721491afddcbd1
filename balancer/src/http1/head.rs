//! Judges the head of a request: has it one meaning, and where does its body end?
//!
//! In: the bytes up to and including the empty line. Out: how the body is framed, or why the
//! request is refused. The syntax is httparse's; the rules on top are those of RFC 9112 (2.2, 3.2,
//! 6.1-6.3), and stricter wherever servers in the field disagree about the reading.

use httparse::{EMPTY_HEADER, Header};

/// Most bytes of a request head, request line included.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Most header lines of a request.
pub(crate) const HEADERS_MAX: usize = 100;

/// How the body of a request is framed. No body is a length of zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
}

/// Why a request head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadRefusal {
    #[error("the request line or a header line is not HTTP/1.1 syntax")]
    Malformed,
    #[error("a line ends in LF alone; lines end in CR LF")]
    BareLf,
    #[error("the request head is larger than 64 KiB")]
    TooLarge,
    #[error("the request has more than 100 header lines")]
    TooManyHeaders,
    #[error("only HTTP/1.0 and HTTP/1.1 are spoken here")]
    Version,
    #[error("CONNECT is not served here")]
    Connect,
    #[error("the request target is neither a path, nor a URL of this host, nor * with OPTIONS")]
    Target,
    #[error("the request target names another host than the Host header")]
    TargetHost,
    #[error("the Host header is missing")]
    HostMissing,
    #[error("there is more than one Host header")]
    HostRepeated,
    #[error("the Host header is not a host name or address with an optional port")]
    HostMalformed,
    #[error("Content-Length is not one decimal number")]
    ContentLength,
    #[error("there is more than one Content-Length header")]
    ContentLengthRepeated,
    #[error("Content-Length and Transfer-Encoding exclude each other")]
    LengthAndCoding,
    #[error("Transfer-Encoding must be chunked, once")]
    TransferEncoding,
    #[error("this transfer coding is not supported; only chunked is")]
    TransferCodingUnknown,
    #[error("HTTP/1.0 has no Transfer-Encoding")]
    CodingInHttp10,
}

impl HeadRefusal {
    /// The status that says so to the client.
    pub(crate) fn status(self) -> http::StatusCode {
        use http::StatusCode;
        match self {
            HeadRefusal::TooLarge | HeadRefusal::TooManyHeaders => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            HeadRefusal::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            HeadRefusal::Connect | HeadRefusal::TransferCodingUnknown => {
                StatusCode::NOT_IMPLEMENTED
            }
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// Judges a head. `bytes` begins with the request line and ends with the empty line.
pub(crate) fn judge(bytes: &[u8]) -> Result<Framing, HeadRefusal> {
    if has_bare_lf(bytes) {
        return Err(HeadRefusal::BareLf);
    }
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(HeadRefusal::Malformed),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadRefusal::TooManyHeaders),
        Err(httparse::Error::Version) => return Err(HeadRefusal::Version),
        Err(_) => return Err(HeadRefusal::Malformed),
    }
    let (Some(method), Some(target)) = (request.method, request.path) else {
        return Err(HeadRefusal::Malformed);
    };
    if method == "CONNECT" {
        return Err(HeadRefusal::Connect);
    }
    let host = host(request.headers)?;
    check_target(method, target, host)?;
    framing(request.headers, request.version == Some(0))
}

fn has_bare_lf(bytes: &[u8]) -> bool {
    let mut before = 0;
    bytes
        .iter()
        .any(|&byte| std::mem::replace(&mut before, byte) != b'\r' && byte == b'\n')
}

fn values<'h>(headers: &'h [Header<'_>], name: &str) -> impl Iterator<Item = &'h [u8]> {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value)
}

fn host<'h>(headers: &'h [Header<'_>]) -> Result<&'h str, HeadRefusal> {
    let mut hosts = values(headers, "host");
    let host = hosts.next().ok_or(HeadRefusal::HostMissing)?;
    if hosts.next().is_some() {
        return Err(HeadRefusal::HostRepeated);
    }
    match str::from_utf8(host) {
        Ok(host) if is_host(host) => Ok(host),
        _ => Err(HeadRefusal::HostMalformed),
    }
}

/// `uri-host [ ":" port ]` (RFC 3986, 3.2.2) without the characters that are legal in a registered
/// name but occur in no host name, and that other parsers take for separators.
fn is_host(host: &str) -> bool {
    let (name_is_sound, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => (address.parse::<std::net::Ipv6Addr>().is_ok(), port),
            None => return false,
        },
        None => {
            let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
            (!name.is_empty() && name.bytes().all(is_plain), port)
        }
    };
    name_is_sound && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

fn check_target(method: &str, target: &str, host: &str) -> Result<(), HeadRefusal> {
    let is_printable = |byte: u8| (0x21..=0x7e).contains(&byte) && byte != b'#';
    if !target.bytes().all(is_printable) {
        return Err(HeadRefusal::Target);
    }
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Ok(());
    }
    let scheme = target.get(..7).ok_or(HeadRefusal::Target)?;
    if !scheme.eq_ignore_ascii_case("http://") {
        return Err(HeadRefusal::Target);
    }
    let rest = &target[7..];
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    if authority.eq_ignore_ascii_case(host) {
        Ok(())
    } else {
        Err(HeadRefusal::TargetHost)
    }
}

fn framing(headers: &[Header<'_>], is_http10: bool) -> Result<Framing, HeadRefusal> {
    let mut lengths = values(headers, "content-length");
    let mut codings = values(headers, "transfer-encoding");
    let (length, coding) = (lengths.next(), codings.next());
    if length.is_some() && coding.is_some() {
        return Err(HeadRefusal::LengthAndCoding);
    }
    if lengths.next().is_some() {
        return Err(HeadRefusal::ContentLengthRepeated);
    }
    if let Some(coding) = coding {
        if is_http10 {
            return Err(HeadRefusal::CodingInHttp10);
        }
        if codings.next().is_some() {
            return Err(HeadRefusal::TransferEncoding);
        }
        return check_coding(coding).map(|()| Framing::Chunked);
    }
    length.map_or(Ok(0), content_length).map(Framing::Length)
}

fn check_coding(coding: &[u8]) -> Result<(), HeadRefusal> {
    if coding.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    // Well-formed, and chunked last as it must be: not wrong, just not supported. Anything else
    // is a disguise of `chunked` that some other parser might see through.
    let Ok(coding) = str::from_utf8(coding) else {
        return Err(HeadRefusal::TransferEncoding);
    };
    let mut names = coding.split(',').map(str::trim).rev();
    let chunked_last = names
        .next()
        .is_some_and(|name| name.eq_ignore_ascii_case("chunked"));
    let is_other = |name: &str| {
        !name.eq_ignore_ascii_case("chunked")
            && !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if chunked_last && names.all(is_other) {
        Err(HeadRefusal::TransferCodingUnknown)
    } else {
        Err(HeadRefusal::TransferEncoding)
    }
}

fn content_length(value: &[u8]) -> Result<u64, HeadRefusal> {
    // `u64::from_str` would take a leading plus sign.
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(HeadRefusal::ContentLength);
    }
    let number = str::from_utf8(value)
        .ok()
        .and_then(|digits| digits.parse::<u64>().ok());
    // Room for the sums that parsers make: no real body comes near.
    number
        .filter(|length| *length <= i64::MAX as u64)
        .ok_or(HeadRefusal::ContentLength)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judge_lines(lines: &[&str]) -> Result<Framing, HeadRefusal> {
        judge(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes())
    }

    #[test]
    fn sound_requests_are_framed_by_their_headers() {
        use Framing::{Chunked, Length};
        let cases: &[(&[&str], Framing)] = &[
            (&["GET / HTTP/1.1", "Host: a"], Length(0)),
            (&["GET / HTTP/1.0", "Host: a"], Length(0)),
            (
                &["GET /a%20b?c=d HTTP/1.1", "host:a.example:8080"],
                Length(0),
            ),
            (&["GET / HTTP/1.1", "Host: [::1]:80"], Length(0)),
            (&["OPTIONS * HTTP/1.1", "Host: a"], Length(0)),
            (
                &["GET http://A.example/x HTTP/1.1", "Host: a.example"],
                Length(0),
            ),
            (&["GET http://a:80?x HTTP/1.1", "Host: a:80"], Length(0)),
            (
                &["POST / HTTP/1.1", "Host: a", "Content-Length: 007"],
                Length(7),
            ),
            (
                &["POST / HTTP/1.1", "Host: a", "Transfer-Encoding: Chunked"],
                Chunked,
            ),
        ];
        for (lines, framing) in cases {
            assert_eq!(judge_lines(lines), Ok(*framing), "{lines:?}");
        }
    }

    #[test]
    fn every_ambiguous_request_has_its_one_refusal() {
        use HeadRefusal as R;
        let cases: &[(&[&str], HeadRefusal)] = &[
            (&["GET / HTTP/1.1"], R::HostMissing),
            (&["GET / HTTP/1.0"], R::HostMissing),
            (&["GET / HTTP/1.1", "Host: a", "Host: a"], R::HostRepeated),
            (&["GET / HTTP/1.1", "Host: a, b"], R::HostMalformed),
            (&["GET / HTTP/1.1", "Host: u@a"], R::HostMalformed),
            (&["GET / HTTP/1.1", "Host: a/b"], R::HostMalformed),
            (&["GET / HTTP/1.1", "Host:"], R::HostMalformed),
            (&["GET / HTTP/1.1", "Host: a:"], R::HostMalformed),
            (&["GET / HTTP/1.1", "Host: a:99999"], R::HostMalformed),
            (&["GET / HTTP/1.1", "Host: a:+80"], R::HostMalformed),
            (&["GET / HTTP/1.1", "Host: [::1"], R::HostMalformed),
            (&["GET / HTTP/1.1", "Host: [::1]x"], R::HostMalformed),
            (&["GET / HTTP/1.1", "Host : a"], R::Malformed),
            (&["GET / HTTP/1.1", "Host: a", " folded"], R::Malformed),
            (&["GET / HTTP/1.1", "Host: a", "X: a\0b"], R::Malformed),
            (&["GET / HTTP/1.1", "Host: a", "X: a\rb"], R::Malformed),
            (&["GET / HTTP/1.1", "Host: a", "no colon"], R::Malformed),
            (&["GET / HTTP/1.1", "Host: a\nX: b"], R::BareLf),
            (&["GET / HTTP/2.0", "Host: a"], R::Version),
            (&["GET /", "Host: a"], R::Malformed),
            (&["CONNECT a:80 HTTP/1.1", "Host: a:80"], R::Connect),
            (&["GET * HTTP/1.1", "Host: a"], R::Target),
            (&["GET a HTTP/1.1", "Host: a"], R::Target),
            (&["GET /#f HTTP/1.1", "Host: a"], R::Target),
            (&["GET https://a/ HTTP/1.1", "Host: a"], R::Target),
            (&["GET http://b/ HTTP/1.1", "Host: a"], R::TargetHost),
            (&["GET http://u@a/ HTTP/1.1", "Host: a"], R::TargetHost),
            (&["GET http:///x HTTP/1.1", "Host: a"], R::TargetHost),
            (
                &[
                    "POST / HTTP/1.1",
                    "Host: a",
                    "Content-Length: 1",
                    "Transfer-Encoding: chunked",
                ],
                R::LengthAndCoding,
            ),
            (
                &[
                    "POST / HTTP/1.1",
                    "Host: a",
                    "Transfer-Encoding: chunked",
                    "Content-Length: 1",
                ],
                R::LengthAndCoding,
            ),
            (
                &[
                    "POST / HTTP/1.1",
                    "Host: a",
                    "Content-Length: 1",
                    "Content-Length: 1",
                ],
                R::ContentLengthRepeated,
            ),
            (
                &["POST / HTTP/1.1", "Host: a", "Content-Length: 1, 1"],
                R::ContentLength,
            ),
            (
                &["POST / HTTP/1.1", "Host: a", "Content-Length: +1"],
                R::ContentLength,
            ),
            (
                &["POST / HTTP/1.1", "Host: a", "Content-Length: -1"],
                R::ContentLength,
            ),
            (
                &["POST / HTTP/1.1", "Host: a", "Content-Length: 0x1"],
                R::ContentLength,
            ),
            (
                &["POST / HTTP/1.1", "Host: a", "Content-Length:"],
                R::ContentLength,
            ),
            (
                &[
                    "POST / HTTP/1.1",
                    "Host: a",
                    "Content-Length: 18446744073709551616",
                ],
                R::ContentLength,
            ),
            (
                &[
                    "POST / HTTP/1.1",
                    "Host: a",
                    "Content-Length: 18446744073709551615",
                ],
                R::ContentLength,
            ),
            (
                &["POST / HTTP/1.0", "Host: a", "Transfer-Encoding: chunked"],
                R::CodingInHttp10,
            ),
            (
                &[
                    "POST / HTTP/1.1",
                    "Host: a",
                    "Transfer-Encoding: gzip, chunked",
                ],
                R::TransferCodingUnknown,
            ),
            (
                &[
                    "POST / HTTP/1.1",
                    "Host: a",
                    "Transfer-Encoding: chunked, gzip",
                ],
                R::TransferEncoding,
            ),
            (
                &[
                    "POST / HTTP/1.1",
                    "Host: a",
                    "Transfer-Encoding: chunked, chunked",
                ],
                R::TransferEncoding,
            ),
            (
                &["POST / HTTP/1.1", "Host: a", "Transfer-Encoding: xchunked"],
                R::TransferEncoding,
            ),
            (
                &[
                    "POST / HTTP/1.1",
                    "Host: a",
                    "Transfer-Encoding: \u{b}chunked",
                ],
                R::Malformed,
            ),
            (
                &[
                    "POST / HTTP/1.1",
                    "Host: a",
                    "Transfer-Encoding: chunked",
                    "Transfer-Encoding: identity",
                ],
                R::TransferEncoding,
            ),
        ];
        for (lines, refusal) in cases {
            assert_eq!(judge_lines(lines), Err(*refusal), "{lines:?}");
        }
    }

    #[test]
    fn a_hundred_headers_pass_and_one_more_does_not() {
        let head = |count: usize| {
            let fillers = (1..count)
                .map(|i| format!("x-{i}: 1\r\n"))
                .collect::<String>();
            format!("GET / HTTP/1.1\r\nHost: a\r\n{fillers}\r\n")
        };
        assert_eq!(judge(head(100).as_bytes()), Ok(Framing::Length(0)));
        assert_eq!(
            judge(head(101).as_bytes()),
            Err(HeadRefusal::TooManyHeaders)
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = judge(&bytes);
        }

        #[test]
        fn what_is_almost_a_request_does_not_make_it_panic(
            target in "[ -~]{0,20}",
            host in "[ -~]{0,20}",
            coding in "[ -~]{0,20}",
        ) {
            let head = format!(
                "POST {target} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: {coding}\r\n\r\n"
            );
            let _ = judge(head.as_bytes());
        }
    }
}
