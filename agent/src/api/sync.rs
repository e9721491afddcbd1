//! Replication: how far each peer is behind, and this node behind it, and what the replica has done.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use basic_sync::model::{Epoch, Origin, ReplicaId, SeqSet};
use basic_sync::net::PeerLag;
use basic_sync::protocol::{Counters, PeerStatus, Status, Trust};
use basic_sync::storage::RosterLine;
use serde::{Serialize, Serializer};

use super::Api;
use super::members::rfc3339;
use super::problem::Problem;
use super::vitals::millis;
use crate::sync_tasks::Statistics;
use crate::sync_tasks::board::Counts;

/// Origins in one answer at most. Each life of each node's store is one, so there may be many in time; those of which
/// somebody lacks something come first, then the newest.
const ORIGINS_MAX: usize = 256;

#[derive(Serialize)]
struct Peers {
    #[serde(rename = "self")]
    own_id: String,
    /// Under which this node writes now.
    origin: String,
    /// How many writes it has made under it.
    written: u64,
    peers: Vec<Peer>,
    origins: Vec<OriginView>,
    /// How many there are, listed or not.
    origins_total: usize,
    /// Deletions dated up to here are let go of, as RFC 3339 text; none before the first.
    deletions_settled_to: Option<String>,
    /// The snapshot that is being taken over, if one is.
    filling: Option<Filling>,
    /// Writes that were kept aside, and wait for a decision.
    exported: u64,
    replicas: Vec<Replica>,
}

/// A snapshot that is being taken over.
#[derive(Serialize)]
struct Filling {
    /// Up to which key it is done; none before the first part has come.
    collection: Option<String>,
    key: Option<String>,
}

/// A replica of the roster: a node's store, by the identity that it has, or had.
#[derive(Serialize)]
struct Replica {
    replica: String,
    node: String,
    /// It is this node's present one.
    own: bool,
    /// It was given up.
    fenced: bool,
    /// For how long it has not been heard of while most others were.
    absent_ms: u64,
}

#[derive(Serialize)]
struct Peer {
    id: String,
    /// Beyond a full mesh, this node links to few of its peers, and those are near.
    near: bool,
    linked: bool,
    /// It is not pushed to, but told what there is: it gets it sooner another way.
    lazy: bool,
    /// Since when it is linked, or is not.
    since: Option<String>,
    /// It has told what it has.
    heard: bool,
    /// How long ago; a peer that is well does so every second.
    silent_ms: Option<u64>,
    /// Since it was linked this node once had all that it had.
    caught_up: bool,
    /// Writes that it has and this node lacks.
    behind: u64,
    /// For how long this node has known of the oldest of them.
    behind_ms: Option<u64>,
    /// Writes of this node that it has not acknowledged.
    unacknowledged: u64,
    /// Age of the oldest of them.
    unacknowledged_ms: Option<u64>,
    queue: Queue,
    /// Frames that it was too slow for; it pulled their contents.
    frames_lost: u64,
    last_error: Option<String>,
    /// Under which it writes.
    origin: Option<String>,
    /// Whether anything is taken from it: `full`, `unknown` before it has said how it stands, `fenced`, `stale` or
    /// `foreign`.
    trust: &'static str,
}

/// What waits in this agent to be sent.
#[derive(Default, Serialize)]
struct Queue {
    messages: usize,
    ring_bytes: u64,
}

/// The writes of one origin: who has which.
#[derive(Debug, PartialEq, Serialize)]
struct OriginView {
    origin: String,
    /// Whose it is, where that is known.
    node: Option<String>,
    here: Extent,
    peers: BTreeMap<String, Extent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Extent {
    /// All up to this one.
    contiguous: u64,
    highest: u64,
}

#[derive(Serialize)]
struct Stats {
    #[serde(rename = "self")]
    own_id: String,
    origin: String,
    written: u64,
    feed: Feed,
    counters: CountersView,
    /// Of all peers that there are.
    frames_lost: u64,
    queue: Queue,
    peers: usize,
    peers_linked: usize,
    /// Those that this node pushes to; it tells the other linked ones what there is.
    peers_eager: usize,
    /// Those that have not acknowledged all writes of this node.
    peers_behind: usize,
    /// Those that have writes that this node lacks.
    peers_ahead: usize,
    /// What has become of tasks, under the author's names.
    #[serde(flatten)]
    statistics: Statistics,
    /// How many tasks there are now.
    tasks: Counts,
    /// Watches that are open, of documents and of events.
    watches: usize,
}

/// A watch can resume after any change from the floor to the head.
#[derive(Serialize)]
struct Feed {
    floor: u64,
    head: u64,
    /// Bytes that it keeps of documents which were superseded since.
    past_bytes: u64,
}

/// [`Counters`], by their names.
pub(super) struct CountersView(pub(super) Counters);

impl Serialize for CountersView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.list().map(|(name, _, count)| (name, count)))
    }
}

/// `GET /v1/sync/peers`.
pub(super) async fn peers(State(api): State<Api>) -> Result<Response, Problem> {
    let status = api.replica.status().borrow().clone();
    let own_id = api.cluster.identity().id.to_string();
    let (origins, origins_total) = origins(&status, &own_id);
    let peers = api.replica.lags().into_iter().map(Peer::from);
    let exported = api.replica.exported_count();
    let exported = exported.map_err(|error| Problem::internal(&error))?;
    Ok(Json(Peers {
        own_id,
        origin: status.origin.to_string(),
        written: status.written,
        peers: peers.collect(),
        origins,
        origins_total,
        deletions_settled_to: settled_to(&status),
        filling: filling(&api, &status)?,
        exported,
        replicas: replicas(&status),
    })
    .into_response())
}

fn settled_to(status: &Status) -> Option<String> {
    let millis = Some(status.floor.millis()).filter(|millis| *millis > 0)?;
    UNIX_EPOCH
        .checked_add(Duration::from_millis(millis))
        .map(rfc3339)
}

fn filling(api: &Api, status: &Status) -> Result<Option<Filling>, Problem> {
    if !status.filling {
        return Ok(None);
    }
    let done = api.replica.filled_to();
    let done = done.map_err(|error| Problem::internal(&error))?;
    Ok(Some(Filling {
        collection: done.as_ref().map(|key| key.collection().to_string()),
        key: done.map(|key| key.name().to_owned()),
    }))
}

/// Those that count first, each by the name of its node.
fn replicas(status: &Status) -> Vec<Replica> {
    let lines = status.roster.iter();
    let mut lines: Vec<&RosterLine> = lines.collect();
    lines.sort_by_key(|line| (line.fenced, line.name.clone(), Reverse(line.born)));
    let view = |line: &RosterLine| Replica {
        replica: line.replica.to_string(),
        node: line.name.to_string(),
        own: line.replica == status.origin.replica,
        fenced: line.fenced,
        absent_ms: line.absent_ms,
    };
    lines.into_iter().map(view).collect()
}

pub(super) fn trust_name(trust: Trust) -> &'static str {
    match trust {
        Trust::Unknown => "unknown",
        Trust::Full => "full",
        Trust::Fenced => "fenced",
        Trust::Stale => "stale",
        Trust::Foreign => "foreign",
    }
}

/// `GET /v1/sync/stats`.
pub(super) async fn stats(State(api): State<Api>) -> Response {
    let status = api.replica.status().borrow().clone();
    let peers: Vec<Peer> = api.replica.lags().into_iter().map(Peer::from).collect();
    let count = |is: fn(&Peer) -> bool| peers.iter().filter(|peer| is(peer)).count();
    Json(Stats {
        own_id: api.cluster.identity().id.to_string(),
        origin: status.origin.to_string(),
        written: status.written,
        feed: Feed {
            floor: status.feed.floor,
            past_bytes: status.feed.past_bytes,
            head: status.feed.head,
        },
        counters: CountersView(status.counters),
        frames_lost: peers.iter().map(|peer| peer.frames_lost).sum(),
        queue: Queue {
            messages: peers.iter().map(|peer| peer.queue.messages).sum(),
            ring_bytes: peers.iter().map(|peer| peer.queue.ring_bytes).sum(),
        },
        peers: peers.len(),
        peers_linked: count(|peer| peer.linked),
        peers_eager: count(|peer| peer.linked && !peer.lazy),
        peers_behind: count(|peer| peer.unacknowledged > 0),
        peers_ahead: count(|peer| peer.behind > 0),
        statistics: api.sync_tasks.statistics(),
        tasks: api.sync_tasks.counts(),
        watches: api.watches().count(),
    })
    .into_response()
}

impl From<PeerLag> for Peer {
    fn from(lag: PeerLag) -> Self {
        let PeerLag {
            peer,
            status,
            link,
            silent_for,
            unacknowledged_for,
            behind_for,
        } = lag;
        let known = status.as_ref();
        let linked = match &link {
            Some(link) => link.up,
            None => known.is_some_and(|known| known.linked),
        };
        let origin = known.and_then(|known| known.progress.origin);
        Self {
            id: peer.to_string(),
            near: known.is_none_or(|known| known.near),
            linked,
            lazy: known.is_some_and(|known| known.lazy),
            since: link.as_ref().map(|link| rfc3339(link.since)),
            heard: known.is_some_and(|known| known.heard),
            silent_ms: silent_for.map(millis),
            caught_up: known.is_some_and(|known| known.caught_up),
            behind: known.map_or(0, |known| known.behind),
            behind_ms: behind_for.map(millis),
            unacknowledged: known.map_or(0, |known| known.unacknowledged),
            unacknowledged_ms: unacknowledged_for.map(millis),
            queue: link.as_ref().map_or_else(Queue::default, |link| Queue {
                messages: link.queued.messages,
                ring_bytes: link.queued.ring_bytes,
            }),
            frames_lost: link.as_ref().map_or(0, |link| link.frames_lost),
            last_error: link.and_then(|link| link.last_error),
            origin: origin.map(|origin| origin.to_string()),
            trust: trust_name(known.map_or(Trust::Unknown, |known| known.trust)),
        }
    }
}

/// Who has what of each origin, and how many origins there are.
fn origins(status: &Status, own_id: &str) -> (Vec<OriginView>, usize) {
    let names = names(status, own_id);
    let vectors = status.peers.iter();
    let vectors = vectors.filter_map(|peer| peer.progress.vector.as_deref());
    let mut highest: BTreeMap<Origin, u64> = BTreeMap::new();
    for vector in vectors.chain([&status.vector]) {
        for (origin, set) in vector.iter() {
            let highest = highest.entry(origin).or_default();
            *highest = set.highest().max(*highest);
        }
    }
    let mut all: Vec<(bool, Reverse<Epoch>, Origin)> = highest
        .iter()
        .map(|(origin, highest)| {
            let here = Extent::of(status.vector.of(*origin));
            let there = status.peers.iter();
            let mut there = there.filter_map(|peer| extent(peer, status, *origin));
            let all = |extent: Extent| extent.contiguous == *highest;
            (all(here) && there.all(all), Reverse(origin.epoch), *origin)
        })
        .collect();
    all.sort_unstable();
    let listed = all.iter().take(ORIGINS_MAX).map(|(_, _, origin)| {
        let there = status.peers.iter();
        let there =
            there.filter_map(|peer| Some((peer.peer.to_string(), extent(peer, status, *origin)?)));
        OriginView {
            origin: origin.to_string(),
            node: names.get(&origin.replica).map(|name| (*name).to_owned()),
            here: Extent::of(status.vector.of(*origin)),
            peers: there.collect(),
        }
    });
    (listed.collect(), all.len())
}

/// Whose a replica is, as far as the peers have told.
pub(super) fn names<'a>(status: &'a Status, own_id: &'a str) -> BTreeMap<ReplicaId, &'a str> {
    let peers = status.peers.iter();
    let mut names: BTreeMap<ReplicaId, &str> = peers
        .filter_map(|peer| Some((peer.progress.origin?.replica, peer.peer.as_str())))
        .collect();
    names.insert(status.origin.replica, own_id);
    names
}

/// What a peer has of an origin. Of this node's own writes it says so at once, of all others every second.
fn extent(peer: &PeerStatus, status: &Status, origin: Origin) -> Option<Extent> {
    let mut extent = Extent::of(peer.progress.vector.as_deref()?.of(origin));
    if origin == status.origin {
        extent.contiguous = extent.contiguous.max(peer.progress.acked);
        extent.highest = extent.highest.max(peer.progress.acked);
    }
    Some(extent)
}

impl Extent {
    fn of(set: Option<&SeqSet>) -> Self {
        Self {
            contiguous: set.map_or(0, SeqSet::contiguous),
            highest: set.map_or(0, SeqSet::highest),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use basic_sync::model::{PeerId, SeqRange, Timestamp, VersionVector};
    use basic_sync::protocol::Progress;
    use basic_sync::storage::state::{Digest, FeedEnds};

    use super::*;

    fn origin(replica: u8, epoch: u64) -> Origin {
        Origin {
            replica: ReplicaId([replica; 16]),
            epoch: Epoch(epoch),
        }
    }

    fn vector(has: &[(Origin, u64, u64)]) -> VersionVector {
        let mut vector = VersionVector::default();
        for (origin, first, last) in has {
            let (first, last) = (*first, *last);
            vector.insert_range(*origin, SeqRange { first, last });
        }
        vector
    }

    fn peer(name: &str, own: Origin, vector: VersionVector, acked: u64) -> PeerStatus {
        PeerStatus {
            peer: PeerId::new(name),
            linked: true,
            near: true,
            lazy: false,
            heard: true,
            behind: 0,
            unacknowledged: 0,
            caught_up: true,
            trust: Trust::Full,
            progress: Progress {
                origin: Some(own),
                vector: Some(Arc::new(vector)),
                acked,
                ..Progress::default()
            },
        }
    }

    fn status(own: Origin, vector: VersionVector, peers: Vec<PeerStatus>) -> Status {
        Status {
            origin: own,
            written: 0,
            feed: FeedEnds::default(),
            digest: Digest::default(),
            vector,
            peers,
            dated_ahead: Vec::new(),
            floor: Timestamp::default(),
            roster: Vec::new(),
            filling: false,
            counters: Counters::default(),
        }
    }

    #[test]
    fn origins_of_which_somebody_lacks_something_come_first_and_then_the_newest() {
        let (n1, n2, old, strange) = (origin(1, 7), origin(2, 5), origin(1, 3), origin(9, 4));
        let all = [(n1, 1, 9), (n2, 1, 4), (old, 1, 2), (strange, 1, 1)];
        // What it told is a second old; what it acknowledged is not.
        let theirs = [(n1, 1, 6), (n2, 1, 4), (old, 1, 2)];
        let status = status(n1, vector(&all), vec![peer("n2", n2, vector(&theirs), 9)]);
        let (views, total) = origins(&status, "n1");
        assert_eq!(total, 4);
        let named: Vec<_> = views
            .iter()
            .map(|view| (view.origin.clone(), view.node.as_deref()))
            .collect();
        assert_eq!(
            named,
            [
                (strange.to_string(), None),
                (n1.to_string(), Some("n1")),
                (n2.to_string(), Some("n2")),
                (old.to_string(), Some("n1")),
            ]
        );
        let nothing = Extent {
            contiguous: 0,
            highest: 0,
        };
        assert_eq!(views[0].peers["n2"], nothing);
        assert_eq!(views[1].peers["n2"], views[1].here);
    }

    #[test]
    fn replicas_that_count_come_first_and_each_says_whose_it_is() {
        let line = |replica: u8, name: &str, fenced| RosterLine {
            replica: ReplicaId([replica; 16]),
            name: PeerId::new(name),
            fenced,
            born: Timestamp(u64::from(replica)),
            absent_ms: u64::from(replica),
        };
        let mut status = status(origin(2, 1), VersionVector::default(), Vec::new());
        assert_eq!(settled_to(&status), None);
        status.floor = Timestamp::from_millis(1_000);
        assert_eq!(
            settled_to(&status).as_deref(),
            Some("1970-01-01T00:00:01.000Z")
        );
        status.roster = vec![
            line(1, "n2", true),
            line(2, "n2", false),
            line(3, "n1", false),
        ];
        let views = replicas(&status);
        let told: Vec<_> = views
            .iter()
            .map(|view| (view.node.as_str(), view.own, view.fenced, view.absent_ms))
            .collect();
        assert_eq!(
            told,
            [
                ("n1", false, false, 3),
                ("n2", true, false, 2),
                ("n2", false, true, 1)
            ]
        );
    }

    #[test]
    fn a_gap_is_shown_and_the_list_is_bounded() {
        let own = origin(1, 1);
        let many: Vec<_> = (2..1000).map(|epoch| (origin(1, epoch), 1, 1)).collect();
        let gap = [(own, 1, 2), (own, 5, 6)];
        let status = status(own, vector(&[&many[..], &gap].concat()), Vec::new());
        let (views, total) = origins(&status, "n1");
        assert_eq!((views.len(), total), (ORIGINS_MAX, 999));
        let here = Extent {
            contiguous: 2,
            highest: 6,
        };
        assert_eq!((&views[0].origin, views[0].here), (&own.to_string(), here));
    }
}
