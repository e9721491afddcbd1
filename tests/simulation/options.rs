//! What a run is made of.

use std::time::Duration;

use basic_sync::protocol::Mesh;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The options of one run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// How many replicas.
    pub(crate) replicas: usize,
    /// How long clients write and faults happen.
    pub(crate) turmoil: Duration,
    /// Mean pause between two writes, over all replicas.
    pub(crate) write_pause: Duration,
    /// How many keys they write to; few, so that writes meet.
    pub(crate) keys: usize,
    /// Probability that a message is lost.
    pub(crate) loss: f64,
    /// Probability that a message arrives twice.
    pub(crate) duplication: f64,
    /// Whether messages overtake each other, which those of one connection never do.
    /// Only while there is turmoil: a pull relies on the order of its chunks.
    pub(crate) reordering: bool,
    /// Longest delay of a message; the shortest is a tenth of a millisecond.
    pub(crate) delay_max: Duration,
    /// Longest time that a commit takes.
    pub(crate) commit_max: Duration,
    /// Probability that a commit fails and leaves nothing.
    pub(crate) commit_failure: f64,
    /// Mean pause between two crashes.
    pub(crate) crash_pause: Duration,
    /// Mean pause between two partitions; one lasts half as long on average.
    pub(crate) partition_pause: Duration,
    /// How far apart the wall clocks are at most.
    pub(crate) clock_spread: Duration,
    /// Probability that a replica restarts with its clock a little further back.
    pub(crate) clock_steps_back: f64,
    /// How many replicas have a clock that goes wrong, and is set right, while they run.
    pub(crate) wrong_clocks: usize,
    /// How far off it is at most, in either direction.
    pub(crate) clock_error_max: Duration,
    /// Mean pause between two steps of such a clock.
    pub(crate) clock_step_pause: Duration,
    /// Clocks that are wrong when the turmoil ends stay so.
    pub(crate) clocks_stay_wrong: bool,
    /// Probability that a put says how long the document lives.
    pub(crate) ttl: f64,
    /// One replica does not know how the collections are merged.
    pub(crate) disagreement: bool,
    /// How long a deletion is remembered.
    pub(crate) tombstone_age: Duration,
    /// After which absence a replica is fenced.
    pub(crate) absent_max: Duration,
    /// Who lacks so many writes takes over a snapshot.
    pub(crate) snapshot_from: u64,
    /// How often replicas tell how they stand.
    pub(crate) standing_every: u32,
    /// Probability that a crash is followed by an absence that may be too long.
    pub(crate) long_absence: f64,
    /// Probability that a crash costs the disk, or brings an old copy of it back.
    pub(crate) disk_loss: f64,
    /// How large a full mesh may be; beyond it, writes go along a tree.
    pub(crate) mesh: Mesh,
    /// One replica takes the cluster for a full mesh, whatever the others do.
    pub(crate) mesh_disagreement: bool,
    /// Changes in a chunk of a pull; few, so that pulls take several.
    pub(crate) chunk_changes: usize,
}

impl Options {
    /// Draws the options of a seed.
    pub(crate) fn draw(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ 0x5eed_0f0f);
        let calm = random.random_bool(0.2);
        let millis = Duration::from_millis;
        let mut options = Self {
            replicas: random.random_range(5..=9),
            turmoil: Duration::from_secs(random.random_range(5..=15)),
            write_pause: millis(random.random_range(5..=60)),
            keys: random.random_range(3..=80),
            loss: if calm {
                0.0
            } else {
                random.random_range(0.0..0.3)
            },
            duplication: if calm {
                0.0
            } else {
                random.random_range(0.0..0.2)
            },
            reordering: random.random_bool(0.5),
            delay_max: millis(random.random_range(1..=150)),
            commit_max: millis(random.random_range(1..=20)),
            commit_failure: if calm {
                0.0
            } else {
                random.random_range(0.0..0.05)
            },
            crash_pause: millis(random.random_range(700..=6000)),
            partition_pause: millis(random.random_range(1000..=6000)),
            clock_spread: millis(random.random_range(0..=20_000)),
            clock_steps_back: 0.3,
            ttl: if random.random_bool(0.5) { 0.1 } else { 0.0 },
            disagreement: random.random_bool(0.2),
            chunk_changes: random.random_range(1..=40),
            tombstone_age: millis(random.random_range(500..=4_000)),
            absent_max: millis(random.random_range(1_500..=8_000)),
            snapshot_from: [20, 200, u64::MAX][random.random_range(0..3)],
            standing_every: random.random_range(1..=3),
            long_absence: 0.2,
            disk_loss: 0.2,
            wrong_clocks: random.random_range(0..=2),
            // An hour, or so little that its time comes within the run.
            clock_error_max: millis([3_600_000, 6_000][random.random_range(0..2)]),
            clock_step_pause: millis(random.random_range(500..=5000)),
            clocks_stay_wrong: random.random_bool(0.5),
            mesh: match random.random_bool(0.5) {
                true => Mesh::default(),
                false => Mesh {
                    peers_max: random.random_range(2..=4),
                    rings_max: random.random_range(1..=3),
                },
            },
            mesh_disagreement: random.random_bool(0.1),
        };
        if options.mesh_disagreement {
            // It does not hear those that it takes for its neighbours, and would give them
            // up again and again. Nodes disagree for moments, not for days.
            options.absent_max = Duration::from_secs(3600);
        }
        options
    }
}
