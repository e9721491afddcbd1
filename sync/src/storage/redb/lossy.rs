//! A file in memory that knows what a loss of power would have left of it, at any moment.
//!
//! A disk may do what it is asked to in any order, and in part, until a sync has returned. So
//! the file keeps all that was done to it, in order, and each step is a [`Cut`]: what was synced
//! before it is there, and of the rest any part is.

use std::fmt::{self, Debug};
use std::sync::{Mutex, MutexGuard};

use redb::StorageBackend;

use super::*;

/// What a disk writes as a whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// Random numbers from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub(in crate::storage) struct Random(pub(in crate::storage) u64);

impl Random {
    pub(in crate::storage) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    pub(in crate::storage) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// What was done to the file.
pub(in crate::storage) enum Change {
    Write(u64, Vec<u8>),
    SetLength(u64),
    Sync,
}

/// What is left of what was not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::storage) enum Loss {
    Everything,
    Nothing,
    /// Each change is lost, kept, or torn.
    Random,
}

/// What a sync leaves out, though it says that all is well: a check of the checks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::storage) enum Harm {
    Nothing,
    /// It syncs nothing.
    NoSync,
    /// It comes before the writes that it is to sync.
    EarlySync,
    /// It loses the last page before it, for good.
    LostPage,
}

/// The file, and at each change the moment as `moment` tells it.
#[derive(Clone)]
pub(in crate::storage) struct Lossy<M> {
    state: Arc<Mutex<State<M>>>,
    moment: Arc<dyn Fn() -> M + Send + Sync>,
}

struct State<M> {
    begin: Vec<u8>,
    bytes: Vec<u8>,
    past: Vec<(Change, M)>,
    /// No power fails any more.
    is_safe: bool,
}

/// A loss of power just before a change has come to its end.
pub(in crate::storage) struct Cut<'c, M> {
    pub(in crate::storage) number: usize,
    pub(in crate::storage) change: &'c Change,
    pub(in crate::storage) moment: &'c M,
    /// How long the file was for the process.
    pub(in crate::storage) length: usize,
    synced: &'c [u8],
    unsynced: &'c [&'c Change],
}

impl<M: Send + 'static> Lossy<M> {
    pub(in crate::storage) fn new(
        begin: Vec<u8>,
        moment: impl Fn() -> M + Send + Sync + 'static,
    ) -> Self {
        let state = State {
            bytes: begin.clone(),
            begin,
            past: Vec::new(),
            is_safe: false,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            moment: Arc::new(moment),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, state: &mut State<M>, change: Change) {
        change.apply(&mut state.bytes);
        if !state.is_safe {
            // Before the change has come to its end, so that nobody knows of it yet.
            state.past.push((change, (self.moment)()));
        }
    }

    /// As the process sees it.
    pub(in crate::storage) fn bytes(&self) -> Vec<u8> {
        self.state().bytes.clone()
    }

    /// What comes now is not cut.
    pub(in crate::storage) fn make_safe(&self) {
        self.state().is_safe = true;
    }

    /// Changes until now that can be cut.
    pub(in crate::storage) fn changes(&self) -> usize {
        self.state().past.len()
    }

    /// Shows each moment at which the power may fail, in order, until one is refused.
    pub(in crate::storage) fn each_cut<E>(
        &self,
        harm: Harm,
        mut visit: impl FnMut(&Cut<'_, M>) -> Result<(), E>,
    ) -> Result<(), E> {
        let state = self.state();
        let (mut synced, mut unsynced) = (state.begin.clone(), Vec::new());
        let mut length = synced.len();
        let mut before_last_sync = 0;
        for (number, (change, moment)) in state.past.iter().enumerate() {
            match change {
                Change::Write(..) => unsynced.push(change),
                Change::SetLength(new) => {
                    unsynced.push(change);
                    length = index(*new);
                }
                Change::Sync => {}
            }
            visit(&Cut {
                number,
                change,
                moment,
                length,
                synced: &synced,
                unsynced: &unsynced,
            })?;
            if matches!(change, Change::Sync) {
                let page = |change: &&Change| matches!(change, Change::Write(1.., _));
                let durable = match harm {
                    Harm::Nothing => unsynced.len(),
                    Harm::NoSync => 0,
                    Harm::EarlySync => before_last_sync,
                    Harm::LostPage => {
                        if let Some(last) = unsynced.iter().rposition(page) {
                            unsynced.remove(last);
                        }
                        unsynced.len()
                    }
                };
                for change in unsynced.drain(..durable) {
                    change.apply(&mut synced);
                }
                before_last_sync = unsynced.len();
            }
        }
        Ok(())
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(at, written) => {
                let end = index(*at) + written.len();
                if bytes.len() < end {
                    // Its length may have been lost, and comes back with what lies there.
                    bytes.resize(end, 0);
                }
                bytes[index(*at)..end].copy_from_slice(written);
            }
            Self::SetLength(length) => bytes.resize(index(*length), 0),
            Self::Sync => {}
        }
    }

    /// The sectors of a write.
    fn sectors(&self) -> impl Iterator<Item = Change> {
        let (mut at, mut rest) = match self {
            Self::Write(at, written) => (*at, written.as_slice()),
            Self::SetLength(_) | Self::Sync => (0, &[][..]),
        };
        std::iter::from_fn(move || {
            let length = index((at + 1).next_multiple_of(SECTOR_BYTES) - at).min(rest.len());
            let (sector, after) = rest.split_at(length);
            let change = Self::Write(at, sector.to_vec());
            (at, rest) = (at + length as u64, after);
            (length > 0).then_some(change)
        })
    }
}

impl<M> Cut<'_, M> {
    /// What is left of the file.
    pub(in crate::storage) fn left(&self, loss: Loss, random: &mut Random) -> Vec<u8> {
        let mut left = self.synced.to_vec();
        for change in self.unsynced {
            let torn = matches!(change, Change::Write(..)) && random.one_in(3);
            match loss {
                Loss::Everything => {}
                Loss::Random if torn => {
                    let sectors = change.sectors().filter(|_| random.one_in(2));
                    sectors.for_each(|sector| sector.apply(&mut left));
                }
                Loss::Random if random.one_in(2) => {}
                Loss::Nothing | Loss::Random => change.apply(&mut left),
            }
        }
        left
    }
}

fn index(at: u64) -> usize {
    usize::try_from(at).expect("it is in memory")
}

impl<M> Debug for Lossy<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lossy")
    }
}

impl<M: Send + 'static> StorageBackend for Lossy<M> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let begin = index(offset);
        let bytes = state.bytes.get(begin..begin + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.note(&mut self.state(), Change::SetLength(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.note(&mut self.state(), Change::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.note(&mut self.state(), Change::Write(offset, data.to_vec()));
        Ok(())
    }
}

impl RedbStorage {
    /// Opens the store in such a file, or begins it in an empty one. Once it has failed it
    /// cannot be opened anew.
    pub(in crate::storage) fn over<M: Send + 'static>(
        file: Lossy<M>,
        cache_bytes: usize,
    ) -> Result<Self, OpenError> {
        let path = PathBuf::from("/dev/null/lossy");
        let is_new = file.state().bytes.is_empty();
        let database = builder(cache_bytes)
            .create_with_backend(Runs::over(file))
            .map_err(|error| open_error(path.clone(), error))?;
        let storage = Self {
            database: RwLock::new(database),
            failed: Arc::default(),
            path: path.clone(),
            cache_bytes,
        };
        if is_new {
            let begun = storage.begin();
            begun.map_err(|source| OpenError::Store { path, source })?;
        }
        storage.check_format()?;
        Ok(storage)
    }

    /// Whether all pages are what their checksums say, and those that are in use are known to be.
    pub(in crate::storage) fn is_sound(&mut self) -> Result<bool, redb::DatabaseError> {
        let database = self.database.get_mut();
        let database = database.unwrap_or_else(PoisonError::into_inner);
        database.check_integrity()
    }
}
