//! A node whose clock is ahead takes no writes.
//!
//! A clock decides between writes that did not know of each other, and the one that is
//! ahead wins (`basic_sync`, `protocol/ahead.rs`). A node that is far ahead of the others
//! would win over what they wrote later, so it takes no writes until it is right again; it
//! goes on reading, replicating and carrying requests. A node that is behind only loses
//! such races, until it has seen what it lost to: that is a finding, and no reason to stop.
//!
//! In go the live members' clocks against this one's, as gossip measures them. This clock
//! is ahead where **more than half** of all clocks, its own among them, are more than
//! 500 ms behind it, and right where more than half are not more than
//! 250 ms behind it. Between the two, and where there is nobody to compare with,
//! nothing is known, and what was decided stays. Hence:
//!
//! - Of two nodes that differ neither refuses: the one ahead cannot be told from one that
//!   is behind, and a cluster that takes no writes anywhere is worse than a race that the
//!   wrong one may win. Both say so. The same holds for two equal halves.
//! - A node that starts alone believes its clock.
//! - A node that refuses and then loses sight of the others knows by how much it was ahead,
//!   and that its clock is right once it has been set back by as much.
//!
//! A verdict counts after four looks in a row, and not while this process has been
//! stalled: then frames have waited for it, and every other clock seems behind. (Membership
//! goes by the frames that waited least.) The same is seen where all frames are long on their way, but **by every node**. Therefore a node
//! first announces that it finds itself ahead, and refuses only if it is not one of more
//! than half that do: more than half of the clocks cannot be ahead of more than half.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use basic_membership::{Cluster, Members};
use basic_sync::net::Handle;
use tokio::time::{Duration, MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::health::millis;

/// Under this name writes are held back.
const HOLDER: &str = "clock";
/// A clock further ahead of most others is too far ahead.
pub const AHEAD_MAX_MS: i64 = 500;
/// One no further ahead is right again.
const RIGHT_MS: i64 = 250;
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// Looks with the same verdict until it counts; and looks until what the others announce
/// has arrived.
const LOOKS: u8 = 4;
/// The reason is told anew when the clock has moved by so much.
const NEWS_MS: u64 = 1_000;

/// This node's clock is ahead, and no writes are taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnClockAhead {
    /// How far ahead of the median of all clocks, in milliseconds.
    pub ahead_ms: u64,
    /// Since when that is known, by this wrong clock.
    pub since: SystemTime,
}

impl fmt::Display for OwnClockAhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "this node's clock is {} ms ahead of most others', so it takes no writes, which would win over newer ones; \
             set its clock right (NTP; `timedatectl` shows the state), and it takes writes again by itself",
            self.ahead_ms
        )
    }
}

/// Keeps writes back while this node's clock is ahead. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ClockGuard {
    ahead: Arc<Mutex<Option<OwnClockAhead>>>,
}

impl ClockGuard {
    /// Why no writes are taken here, if so.
    pub fn ahead(&self) -> Option<OwnClockAhead> {
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the clocks for as long as the agent runs.
    pub async fn watch(self, cluster: Cluster, replica: Handle) {
        let mut judge = Judge::default();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let stalled = cluster.diagnostics().removals_held;
            let now = Reading {
                wall_ms: millis(SystemTime::now()),
                instant: Instant::now(),
            };
            judge.look(Others::of(&cluster.members()), stalled, now);
            announce(&cluster, judge.ahead_ms().is_some()).await;
            self.tell(judge.refuses(), &replica);
        }
    }

    /// Holds writes back, or lets them pass, and says so once.
    fn tell(&self, refuses: Option<u64>, replica: &Handle) {
        let mut told = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        match (*told, refuses) {
            (None, None) => return,
            (Some(known), Some(ms)) if known.ahead_ms.abs_diff(ms) <= NEWS_MS => return,
            (Some(_), None) => {
                *told = None;
                replica.allow_writes(HOLDER);
                info!("this node's clock is right again; it takes writes");
                return;
            }
            (None, Some(ahead_ms)) => error!(
                ahead_ms,
                "this node's clock is ahead of most others'; it takes no writes until that is set right"
            ),
            (Some(_), Some(_)) => {}
        }
        let since = told.map_or_else(SystemTime::now, |known| known.since);
        *told = refuses.map(|ahead_ms| OwnClockAhead { ahead_ms, since });
        if let Some(ahead) = *told {
            replica.refuse_writes(HOLDER, &ahead.to_string());
        }
    }
}

async fn announce(cluster: &Cluster, clock_ahead: bool) {
    if cluster.metadata().clock_ahead == clock_ahead {
        return;
    }
    let announced = cluster.set_metadata(|metadata| metadata.clock_ahead = clock_ahead);
    if let Err(error) = announced.await {
        warn!(%error, "what this node makes of its clock could not be announced");
    }
}

/// The other live members.
#[derive(Clone, Debug, Default)]
struct Others {
    /// Their clocks minus this one's, in milliseconds.
    offsets: Vec<i64>,
    /// How many find themselves ahead.
    ahead: usize,
}

impl Others {
    fn of(members: &Members) -> Self {
        let mut found = Self::default();
        let others = members.iter().filter(|member| !member.is_self);
        for member in others.filter(|member| member.live) {
            found
                .offsets
                .extend(member.clock_offset.map(|offset| offset.0));
            found.ahead += usize::from(member.metadata.clock_ahead);
        }
        found
    }
}

/// What this node's two clocks showed at one moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    wall_ms: u64,
    instant: Instant,
}

impl Reading {
    /// By how many milliseconds the wall clock was set ahead since an earlier reading.
    fn stepped_since(self, earlier: Self) -> i64 {
        let wall = i128::from(self.wall_ms) - i128::from(earlier.wall_ms);
        let passed = self.instant.duration_since(earlier.instant).as_millis();
        let stepped = wall - i128::try_from(passed).unwrap_or(i128::MAX);
        i64::try_from(stepped).unwrap_or(if stepped < 0 { i64::MIN } else { i64::MAX })
    }
}

/// What one look says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// So many milliseconds ahead of the median.
    Ahead(u64),
    Right,
    Unknown,
}

/// What was decided, and what recent looks say to it.
#[derive(Debug, Default)]
struct Judge {
    /// This clock is ahead: by how much when it could last be told, and when that was.
    ahead: Option<(u64, Reading)>,
    /// Looks in a row that say otherwise.
    against: u8,
    /// Looks since it is known to be ahead.
    announced: u8,
    /// No writes are to be taken.
    refuses: bool,
}

impl Judge {
    fn ahead_ms(&self) -> Option<u64> {
        self.ahead.map(|(ahead_ms, _)| ahead_ms)
    }

    /// How far ahead the clock is, if no writes are to be taken for it.
    fn refuses(&self) -> Option<u64> {
        self.ahead_ms().filter(|_| self.refuses)
    }

    fn look(&mut self, others: Others, stalled: bool, now: Reading) {
        if stalled {
            self.against = 0;
            return;
        }
        let clocks = others.offsets.len() + 1;
        let verdict = match compare(others.offsets) {
            Verdict::Unknown => self.reckon(now),
            verdict => verdict,
        };
        match (verdict, self.ahead) {
            (Verdict::Ahead(ahead_ms), Some(_)) => {
                self.against = 0;
                self.ahead = Some((ahead_ms, now));
                self.announced = self.announced.saturating_add(1);
                if self.announced >= LOOKS {
                    self.refuses = 2 * (others.ahead + 1) <= clocks;
                }
            }
            (Verdict::Ahead(ahead_ms), None) => self.turn(Some((ahead_ms, now))),
            (Verdict::Right, Some(_)) => self.turn(None),
            (Verdict::Right, None) | (Verdict::Unknown, _) => self.against = 0,
        }
    }

    /// Where the others do not tell, a clock that was ahead is right once it was set back.
    fn reckon(&self, now: Reading) -> Verdict {
        let Some((ahead_ms, then)) = self.ahead else {
            return Verdict::Unknown;
        };
        let ahead_ms = i64::try_from(ahead_ms).unwrap_or(i64::MAX);
        match ahead_ms.saturating_add(now.stepped_since(then)) {
            left if left <= RIGHT_MS => Verdict::Right,
            _ => Verdict::Unknown,
        }
    }

    /// Changes its mind, once enough looks in a row want it.
    fn turn(&mut self, to: Option<(u64, Reading)>) {
        self.against += 1;
        if self.against >= LOOKS {
            *self = Self {
                ahead: to,
                ..Self::default()
            };
        }
    }
}

fn compare(mut offsets: Vec<i64>) -> Verdict {
    if offsets.is_empty() {
        return Verdict::Unknown;
    }
    offsets.push(0);
    offsets.sort_unstable();
    let clocks = offsets.len();
    let behind = |by: i64| offsets.partition_point(|offset| *offset < -by);
    if 2 * behind(AHEAD_MAX_MS) > clocks {
        // More than half are smaller: so is the one in the middle.
        Verdict::Ahead(offsets[clocks / 2].unsigned_abs())
    } else if 2 * behind(RIGHT_MS) < clocks {
        Verdict::Right
    } else {
        Verdict::Unknown
    }
}

#[cfg(test)]
mod tests;
