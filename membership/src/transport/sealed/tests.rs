//! What is sealed, what is opened, and what is not.

use proptest::prelude::*;

use super::packing::{pack, unpack};
use super::*;
use crate::transport::keyring::GossipKey;

fn key(seed: u8) -> GossipKey {
    GossipKey::from_bytes([seed; 32])
}

fn ring(seed: u8) -> Keyring {
    Keyring::new(key(seed))
}

/// Seals with the key in use of the keyring.
fn sealed(ring: &Keyring, envelope: &Envelope, body: &[u8]) -> Vec<u8> {
    seal(&ring.sealing(&[]), envelope, body).unwrap()
}

fn envelope() -> Envelope {
    Envelope {
        kind: FrameKind::Gossip,
        sender: "n1".parse().unwrap(),
        incarnation: Incarnation(1_790_000_000_000),
        sequence: 7,
        cluster: "jobfirst-cluster-1".parse().unwrap(),
        recipient: Some("n2".parse().unwrap()),
        address: ([10, 0, 0, 1], 9400).into(),
        clock_ms: 1_790_000_000_500,
    }
}

#[test]
fn a_frame_of_another_secret_is_told_from_an_altered_one() {
    let frame = sealed(&ring(1), &envelope(), b"hello");
    assert!(matches!(
        open(&ring(2), &frame),
        Err(OpenError::UnknownKey(_))
    ));
    let mut altered = frame.clone();
    *altered.last_mut().unwrap() ^= 1;
    assert_eq!(open(&ring(1), &altered), Err(OpenError::Forged));
    assert_eq!(open(&ring(1), b"GET / HTTP/1.1"), Err(OpenError::NotGossip));
}

#[test]
fn a_frame_sealed_before_a_rotation_opens_after_it() {
    let (old, new) = (key(1), key(2));
    let here = Keyring::new(old.clone());
    let frame = sealed(&Keyring::new(old), &envelope(), b"x");
    here.install(new.clone()).unwrap();
    here.use_key(new.id()).unwrap();
    assert_eq!(open(&here, &frame).unwrap().envelope, envelope());
}

#[test]
fn a_frame_tells_the_key_that_its_sender_uses_whichever_sealed_it() {
    let here = ring(1);
    here.install(key(2)).unwrap();
    let frame = seal(&here.sealing(&[key(2).id()]), &envelope(), b"x").unwrap();
    let keys = open(&ring(2), &frame).unwrap().keys;
    assert_eq!(keys.sealed_with, key(2).id());
    assert_eq!(keys.in_use, key(1).id());
}

#[test]
fn nothing_of_the_envelope_shows_in_the_frame() {
    let frame = sealed(&ring(1), &envelope(), b"body text");
    for secret in [&b"jobfirst"[..], b"body text"] {
        assert!(!frame.windows(secret.len()).any(|window| window == secret));
    }
}

#[test]
fn a_body_that_repeats_itself_takes_less_room_and_any_length_that_can_be_is_taken() {
    let frame = sealed(&ring(1), &envelope(), &[7; BODY_LEN_MAX]);
    assert!(frame.len() < 1000, "{}", frame.len());
    assert_eq!(open(&ring(1), &frame).unwrap().body, [7; BODY_LEN_MAX]);
    let too_long = seal(&ring(1).sealing(&[]), &envelope(), &[7; BODY_LEN_MAX + 1]);
    assert_eq!(too_long, Err(SealError::TooLong));
}

#[test]
fn a_body_is_packed_where_its_frame_would_not_fit_a_datagram() {
    let envelope = envelope();
    let names = "n1".len() + "jobfirst-cluster-1".len() + "n2".len();
    let room = DATAGRAM_LEN_MAX - OVERHEAD - names;
    let len = |body: usize| sealed(&ring(1), &envelope, &vec![7; body]).len();
    assert_eq!(len(room), DATAGRAM_LEN_MAX);
    assert!(len(room + 1) < DATAGRAM_LEN_MAX / 2, "{}", len(room + 1));
}

#[test]
fn a_packed_body_is_as_long_as_it_says_or_refused() {
    let packed = pack(&[7; 1000]).unwrap();
    assert_eq!(unpack(&packed).unwrap(), [7; 1000]);
    for said in [0u16, 1, 999, 1001, u16::MAX] {
        let lie = [&said.to_be_bytes()[..], &packed[2..]].concat();
        assert_eq!(unpack(&lie), None, "{said}");
    }
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 19).unwrap();
    let bomb = [&[0xFF, 0x00], &bomb[..]].concat();
    assert_eq!(unpack(&bomb), None);
}

proptest! {
    #[test]
    fn what_is_sealed_opens_to_the_same(
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..2000),
            (any::<u8>(), 0usize..BODY_LEN_MAX).prop_map(|(byte, len)| vec![byte; len]),
        ],
        sequence in any::<u64>(),
        clock_ms in any::<u64>(),
        other in any::<bool>(),
        port in any::<u16>(),
        v6 in any::<bool>(),
    ) {
        let ip: IpAddr = if v6 { Ipv6Addr::LOCALHOST.into() } else { [10, 0, 0, 1].into() };
        let envelope = Envelope {
            sequence,
            clock_ms,
            address: (ip, port).into(),
            kind: if other { FrameKind::OtherCluster } else { FrameKind::Gossip },
            recipient: if other { None } else { Some("n2".parse().unwrap()) },
            ..envelope()
        };
        let opened = open(&ring(1), &sealed(&ring(1), &envelope, &body)).unwrap();
        prop_assert_eq!(opened.envelope, envelope);
        prop_assert_eq!(opened.body, body);
    }

    #[test]
    fn any_changed_bit_is_refused(
        body in prop::collection::vec(any::<u8>(), 0..64),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let mut frame = sealed(&ring(1), &envelope(), &body);
        let at = at.index(frame.len());
        frame[at] ^= 1 << bit;
        prop_assert!(open(&ring(1), &frame).is_err());
    }

    #[test]
    fn any_cut_or_grown_frame_is_refused(
        keep in any::<prop::sample::Index>(),
        extra in prop::collection::vec(any::<u8>(), 1..9),
    ) {
        let frame = sealed(&ring(1), &envelope(), b"body");
        prop_assert!(open(&ring(1), &frame[..keep.index(frame.len())]).is_err());
        prop_assert!(open(&ring(1), &[frame, extra].concat()).is_err());
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(open(&ring(1), &bytes).is_err());
    }

    #[test]
    fn an_envelope_of_random_bytes_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        if let Some((_, _, _, rest)) = read_envelope(&bytes) {
            prop_assert!(rest.len() <= bytes.len());
        }
        if let Some(body) = unpack(&bytes) {
            prop_assert!(body.len() <= BODY_LEN_MAX);
        }
    }
}
