//! Who watches what: changes go straight to those that they concern.
//!
//! A watcher that has caught up with the feed is *live*: it stands in the hub with its
//! collection and prefix, and each commit puts what fits into its mailbox. A change
//! looks up its own prefixes, of the lengths that somebody watches, so that it costs
//! what it concerns and not what is watched; ten thousand watchers of other keys sleep
//! on. What is sent is made into text once for all.
//!
//! A mailbox is small. A live watcher that does not empty it in time is live no longer:
//! it goes on from the store's feed, as one that has just come, and so its slowness costs
//! neither memory nor anybody's time. etcd divides its watchers in the same way.
//!
//! Whether a watcher has caught up is asked under the lock under which commits are told,
//! so that it misses none and is told none twice.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::model::{Collection, Key};
use crate::storage::records::EntryRecord;
use crate::storage::state::FeedItem;

/// Changes that wait for a live watcher at most, ...
const MAILBOX_ITEMS_MAX: usize = 512;
/// ... and about how many bytes of them; a change that is larger may wait alone.
const MAILBOX_BYTES_MAX: usize = 256 * 1024;

/// A change as a watcher gets it. Those who get the same one share it.
#[derive(Debug)]
pub struct Seen {
    /// The change and its place in the feed.
    pub item: FeedItem,
    text: OnceLock<Bytes>,
}

impl Seen {
    pub(super) fn new(item: FeedItem) -> Arc<Self> {
        let text = OnceLock::new();
        Arc::new(Self { item, text })
    }

    /// The change in the form in which it is sent; made by the first who asks.
    pub fn text(&self, make: impl FnOnce(&FeedItem) -> Bytes) -> &Bytes {
        self.text.get_or_init(|| make(&self.item))
    }
}

/// What a watcher wants to see.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Filter {
    /// Of this collection, or of all.
    pub(super) collection: Option<Collection>,
    /// Keys that begin with this.
    pub(super) prefix: String,
}

impl Filter {
    pub(super) fn fits(&self, item: &FeedItem) -> bool {
        let key = &item.change.key;
        let wanted = self.collection.as_ref();
        wanted.is_none_or(|wanted| wanted == key.collection())
            && key.name().starts_with(&self.prefix)
    }
}

/// The live watchers.
pub(super) struct Hub {
    state: Mutex<State>,
}

struct State {
    /// The position of the last change that was told.
    head: u64,
    ended: bool,
    next_id: u64,
    watched: HashMap<Option<Collection>, Prefixes>,
}

/// Those that watch one collection, or all.
#[derive(Default)]
struct Prefixes {
    /// Length of a prefix → how many have one of this length.
    lengths: BTreeMap<usize, usize>,
    watchers: HashMap<String, HashMap<u64, Arc<Mailbox>>>,
}

#[derive(Default)]
struct Mailbox {
    contents: Mutex<Contents>,
    filled: Notify,
}

#[derive(Default)]
struct Contents {
    items: VecDeque<Arc<Seen>>,
    bytes: usize,
    /// Something did not fit after what is here.
    overflowed: bool,
    ended: bool,
}

impl Hub {
    /// A hub whose replica's feed has come as far as `head`.
    pub(super) fn new(head: u64) -> Arc<Self> {
        let state = Mutex::new(State {
            head,
            ended: false,
            next_id: 0,
            watched: HashMap::new(),
        });
        Arc::new(Self { state })
    }

    /// Tells of changes that have been committed, the last of them at `head`.
    pub(super) fn tell(&self, changes: Vec<(Key, EntryRecord)>, head: u64) {
        let mut state = lock(&self.state);
        for (key, record) in changes {
            state.tell(key, &record);
        }
        state.head = head;
    }

    /// Whether there is any live watcher.
    pub(super) fn is_watched(&self) -> bool {
        !lock(&self.state).watched.is_empty()
    }

    /// Changes have been committed up to `head`, and were not collected since there was no
    /// live watcher. Who has become one since is sent to the store's feed.
    pub(super) fn tell_head(&self, head: u64) {
        let mut state = lock(&self.state);
        state.head = head;
        for mailbox in state.mailboxes() {
            lock(&mailbox.contents).overflowed = true;
            mailbox.filled.notify_one();
        }
    }

    /// Nothing will be told any more.
    pub(super) fn end(&self) {
        let mut state = lock(&self.state);
        state.ended = true;
        for mailbox in state.mailboxes() {
            lock(&mailbox.contents).ended = true;
            mailbox.filled.notify_one();
        }
    }

    /// Makes a watcher live that has seen all up to `position`; `None` if that is not all
    /// there is.
    pub(super) fn subscribe_at(
        self: &Arc<Self>,
        position: u64,
        filter: &Filter,
    ) -> Option<Subscription> {
        let mut state = lock(&self.state);
        if position != state.head {
            return None;
        }
        let id = state.next_id;
        state.next_id += 1;
        let mailbox = Arc::new(Mailbox::default());
        if state.ended {
            lock(&mailbox.contents).ended = true;
            mailbox.filled.notify_one();
        }
        let prefixes = state.watched.entry(filter.collection.clone()).or_default();
        *prefixes.lengths.entry(filter.prefix.len()).or_default() += 1;
        let watchers = prefixes.watchers.entry(filter.prefix.clone()).or_default();
        watchers.insert(id, mailbox.clone());
        Some(Subscription {
            hub: self.clone(),
            filter: filter.clone(),
            id,
            mailbox,
        })
    }
}

impl State {
    fn tell(&self, key: Key, record: &EntryRecord) {
        let mut concerned = self.concerned(&key).peekable();
        // What nobody watches need not be made readable.
        if concerned.peek().is_none() {
            return;
        }
        if let Some(mut item) = FeedItem::of(key.clone(), record) {
            // It may wait for long, and must not keep the frame that it came in.
            let value = &mut item.change.entry.value;
            *value = value.as_deref().map(Bytes::copy_from_slice);
            let seen = Seen::new(item);
            concerned.for_each(|mailbox| mailbox.put(&seen));
        }
    }

    fn mailboxes(&self) -> impl Iterator<Item = &Arc<Mailbox>> {
        let prefixes = self.watched.values();
        let watchers = prefixes.flat_map(|prefixes| prefixes.watchers.values());
        watchers.flat_map(HashMap::values)
    }

    /// The mailboxes of those whom changes of a key concern.
    fn concerned<'s>(&'s self, key: &'s Key) -> impl Iterator<Item = &'s Arc<Mailbox>> {
        let collections = [Some(key.collection().clone()), None];
        let watched = collections.into_iter();
        let watched = watched.filter_map(|collection| self.watched.get(&collection));
        let watchers = watched.flat_map(|prefixes| {
            let lengths = prefixes.lengths.keys();
            lengths.filter_map(|length| prefixes.watchers.get(key.name().get(..*length)?))
        });
        watchers.flat_map(HashMap::values)
    }
}

impl Mailbox {
    fn put(&self, seen: &Arc<Seen>) {
        let mut contents = lock(&self.contents);
        let weight = seen.item.change.weight();
        let fits = contents.items.len() < MAILBOX_ITEMS_MAX
            && contents.bytes + weight <= MAILBOX_BYTES_MAX;
        if contents.overflowed || !(fits || contents.items.is_empty()) {
            contents.overflowed = true;
            return;
        }
        contents.bytes += weight;
        contents.items.push_back(seen.clone());
        drop(contents);
        self.filled.notify_one();
    }
}

/// What a live watcher finds.
pub(super) enum Found {
    /// The next change.
    Change(Arc<Seen>),
    /// Nothing yet; all up to this position has been seen.
    Nothing(u64),
    /// It was too slow: what follows is in the store's feed.
    Overflow,
    /// There will be no more.
    End,
}

/// A place in the hub.
pub(super) struct Subscription {
    hub: Arc<Hub>,
    filter: Filter,
    id: u64,
    mailbox: Arc<Mailbox>,
}

impl Subscription {
    /// Takes the next change out of the mailbox.
    pub(super) fn take(&self) -> Found {
        // In the order in which a commit takes them, so that the position belongs to what
        // is in the mailbox.
        let state = lock(&self.hub.state);
        let mut contents = lock(&self.mailbox.contents);
        match contents.items.pop_front() {
            Some(seen) => {
                contents.bytes -= seen.item.change.weight();
                Found::Change(seen)
            }
            None if contents.overflowed => Found::Overflow,
            None if contents.ended => Found::End,
            None => Found::Nothing(state.head),
        }
    }

    /// Waits until there may be something to take.
    pub(super) async fn filled(&self) {
        self.mailbox.filled.notified().await;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = lock(&self.hub.state);
        let Filter { collection, prefix } = &self.filter;
        let Some(prefixes) = state.watched.get_mut(collection) else {
            return;
        };
        if let Some(watchers) = prefixes.watchers.get_mut(prefix) {
            watchers.remove(&self.id);
            if watchers.is_empty() {
                prefixes.watchers.remove(prefix);
            }
        }
        if let Some(count) = prefixes.lengths.get_mut(&prefix.len()) {
            *count -= 1;
            if *count == 0 {
                prefixes.lengths.remove(&prefix.len());
            }
        }
        if prefixes.watchers.is_empty() {
            state.watched.remove(collection);
        }
    }
}

/// Ends the hub with the thread that tells it.
pub(super) struct EndHub(pub(super) Arc<Hub>);

impl Drop for EndHub {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::document::Document;
    use crate::model::{Dot, Epoch, Origin, ReplicaId, Timestamp, Version};

    fn change(collection: &str, name: &str, bytes: usize, position: u64) -> (Key, EntryRecord) {
        let origin = Origin {
            replica: ReplicaId([1; 16]),
            epoch: Epoch(1),
        };
        let version = Version {
            clock: Timestamp(1),
            dot: Dot { origin, seq: 1 },
        };
        let key = Key::new(Collection::new(collection).unwrap(), name).unwrap();
        let document = Document::of_root(version, Some(Bytes::from(vec![b'1'; bytes])));
        let record = EntryRecord {
            document,
            position,
            expired: false,
        };
        (key, record)
    }

    fn filter(collection: Option<&str>, prefix: &str) -> Filter {
        Filter {
            collection: collection.map(|name| Collection::new(name).unwrap()),
            prefix: prefix.to_owned(),
        }
    }

    fn positions(subscription: &Subscription) -> Vec<u64> {
        let next = || match subscription.take() {
            Found::Change(seen) => Some(seen.item.position),
            _ => None,
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn each_watcher_gets_what_it_asked_for() {
        let hub = Hub::new(10);
        let watching =
            |collection, prefix| hub.subscribe_at(10, &filter(collection, prefix)).unwrap();
        let all = watching(None, "");
        let users = watching(Some("users"), "");
        let one = watching(Some("users"), "u1");
        let anywhere = watching(None, "梁");
        hub.tell(
            vec![change("users", "u1", 1, 11), change("users", "u2", 1, 12)],
            12,
        );
        hub.tell(
            vec![change("jobs", "u1", 1, 13), change("jobs", "梁鑫", 1, 14)],
            14,
        );
        assert_eq!(positions(&all), [11, 12, 13, 14]);
        assert_eq!(positions(&users), [11, 12]);
        assert_eq!(positions(&one), [11]);
        assert_eq!(positions(&anywhere), [14]);
        // All have seen what there is, also those whom nothing concerned.
        assert!(matches!(one.take(), Found::Nothing(14)));
        assert!(
            hub.subscribe_at(13, &filter(None, "")).is_none(),
            "14 would be missed"
        );
        drop((all, users, one, anywhere));
        assert!(lock(&hub.state).watched.is_empty());
    }

    #[test]
    fn a_watcher_that_is_too_slow_is_told_where_it_stands() {
        let hub = Hub::new(0);
        let slow = hub.subscribe_at(0, &filter(None, "")).unwrap();
        let large = change("users", "u1", MAILBOX_BYTES_MAX * 2, 1);
        hub.tell(vec![large], 1);
        hub.tell(vec![change("users", "u1", 1, 2)], 2);
        hub.tell(vec![change("users", "u1", 1, 3)], 3);
        assert!(matches!(slow.take(), Found::Change(seen) if seen.item.position == 1));
        assert!(
            matches!(slow.take(), Found::Overflow),
            "2 did not fit, nor what follows"
        );
        let many = hub.subscribe_at(3, &filter(None, "")).unwrap();
        for position in 4..4 + 2 * MAILBOX_ITEMS_MAX as u64 {
            hub.tell(vec![change("users", "u1", 1, position)], position);
        }
        assert_eq!(positions(&many).len(), MAILBOX_ITEMS_MAX);
        assert!(matches!(many.take(), Found::Overflow));
    }

    #[tokio::test]
    async fn who_came_while_nothing_was_collected_goes_on_from_the_feed() {
        let hub = Hub::new(3);
        assert!(!hub.is_watched());
        let come = hub.subscribe_at(3, &filter(None, "")).unwrap();
        assert!(hub.is_watched());
        hub.tell_head(5);
        come.filled().await;
        assert!(matches!(come.take(), Found::Overflow));
        drop(come);
        hub.tell_head(6);
        let next = hub.subscribe_at(6, &filter(None, "")).unwrap();
        assert!(matches!(next.take(), Found::Nothing(6)));
    }

    #[tokio::test]
    async fn an_end_wakes_those_who_wait() {
        let hub = Hub::new(0);
        let watching = hub.subscribe_at(0, &filter(None, "")).unwrap();
        drop(EndHub(hub.clone()));
        watching.filled().await;
        assert!(matches!(watching.take(), Found::End));
        let late = hub.subscribe_at(0, &filter(None, "")).unwrap();
        assert!(matches!(late.take(), Found::End));
    }
}
