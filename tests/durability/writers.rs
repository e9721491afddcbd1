//! Writers that note what became of each write, and the reckoning in the end.
//!
//! Every document has a key of its own and says so, sealed: what is found under a key
//! can be right, or wrong, but nothing between. A write is noted as acknowledged,
//! refused (then nothing was changed), or unknown: one that was cut off, or whose answer
//! says that it may or may not have been done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use basic_tests::harness::http::{Answer, Client, RequestError};
use basic_tests::harness::wait::wait_until;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::world::World;

/// Writers of a node under load.
pub(crate) const WRITERS: u16 = 8;
/// How long a disk that fails may keep a node from reading.
const READ_MAX: Duration = Duration::from_secs(20);
/// What they write goes here.
const COLLECTION: &str = "durability";
/// How long a writer pauses whose write was not taken.
const PAUSE: Duration = Duration::from_millis(10);
/// An answer with these words leaves open whether the write was done.
const OPEN: &str = "may or may not";

/// What became of all writes. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Ledger {
    entries: Arc<Mutex<Entries>>,
    numbers: Arc<AtomicU64>,
}

#[derive(Default)]
struct Entries {
    acknowledged: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    unknown: BTreeSet<u64>,
    /// For each status that was no acknowledgement, how many answers, and the last.
    answers: BTreeMap<u16, (usize, Answer)>,
    /// The longest that an answer of any kind took.
    slowest: Duration,
}

/// Writers at work. They end when they are told to, or with the test.
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

/// How large documents are.
#[derive(Clone, Copy)]
pub(crate) enum Sizes {
    /// Some hundred bytes, and one in ten some ten thousand.
    Mixed,
    /// So many bytes and a few more.
    All(usize),
}

impl Sizes {
    fn of(self, number: u64) -> usize {
        match self {
            Self::Mixed if number.is_multiple_of(10) => 30_000,
            Self::Mixed => 300,
            Self::All(bytes) => bytes,
        }
    }
}

impl Writers {
    /// Writers on each of these agents.
    pub(crate) fn start(
        world: &World,
        numbers: &[u16],
        each: u16,
        sizes: Sizes,
        ledger: &Ledger,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let apis = numbers.iter().map(|number| world.api(*number));
        let tasks = apis.flat_map(|api| {
            (0..each).map({
                let stop = &stop;
                move |_| tokio::spawn(write(api.clone(), sizes, ledger.clone(), stop.clone()))
            })
        });
        Self {
            tasks: tasks.collect(),
            stop,
        }
    }

    /// Lets each end with what it is at.
    pub(crate) async fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

async fn write(api: String, sizes: Sizes, ledger: Ledger, stop: Arc<AtomicBool>) {
    let client = Client::default();
    while !stop.load(Ordering::SeqCst) {
        if !ledger.write(&client, &api, sizes).await {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Ledger {
    /// Writes one document and notes what became of it; whether it was acknowledged.
    pub(crate) async fn write(&self, client: &Client, api: &str, sizes: Sizes) -> bool {
        let number = self.numbers.fetch_add(1, Ordering::SeqCst);
        let start = Instant::now();
        let (url, document) = (url(api, number), document(number, sizes));
        let answer = client.put_json(&url, &document).await;
        self.note(number, answer, start.elapsed())
    }

    fn note(&self, number: u64, answer: Result<Answer, RequestError>, took: Duration) -> bool {
        let mut entries = self.entries.lock().unwrap();
        entries.slowest = entries.slowest.max(took);
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let noted = match error.is_unsent() {
                    true => &mut entries.refused,
                    false => &mut entries.unknown,
                };
                noted.insert(number);
                return false;
            }
        };
        if answer.status.is_success() {
            return entries.acknowledged.insert(number);
        }
        match answer.text().contains(OPEN) {
            true => entries.unknown.insert(number),
            false => entries.refused.insert(number),
        };
        let known = entries.answers.entry(answer.status.as_u16());
        let (count, last) = known.or_insert((0, answer.clone()));
        *count += 1;
        *last = answer;
        false
    }

    /// How many writes were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.entries.lock().unwrap().acknowledged.len()
    }

    /// The last answer with this status, and how many there were.
    pub(crate) fn answer(&self, status: u16) -> Option<(usize, Answer)> {
        self.entries.lock().unwrap().answers.get(&status).cloned()
    }

    /// All that was answered but acknowledgements: status and how often.
    pub(crate) fn answers(&self) -> BTreeMap<u16, usize> {
        let entries = self.entries.lock().unwrap();
        let answers = entries.answers.iter();
        answers
            .map(|(status, (count, _))| (*status, *count))
            .collect()
    }

    /// The longest that any write waited.
    pub(crate) fn slowest(&self) -> Duration {
        self.entries.lock().unwrap().slowest
    }

    /// Waits until so many more writes are acknowledged than are now.
    pub(crate) async fn wait_for_more(&self, world: &World, number: u16, more: usize) {
        let goal = self.acknowledged() + more;
        let awaited = format!("{goal} acknowledged writes");
        world
            .wait(number, &awaited, || {
                let acknowledged = self.acknowledged();
                std::future::ready(match acknowledged >= goal {
                    true => Ok(()),
                    false => Err(format!("{acknowledged} are; others: {:?}", self.answers())),
                })
            })
            .await;
    }

    /// Reads what was acknowledged last, which must be there.
    pub(crate) async fn read_last(&self, world: &World, number: u16) {
        let last = self.entries.lock().unwrap().acknowledged.last().copied();
        let Some(last) = last else { return };
        let url = url(&world.api(number), last);
        let found = world.client.get(&url).await.unwrap();
        assert!(
            is_document(last, &found.json()),
            "{last} was acknowledged: {} {}",
            found.status,
            found.text()
        );
    }

    /// Reads everything on an agent, and fails unless it is what it must be: all that
    /// was acknowledged, nothing that was refused, of the unknown any, and no other.
    /// Writers may be at work meanwhile.
    pub(crate) async fn reckon(&self, world: &World, number: u16) -> String {
        let acknowledged = self.entries.lock().unwrap().acknowledged.clone();
        let found = everything(world, number).await;
        let compared = self.compare(&acknowledged, &found);
        compared.unwrap_or_else(|wrong| panic!("node {number} has {wrong}"))
    }

    fn compare(
        &self,
        acknowledged: &BTreeSet<u64>,
        found: &BTreeSet<u64>,
    ) -> Result<String, String> {
        let entries = self.entries.lock().unwrap();
        let begun = self.numbers.load(Ordering::SeqCst);
        let count = acknowledged.len();
        let lost: Vec<_> = acknowledged.difference(found).collect();
        if !lost.is_empty() {
            let some = &lost[..lost.len().min(10)];
            let lost = lost.len();
            return Err(format!(
                "lost {lost} of {count} acknowledged writes: {some:?} …"
            ));
        }
        let strange = |number: &u64| entries.refused.contains(number) || *number >= begun;
        let strange: Vec<_> = found.iter().filter(|number| strange(number)).collect();
        if !strange.is_empty() {
            return Err(format!("what was refused or never written: {strange:?}"));
        }
        let unknown = entries.unknown.len();
        let done = found.intersection(&entries.unknown).count();
        Ok(format!(
            "all of {count} acknowledged writes are there, and {done} of {unknown} unknown ones"
        ))
    }
}

/// The numbers of all documents on an agent, each of which must be what it should.
async fn everything(world: &World, number: u16) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    let mut after = String::new();
    loop {
        let url = format!(
            "{}/v1/data/{COLLECTION}?limit=1000&after={after}",
            world.api(number)
        );
        // While the store's file is opened anew after a failure, reads are answered so.
        let read = || async {
            let answer = world.client.get(&url).await;
            let answer = answer.map_err(|error| error.to_string())?;
            match answer.status.as_u16() {
                200 => Ok(answer.json()),
                _ => Err(answer.text()),
            }
        };
        let page = wait_until("a page of documents", READ_MAX, read)
            .await
            .unwrap();
        for item in page["items"].as_array().unwrap() {
            let key = item["key"].as_str().unwrap();
            let number = key.parse().unwrap();
            assert!(is_document(number, &item["value"]), "{key} holds {item}");
            found.insert(number);
        }
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => return found,
        }
    }
}

fn url(api: &str, number: u64) -> String {
    format!("{api}/v1/data/{COLLECTION}/{number:09}")
}

fn document(number: u64, sizes: Sizes) -> Value {
    let seal = seal(number);
    let text = seal.repeat(sizes.of(number) / seal.len() + 1);
    json!({ "number": number, "text": text })
}

/// Whether this is a document of this number, of whatever size.
fn is_document(number: u64, value: &Value) -> bool {
    let seal = seal(number);
    let text = value["text"].as_str().unwrap_or_default();
    let whole = !text.is_empty() && text.len().is_multiple_of(seal.len());
    let pieces = text.as_bytes().chunks(seal.len());
    whole && value["number"] == number && pieces.into_iter().all(|piece| piece == seal.as_bytes())
}

fn seal(number: u64) -> String {
    blake3::hash(&number.to_be_bytes()).to_hex().to_string()
}

#[test]
fn the_reckoning_notices_what_is_gone_and_what_should_not_be() {
    let ledger = Ledger::default();
    ledger.numbers.store(5, Ordering::SeqCst);
    let acknowledged = BTreeSet::from([0, 1]);
    {
        let mut entries = ledger.entries.lock().unwrap();
        entries.acknowledged.clone_from(&acknowledged);
        entries.refused.insert(2);
        entries.unknown.extend([3, 4]);
    }
    let compare = |found: &[u64]| {
        let found = found.iter().copied().collect();
        ledger.compare(&acknowledged, &found)
    };
    assert!(compare(&[0, 1]).is_ok());
    assert!(compare(&[0, 1, 4]).unwrap().contains("1 of 2 unknown"));
    assert!(compare(&[0, 4]).unwrap_err().contains("lost 1 of 2"));
    assert!(compare(&[0, 1, 2]).unwrap_err().contains("[2]"));
    assert!(compare(&[0, 1, 5]).unwrap_err().contains("[5]"));
    let whole = document(7, Sizes::Mixed);
    assert!(is_document(7, &whole) && !is_document(8, &whole));
    let mut torn = whole;
    torn["text"] = torn["text"].as_str().unwrap()[..100].into();
    assert!(!is_document(7, &torn));
}
