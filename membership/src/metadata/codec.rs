//! The encoding of metadata as keys and values of gossip.
//!
//! | key | value |
//! |---|---|
//! | `state` | the announced state in kebab case |
//! | `protocol` | a decimal number |
//! | `api` | `address:port`, or empty |
//! | `app-address` | `host:port`, or empty |
//! | `app-health` | `up MS` or `down MS [reason]` |
//! | `weight` | a decimal number |
//! | `labels` | a JSON object of strings, keys in order |
//! | `replica` | text, or empty |
//! | `clock` | `ahead`, or empty |
//! | `joined` | a decimal number |
//! | `keys` | ids of keys, each of eight hexadecimal digits, by single spaces |
//! | `format` | `1` |
//!
//! Every key is always there, and none is ever deleted: an absent fact is an
//! empty value. So gossip needs no tombstones, and a message that carries one
//! is refused before the library sees it. `format` is written last, and gossip
//! delivers a node's keys in the order they were written; therefore a node whose
//! `format` has arrived is complete.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use thiserror::Error;

use super::{
    AnnouncedState, AppInfo, LABEL_NAME_LEN_MAX, LABEL_VALUE_LEN_MAX, LABELS_LEN_MAX, LABELS_MAX,
    METADATA_LEN_MAX, Metadata, REASON_LEN_MAX, REPLICA_LEN_MAX, labels_len,
};
use crate::directive::JoinMark;
use crate::error::MetadataError;
use crate::transport::keyring::{KEYS_MAX, KeyId};

const STATE: &str = "state";
const PROTOCOL: &str = "protocol";
const API: &str = "api";
const APP_ADDRESS: &str = "app-address";
const APP_HEALTH: &str = "app-health";
const WEIGHT: &str = "weight";
const LABELS: &str = "labels";
const REPLICA: &str = "replica";
const CLOCK: &str = "clock";
const JOINED: &str = "joined";
const KEYS: &str = "keys";
const FORMAT: &str = "format";

const FORMAT_VERSION: &str = "1";

/// Why a peer's value was not understood: the key and nothing of the value,
/// which is not ours to repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the value of {key:?} is not valid")]
pub(crate) struct DecodeError {
    pub(crate) key: &'static str,
}

/// All keys and values, in the order in which they must be written first.
pub(crate) fn encode(metadata: &Metadata) -> Result<Vec<(&'static str, String)>, MetadataError> {
    check(metadata)?;
    let app = &metadata.app;
    let health = match (app.healthy, &app.reason) {
        (healthy, None) => format!("{} {}", if healthy { "up" } else { "down" }, app.since_ms),
        (healthy, Some(reason)) => {
            format!(
                "{} {} {reason}",
                if healthy { "up" } else { "down" },
                app.since_ms
            )
        }
    };
    let encoded = vec![
        (STATE, metadata.announced.as_str().to_owned()),
        (PROTOCOL, metadata.protocol.to_string()),
        (
            API,
            metadata
                .api
                .map_or(String::new(), |address| address.to_string()),
        ),
        (APP_ADDRESS, app.address.clone().unwrap_or_default()),
        (APP_HEALTH, health),
        (WEIGHT, metadata.weight.to_string()),
        (LABELS, encode_labels(&metadata.labels)),
        (REPLICA, metadata.replica.clone().unwrap_or_default()),
        (CLOCK, encode_clock(metadata.clock_ahead).to_owned()),
        (JOINED, metadata.joined.to_string()),
        (KEYS, encode_keys(&metadata.keys)),
        (FORMAT, FORMAT_VERSION.to_owned()),
    ];
    let len: usize = encoded
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if len > METADATA_LEN_MAX {
        return Err(MetadataError::TooLarge {
            len,
            max: METADATA_LEN_MAX,
        });
    }
    Ok(encoded)
}

/// The metadata of a node whose values `value` looks up, or `None` while not
/// all of them have arrived.
pub(crate) fn decode<'a>(
    value: impl Fn(&str) -> Option<&'a str>,
) -> Result<Option<Metadata>, DecodeError> {
    match value(FORMAT) {
        None => return Ok(None),
        Some(FORMAT_VERSION) => {}
        Some(_) => return Err(DecodeError { key: FORMAT }),
    }
    let field = |key: &'static str| value(key).ok_or(DecodeError { key });
    let (healthy, since_ms, reason) =
        decode_health(field(APP_HEALTH)?).ok_or(DecodeError { key: APP_HEALTH })?;
    let metadata = Metadata {
        announced: decode_state(field(STATE)?).ok_or(DecodeError { key: STATE })?,
        protocol: decode_number(field(PROTOCOL)?).ok_or(DecodeError { key: PROTOCOL })?,
        api: match field(API)? {
            "" => None,
            text => Some(
                text.parse::<SocketAddr>()
                    .map_err(|_| DecodeError { key: API })?,
            ),
        },
        app: AppInfo {
            address: optional(field(APP_ADDRESS)?),
            healthy,
            since_ms,
            reason,
        },
        weight: decode_number(field(WEIGHT)?).ok_or(DecodeError { key: WEIGHT })?,
        labels: decode_labels(field(LABELS)?).ok_or(DecodeError { key: LABELS })?,
        replica: optional(field(REPLICA)?),
        clock_ahead: decode_clock(field(CLOCK)?).ok_or(DecodeError { key: CLOCK })?,
        joined: decode_number(field(JOINED)?)
            .map(JoinMark)
            .ok_or(DecodeError { key: JOINED })?,
        keys: decode_keys(field(KEYS)?).ok_or(DecodeError { key: KEYS })?,
    };
    match check(&metadata) {
        Ok(()) => Ok(Some(metadata)),
        Err(MetadataError::Field { field, .. }) => Err(DecodeError { key: field }),
        Err(MetadataError::TooLarge { .. } | MetadataError::Stopped) => {
            Err(DecodeError { key: LABELS })
        }
    }
}

/// The rules on single fields, the same for what is sent and what arrives.
fn check(metadata: &Metadata) -> Result<(), MetadataError> {
    let field = |field, what| Err(MetadataError::Field { field, what });
    let plain = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
    if let Some(address) = &metadata.app.address
        && !is_host_and_port(address)
    {
        return field(APP_ADDRESS, "expected host:port");
    }
    if let Some(reason) = &metadata.app.reason
        && (reason.len() > REASON_LEN_MAX || !plain(reason) || reason.trim() != reason)
    {
        return field(
            APP_HEALTH,
            "the reason must be 1 to 120 bytes of plain, trimmed text",
        );
    }
    if let Some(replica) = &metadata.replica
        && (replica.len() > REPLICA_LEN_MAX || !plain(replica))
    {
        return field(REPLICA, "must be 1 to 128 bytes of plain text");
    }
    if metadata.labels.len() > LABELS_MAX {
        return field(LABELS, "at most 16 labels are allowed");
    }
    if metadata.joined > JoinMark::MAX {
        return field(
            JOINED,
            "must be milliseconds since 1970 of a clock that is right",
        );
    }
    if metadata.keys.len() > KEYS_MAX {
        return field(KEYS, "at most 8 keys can be installed");
    }
    for (name, value) in &metadata.labels {
        if name.len() > LABEL_NAME_LEN_MAX || !plain(name) {
            return field(LABELS, "a label's name must be 1 to 63 bytes of plain text");
        }
        if value.len() > LABEL_VALUE_LEN_MAX || value.chars().any(char::is_control) {
            return field(
                LABELS,
                "a label's value must be at most 128 bytes of plain text",
            );
        }
    }
    if labels_len(&metadata.labels) > LABELS_LEN_MAX {
        return field(LABELS, "all labels together are at most 1024 bytes as JSON");
    }
    Ok(())
}

fn decode_state(text: &str) -> Option<AnnouncedState> {
    let mut all = AnnouncedState::ALL.into_iter();
    all.find(|state| state.as_str() == text)
}

/// Only the shape that `to_string` gives: no sign, no leading zero.
fn decode_number<N: std::str::FromStr + ToString>(text: &str) -> Option<N> {
    let number: N = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn decode_health(text: &str) -> Option<(bool, u64, Option<String>)> {
    let mut parts = text.splitn(3, ' ');
    let healthy = match parts.next()? {
        "up" => true,
        "down" => false,
        _ => return None,
    };
    let since_ms = decode_number(parts.next()?)?;
    Some((healthy, since_ms, parts.next().map(str::to_owned)))
}

pub(super) fn encode_labels(labels: &BTreeMap<String, String>) -> String {
    serde_json::to_string(labels).expect("strings are valid JSON")
}

fn decode_labels(text: &str) -> Option<BTreeMap<String, String>> {
    // The length is bounded before the parser allocates anything.
    if text.len() > METADATA_LEN_MAX {
        return None;
    }
    serde_json::from_str(text).ok()
}

fn encode_clock(ahead: bool) -> &'static str {
    if ahead { "ahead" } else { "" }
}

fn decode_clock(text: &str) -> Option<bool> {
    let mut both = [true, false].into_iter();
    both.find(|ahead| encode_clock(*ahead) == text)
}

fn encode_keys(keys: &[KeyId]) -> String {
    let names: Vec<String> = keys.iter().map(KeyId::to_string).collect();
    names.join(" ")
}

/// Only the shape that [`encode_keys`] gives: lower case, single spaces.
fn decode_keys(text: &str) -> Option<Vec<KeyId>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let names = text.split(' ').take(KEYS_MAX + 1);
    let keys: Vec<KeyId> = names.map(|name| name.parse().ok()).collect::<Option<_>>()?;
    (encode_keys(&keys) == text).then_some(keys)
}

fn optional(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn is_host_and_port(text: &str) -> bool {
    if text
        .parse::<SocketAddr>()
        .is_ok_and(|address| address.port() != 0)
    {
        return true;
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let host_ok = (1..=253).contains(&host.len())
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    host_ok && decode_number::<u16>(port).is_some_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn lookup<'a>(map: &'a HashMap<String, String>) -> impl Fn(&str) -> Option<&'a str> {
        |key| map.get(key).map(String::as_str)
    }

    fn to_map(encoded: Vec<(&'static str, String)>) -> HashMap<String, String> {
        encoded
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }

    fn states() -> impl Strategy<Value = AnnouncedState> {
        prop::sample::select(&AnnouncedState::ALL[..])
    }

    prop_compose! {
        fn valid_metadata()(
            announced in states(),
            protocol in any::<u16>(),
            api in prop::option::of(any::<SocketAddr>()),
            address in prop::option::of("[a-z0-9.-]{1,20}:[1-9][0-9]{0,3}"),
            healthy in any::<bool>(),
            since_ms in any::<u64>(),
            reason in prop::option::of("[a-zé]([a-zé ]{0,30}[a-zé])?"),
            weight in any::<u32>(),
            labels in prop::collection::btree_map("[a-z\"\\\\]{1,10}", "[^\\p{Cc}]{0,10}", 0..8),
            replica in prop::option::of("[^\\p{Cc}]{1,20}"),
            clock_ahead in any::<bool>(),
            joined in 0..=JoinMark::MAX.0,
            keys in prop::collection::vec(any::<[u8; 4]>(), 0..=KEYS_MAX),
        ) -> Metadata {
            let api = api.map(|address| SocketAddr::new(address.ip(), address.port()));
            Metadata {
                announced, protocol, api,
                app: AppInfo { address, healthy, since_ms, reason },
                weight, labels, replica, clock_ahead,
                joined: JoinMark(joined),
                keys: keys.into_iter().map(KeyId).collect(),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_the_same(metadata in valid_metadata()) {
            let map = to_map(encode(&metadata).unwrap());
            prop_assert_eq!(decode(lookup(&map)), Ok(Some(metadata)));
        }

        #[test]
        fn a_prefix_of_the_keys_is_not_yet_a_member(
            metadata in valid_metadata(),
            kept in 0usize..12,
        ) {
            let mut encoded = encode(&metadata).unwrap();
            encoded.truncate(kept);
            prop_assert_eq!(decode(lookup(&to_map(encoded))), Ok(None));
        }

        #[test]
        fn no_value_of_a_peer_panics(
            metadata in valid_metadata(),
            key in prop::sample::select(vec![
                STATE, PROTOCOL, API, APP_ADDRESS, APP_HEALTH, WEIGHT, LABELS, REPLICA, CLOCK, JOINED,
                KEYS, FORMAT,
            ]),
            value in ".{0,200}",
        ) {
            let mut map = to_map(encode(&metadata).unwrap());
            map.insert(key.to_owned(), value);
            // Whatever is accepted must obey the rules that we obey ourselves.
            if let Ok(Some(decoded)) = decode(lookup(&map)) {
                prop_assert_eq!(check(&decoded), Ok(()));
            }
        }
    }

    #[test]
    fn a_value_that_is_wrong_names_its_key() {
        let good = to_map(encode(&Metadata::new(1)).unwrap());
        for (key, value) in [
            (STATE, "asleep"),
            (PROTOCOL, "65536"),
            (PROTOCOL, "+1"),
            (API, "nowhere"),
            (APP_ADDRESS, "host:0"),
            (APP_ADDRESS, "http://evil/"),
            (APP_HEALTH, "up"),
            (APP_HEALTH, "up 01"),
            (WEIGHT, "-1"),
            (LABELS, "[1]"),
            (LABELS, "{\"a\":1}"),
            (CLOCK, "behind"),
            (JOINED, "-1"),
            (JOINED, "281474976710656"),
            (KEYS, "0a"),
            (KEYS, "0A0a0a0a"),
            (KEYS, "0a0a0a0a "),
            (FORMAT, "2"),
        ] {
            let mut map = good.clone();
            map.insert(key.to_owned(), value.to_owned());
            assert_eq!(
                decode(lookup(&map)),
                Err(DecodeError { key }),
                "{key} = {value}"
            );
        }
    }

    #[test]
    fn a_node_whose_format_has_arrived_must_have_every_key() {
        let whole = encode(&Metadata::new(1)).unwrap();
        for (key, _) in whole.iter().filter(|(key, _)| *key != FORMAT) {
            let mut map = to_map(whole.clone());
            map.remove(*key);
            assert_eq!(decode(lookup(&map)), Err(DecodeError { key }));
        }
    }

    /// A value, the last to be filled up, for each of as many labels as there can be.
    fn labels_of(len: usize) -> BTreeMap<String, String> {
        let mut labels: BTreeMap<String, String> = (10..10 + LABELS_MAX)
            .map(|name| (name.to_string(), String::new()))
            .collect();
        let mut left = len - labels_len(&labels);
        for value in labels.values_mut() {
            *value = "x".repeat(left.min(LABEL_VALUE_LEN_MAX));
            left -= value.len();
        }
        assert_eq!(labels_len(&labels), len);
        labels
    }

    #[test]
    fn labels_beyond_the_limits_are_refused_before_they_are_announced() {
        let mut metadata = Metadata::new(1);
        metadata.labels = labels_of(LABELS_LEN_MAX);
        encode(&metadata).unwrap();
        let mut many = metadata.clone();
        many.labels.insert("one-more".to_owned(), String::new());
        metadata.labels = labels_of(LABELS_LEN_MAX + 1);
        for refused in [many, metadata] {
            assert!(matches!(
                encode(&refused),
                Err(MetadataError::Field { field: LABELS, .. })
            ));
        }
    }

    #[test]
    fn whatever_a_node_comes_to_announce_fits_beside_the_longest_labels() {
        let host = [63, 63, 63, 61].map(|len| "h".repeat(len)).join(".");
        let metadata = Metadata {
            announced: AnnouncedState::CatchingUp,
            protocol: u16::MAX,
            api: Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535")
                .map(|text| text.parse().unwrap()),
            app: AppInfo {
                address: Some(format!("{host}:65535")),
                healthy: false,
                since_ms: u64::MAX,
                reason: Some("r".repeat(REASON_LEN_MAX)),
            },
            weight: u32::MAX,
            labels: labels_of(LABELS_LEN_MAX),
            replica: Some("r".repeat(REPLICA_LEN_MAX)),
            clock_ahead: true,
            joined: JoinMark::MAX,
            keys: vec![KeyId([0xFF; 4]); KEYS_MAX],
        };
        let map = to_map(encode(&metadata).unwrap());
        assert_eq!(decode(lookup(&map)), Ok(Some(metadata)));
    }
}
