//! The join token: everything that a new node needs to find a cluster and be let in, on one line.
//!
//! `ba1.` and the base64url of these bytes; lengths come before what they measure, numbers are big-endian:
//!
//! ```text
//! 2  length of everything that follows, checksum included
//! 1  length of the cluster's name   …  name
//! 1  number of addresses, 1 to 8    …  each: 1 length, host:port
//! 2  length of the secret           …  secret
//! 8  blake3 of all bytes before, the first 8 of it
//! ```
//!
//! The length tells a token that was cut from one with a typing error, which the checksum finds. A token holds the
//! secret: whoever sees it can join.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use basic_membership::ClusterName;

use crate::config::{HostPort, PeerSecret};

/// What a token of this version begins with.
const PREFIX: &str = "ba1.";
/// What tokens of all versions begin with.
const FAMILY: &str = "ba";
/// Most addresses in a token.
pub const ADDRESSES_MAX: usize = 8;
/// Longest token, in characters; the secret alone may take 4 KiB.
const TOKEN_MAX: usize = 16 << 10;
const CHECKSUM_BYTES: usize = 8;

/// Name of the cluster, where it is, and its secret. `Debug` does not show the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    cluster: ClusterName,
    addresses: Vec<HostPort>,
    secret: PeerSecret,
}

/// Why a text is not a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is nothing.
    #[error("the token is empty; `basic-agent token` on a node of the cluster prints one")]
    Empty,
    /// It does not begin like one.
    #[error(
        "this is not a join token, which begins with \"{PREFIX}\"; `basic-agent token` on a node of the cluster prints one"
    )]
    NotAToken,
    /// A later version made it.
    #[error(
        "this token was made by a newer agent ({found}, this one knows ba1); install that version here too"
    )]
    Newer {
        /// What it begins with.
        found: String,
    },
    /// Its end is missing.
    #[error(
        "the token is cut off: {found} of {expected} characters are there; copy all of the line"
    )]
    Cut {
        /// How many characters there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// There is more than one token.
    #[error("the token has {extra} characters too many at its end; copy only the one line")]
    TooLong {
        /// How many.
        extra: usize,
    },
    /// A letter is wrong.
    #[error("the token has a typing error; copy it again, rather than typing it")]
    Mistyped,
    /// A character that no token has.
    #[error(
        "the token contains {found:?}, which no token does; copy it again, without quotes or line breaks"
    )]
    Character {
        /// The character.
        found: char,
    },
    /// What is in it makes no sense, though no character is wrong.
    #[error(
        "the token holds {what} that this agent cannot use; make another by `basic-agent token`"
    )]
    Content {
        /// What is wrong.
        what: &'static str,
    },
}

impl JoinToken {
    /// A token for this cluster.
    ///
    /// # Errors
    /// [`TokenError::Content`]: there is no address, or the secret is too long to be told.
    pub fn new(
        cluster: ClusterName,
        mut addresses: Vec<HostPort>,
        secret: PeerSecret,
    ) -> Result<Self, TokenError> {
        addresses.truncate(ADDRESSES_MAX);
        if addresses.is_empty() || addresses.iter().any(|a| a.to_string().len() > 255) {
            return Err(TokenError::Content {
                what: "no address, or one too long",
            });
        }
        if secret.expose().len() > 4096 {
            return Err(TokenError::Content {
                what: "a secret too long",
            });
        }
        Ok(Self {
            cluster,
            addresses,
            secret,
        })
    }

    /// The cluster to join.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// Peer ports of its nodes.
    pub fn addresses(&self) -> &[HostPort] {
        &self.addresses
    }

    /// Its secret.
    pub fn secret(&self) -> &PeerSecret {
        &self.secret
    }

    /// The token as one line, which is as secret as what it holds.
    pub fn expose(&self) -> String {
        let mut body = Vec::new();
        put_short(&mut body, self.cluster.as_str());
        // `new` has checked every length.
        body.push(u8::try_from(self.addresses.len()).unwrap_or(u8::MAX));
        for address in &self.addresses {
            put_short(&mut body, &address.to_string());
        }
        let secret = self.secret.expose().as_bytes();
        body.extend(
            u16::try_from(secret.len())
                .unwrap_or(u16::MAX)
                .to_be_bytes(),
        );
        body.extend(secret);

        let length = u16::try_from(body.len() + CHECKSUM_BYTES).unwrap_or(u16::MAX);
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend(body);
        let checksum = checksum(&bytes);
        bytes.extend(checksum);
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let encoded = encoded_part(text)?;
        if text.len() > TOKEN_MAX {
            return Err(TokenError::TooLong {
                extra: text.len() - TOKEN_MAX,
            });
        }
        let is_ours = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if let Some(found) = encoded.chars().find(|c| !is_ours(c)) {
            return Err(TokenError::Character { found });
        }
        let bytes = checked_bytes(encoded)?;
        let mut reader = Reader(bytes.as_slice());
        let token = reader.token().ok_or(TokenError::Content {
            what: "a name, an address or a secret",
        })?;
        if reader.0.is_empty() {
            Ok(token)
        } else {
            Err(TokenError::Content { what: "more" })
        }
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("cluster", &self.cluster)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// What follows the prefix, if it is that of this version.
fn encoded_part(text: &str) -> Result<&str, TokenError> {
    if text.is_empty() {
        return Err(TokenError::Empty);
    }
    if let Some(encoded) = text.strip_prefix(PREFIX) {
        return Ok(encoded);
    }
    let version = text
        .strip_prefix(FAMILY)
        .and_then(|rest| rest.split_once('.'))
        .map(|(version, _)| version);
    match version.and_then(|version| version.parse::<u16>().ok()) {
        Some(version) if version > 1 => Err(TokenError::Newer {
            found: format!("{FAMILY}{version}"),
        }),
        _ if PREFIX.starts_with(text) => Err(TokenError::Cut {
            found: text.len(),
            expected: PREFIX.len() + encoded_len(CHECKSUM_BYTES),
        }),
        _ => Err(TokenError::NotAToken),
    }
}

/// The bytes between length and checksum, once both have been found right.
fn checked_bytes(encoded: &str) -> Result<Vec<u8>, TokenError> {
    // The length is in the first characters, so that it can be read of a token that was cut anywhere behind them.
    let length = encoded
        .get(..4)
        .and_then(|head| URL_SAFE_NO_PAD.decode(head).ok())
        .and_then(|head| Some(u16::from_be_bytes([*head.first()?, *head.get(1)?])));
    let Some(length) = length.map(usize::from) else {
        return Err(TokenError::Cut {
            found: PREFIX.len() + encoded.len(),
            expected: PREFIX.len() + encoded_len(2 + CHECKSUM_BYTES),
        });
    };
    let expected = encoded_len(2 + length);
    if expected > TOKEN_MAX || length < CHECKSUM_BYTES {
        return Err(TokenError::Mistyped);
    }
    if encoded.len() < expected {
        return Err(TokenError::Cut {
            found: PREFIX.len() + encoded.len(),
            expected: PREFIX.len() + expected,
        });
    }
    if encoded.len() > expected {
        return Err(TokenError::TooLong {
            extra: encoded.len() - expected,
        });
    }
    let mut bytes = URL_SAFE_NO_PAD
        .decode(encoded)
        .map_err(|_| TokenError::Mistyped)?;
    let Some((checked, sum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
        return Err(TokenError::Mistyped);
    };
    if checksum(checked) != *sum {
        return Err(TokenError::Mistyped);
    }
    bytes.truncate(bytes.len() - CHECKSUM_BYTES);
    bytes.drain(..2);
    Ok(bytes)
}

/// Length of the base64 of so many bytes, without padding.
fn encoded_len(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(bytes).as_bytes();
    [a, b, c, d, e, f, g, h]
}

fn put_short(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    bytes.extend(text.as_bytes());
}

/// Takes fields off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn token(&mut self) -> Option<JoinToken> {
        let cluster = self.short()?.parse().ok()?;
        let count = self.byte()?;
        let addresses: Option<Vec<HostPort>> =
            (0..count).map(|_| self.short()?.parse().ok()).collect();
        let [high, low] = *self.take(2)?.first_chunk::<2>()?;
        let secret = self.take(u16::from_be_bytes([high, low]).into())?;
        let secret = PeerSecret::parse(std::str::from_utf8(secret).ok()?, "the token").ok()?;
        JoinToken::new(cluster, addresses?, secret).ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn short(&mut self) -> Option<&'a str> {
        let length = self.byte()?;
        std::str::from_utf8(self.take(length.into())?).ok()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ring::tests::secret;
    use super::*;

    fn token() -> JoinToken {
        let addresses = ["10.0.0.1:9400", "basic.example.org:9400", "[fd77::1]:9400"];
        let addresses = addresses.map(|a| a.parse().unwrap()).to_vec();
        JoinToken::new(
            "jobfirst-cluster-1".parse().unwrap(),
            addresses,
            secret("s"),
        )
        .unwrap()
    }

    #[test]
    fn a_token_is_one_line_and_read_as_it_was_made() {
        let text = token().expose();
        assert!(
            text.starts_with("ba1.") && !text.contains(char::is_whitespace),
            "{text}"
        );
        assert_eq!(text.parse(), Ok(token()));
        assert_eq!(format!("  {text}\n").parse(), Ok(token()));
        assert!(!format!("{:?}", token()).contains("s--"));
    }

    #[test]
    fn what_is_wrong_with_a_token_is_told() {
        let good = token().expose();
        let cases: [(&str, String, &str); 12] = [
            ("nothing", String::new(), "empty"),
            ("another thing", "hello".to_owned(), "not a join token"),
            ("a secret", "0123456789abcdef".repeat(4), "not a join token"),
            (
                "a newer version",
                good.replacen("ba1.", "ba2.", 1),
                "newer agent (ba2",
            ),
            ("half of it", good[..good.len() / 2].to_owned(), "cut off"),
            (
                "without the last character",
                good[..good.len() - 1].to_owned(),
                "cut off",
            ),
            ("the prefix alone", "ba1.".to_owned(), "cut off"),
            ("a part of the prefix", "ba".to_owned(), "cut off"),
            ("twice", format!("{good}{good}"), "no token does"),
            (
                "something appended",
                format!("{good}AAAA"),
                "4 characters too many",
            ),
            ("in quotes", format!("{good}\""), "no token does"),
            (
                "endless",
                format!("ba1.{}", "A".repeat(1 << 20)),
                "too many",
            ),
        ];
        for (what, text, words) in cases {
            let error = text.parse::<JoinToken>().expect_err(what).to_string();
            assert!(error.contains(words), "{what}: {error}");
        }
    }

    #[test]
    fn every_single_wrong_character_is_found() {
        let good = token().expose();
        for place in PREFIX.len()..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[place] = if bad[place] == b'x' { b'y' } else { b'x' };
            let bad = String::from_utf8(bad).unwrap();
            assert!(bad.parse::<JoinToken>().is_err(), "{place}");
        }
    }

    #[test]
    fn every_cut_is_found_and_called_one() {
        let good = token().expose();
        for length in 1..good.len() {
            let error = good[..length].parse::<JoinToken>().unwrap_err();
            assert!(
                matches!(error, TokenError::Cut { .. }),
                "{length}: {error:?}"
            );
        }
    }

    #[test]
    fn content_that_cannot_be_used_is_refused_though_its_checksum_is_right() {
        let seal = |body: &[u8]| {
            let length = u16::try_from(body.len() + CHECKSUM_BYTES).unwrap();
            let mut bytes = [&length.to_be_bytes(), body].concat();
            bytes.extend(checksum(&bytes));
            format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
        };
        for body in [
            &b""[..],
            b"\x01c\x00\x00\x20",
            b"\x01c\xff",
            b"\xffc",
            b"\x01c\x01\x03a:b",
        ] {
            let error = seal(body).parse::<JoinToken>().unwrap_err();
            assert!(
                matches!(error, TokenError::Content { .. }),
                "{body:?}: {error:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(ba1\\.)?[A-Za-z0-9_.-]{0,80}") {
            let _ = text.parse::<JoinToken>();
        }
    }
}
