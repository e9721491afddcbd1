use super::*;

const HOUR_MS: i64 = 3_600_000;

/// A judge and the clocks that it looks at.
struct Watch {
    judge: Judge,
    wall_ms: i64,
    began: Instant,
    passed: Duration,
}

impl Watch {
    fn new() -> Self {
        Self {
            judge: Judge::default(),
            wall_ms: 1_700_000_000_000,
            began: Instant::now(),
            passed: Duration::ZERO,
        }
    }

    fn look_once(&mut self, offsets: &[i64], ahead: usize, stalled: bool) {
        self.passed += LOOK;
        let passed_ms = i64::try_from(self.passed.as_millis()).unwrap();
        let now = Reading {
            wall_ms: u64::try_from(self.wall_ms + passed_ms).unwrap(),
            instant: self.began + self.passed,
        };
        let others = Others {
            offsets: offsets.to_vec(),
            ahead,
        };
        self.judge.look(others, stalled, now);
    }

    /// Looks often enough for any verdict to count; how far ahead the clock is for which
    /// writes are refused.
    fn look(&mut self, offsets: &[i64]) -> Option<u64> {
        for _ in 0..2 * LOOKS {
            self.look_once(offsets, 0, false);
        }
        self.judge.refuses()
    }
}

#[test]
fn a_clock_ahead_of_most_others_is_ahead_and_any_other_is_not() {
    for (offsets, ahead_ms) in [
        (&[-HOUR_MS, -HOUR_MS + 3][..], Some(3_599_997)),
        (&[-501, -600], Some(501)),
        (&[-500, -HOUR_MS], None),
        (&[-HOUR_MS, 3], None),
        (&[HOUR_MS, HOUR_MS], None),
        (&[-HOUR_MS, -HOUR_MS, -HOUR_MS, 5], Some(3_600_000)),
        (&[i64::MIN, i64::MIN], Some(1 << 63)),
        (&[i64::MAX, i64::MAX], None),
    ] {
        assert_eq!(Watch::new().look(offsets), ahead_ms, "{offsets:?}");
    }
}

#[test]
fn of_two_clocks_and_of_two_halves_none_is_ahead() {
    for offsets in [&[-HOUR_MS][..], &[-HOUR_MS, -HOUR_MS, 0], &[]] {
        assert_eq!(Watch::new().look(offsets), None, "{offsets:?}");
    }
}

#[test]
fn a_verdict_counts_after_several_looks_and_not_those_of_a_stalled_process() {
    let ahead = [-700, -700];
    let mut watch = Watch::new();
    for stalled in [true, false] {
        for _ in 1..LOOKS {
            watch.look_once(&ahead, 0, false);
        }
        assert_eq!(watch.judge.ahead_ms(), None);
        watch.look_once(&ahead, 0, stalled);
    }
    assert_eq!(watch.judge.ahead_ms(), Some(700));
}

#[test]
fn it_is_announced_before_writes_are_refused() {
    let ahead = [-700, -700];
    let mut watch = Watch::new();
    for look in 1..2 * LOOKS {
        watch.look_once(&ahead, 0, false);
        assert_eq!(watch.judge.ahead_ms().is_some(), look >= LOOKS);
        assert_eq!(watch.judge.refuses(), None);
    }
    watch.look_once(&ahead, 0, false);
    assert_eq!(watch.judge.refuses(), Some(700));
}

/// Where every frame is late, every other clock seems behind, to everybody.
#[test]
fn where_more_than_half_find_themselves_ahead_nobody_refuses() {
    let late = [-900, -900, -900];
    let mut watch = Watch::new();
    for (others, refuses) in [(3, None), (2, None), (1, Some(900)), (3, None)] {
        for _ in 0..2 * LOOKS {
            watch.look_once(&late, others, false);
        }
        assert_eq!(watch.judge.refuses(), refuses, "{others} others");
    }
}

#[test]
fn a_clock_is_right_again_only_when_it_is_clearly_right() {
    let mut watch = Watch::new();
    assert_eq!(watch.look(&[-700, -700]), Some(700));
    assert_eq!(watch.look(&[-400, -400]), Some(700), "between the two");
    assert_eq!(watch.look(&[-250, -251]), None);
    assert_eq!(watch.look(&[-400, -400]), None, "between the two");
}

#[test]
fn who_loses_sight_of_the_others_goes_by_how_far_it_was_set_back() {
    for others in [&[][..], &[-HOUR_MS + 1_000_000]] {
        let mut watch = Watch::new();
        assert_eq!(watch.look(&[-HOUR_MS, -HOUR_MS]), Some(3_600_000));
        assert_eq!(watch.look(others), Some(3_600_000), "nothing has changed");
        watch.wall_ms -= HOUR_MS / 2;
        assert_eq!(watch.look(others), Some(3_600_000), "half of it is left");
        watch.wall_ms -= HOUR_MS / 2;
        assert_eq!(watch.look(others), None);
    }
}
