use proptest::prelude::*;
use redb::backends::InMemoryBackend;

use super::*;

/// A file some of whose writes fail, and that counts them.
#[derive(Debug)]
struct Counting {
    file: InMemoryBackend,
    fails: Mutex<Vec<bool>>,
    writes: Mutex<Vec<(u64, usize)>>,
}

impl Counting {
    fn new(length: u64, fails: Vec<bool>) -> Self {
        let file = InMemoryBackend::new();
        file.set_len(length).unwrap();
        Self {
            file,
            fails: Mutex::new(fails),
            writes: Mutex::default(),
        }
    }
}

impl StorageBackend for Counting {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.fails.lock().unwrap().pop() == Some(true) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.writes.lock().unwrap().push((offset, data.len()));
        self.file.write(offset, data)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write { at: u64, length: usize },
    Read { at: u64, length: usize },
    Sync,
    SetLength(u64),
}

/// So many pages of [`PAGE`] bytes.
const PAGES: u64 = 96;
const PAGE: u64 = 1024;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Pages as redb has them, of several sizes, and now and then something else.
    let place = prop_oneof![
        8 => (0..PAGES, 0..3_u32).prop_map(|(page, order)| {
            let length = PAGE << order;
            (page * PAGE / length * length, usize::try_from(length).unwrap())
        }),
        1 => (0..PAGES * PAGE - 400, 1..400_usize),
    ];
    let place = place.prop_map(|(at, length)| {
        let room = usize::try_from(PAGES * PAGE - at).unwrap();
        (at, length.min(room))
    });
    let step = prop_oneof![
        8 => place.clone().prop_map(|(at, length)| Step::Write { at, length }),
        3 => place.prop_map(|(at, length)| Step::Read { at, length }),
        1 => Just(Step::Sync),
        1 => (PAGES / 2..=PAGES).prop_map(|pages| Step::SetLength(pages * PAGE)),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest! {
    #[test]
    fn what_is_written_in_runs_is_read_as_if_each_page_were_in_the_file(
        steps in steps(),
        fails in proptest::collection::vec(proptest::bool::weighted(0.2), 0..40),
    ) {
        let runs = Runs::over(Counting::new(PAGES * PAGE, fails));
        let mut model = vec![0; usize::try_from(PAGES * PAGE).unwrap()];
        let range = |at: u64, length: usize| {
            let at = usize::try_from(at).unwrap();
            at..at + length
        };
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Write { at, length } if range(at, length).end <= model.len() => {
                    let page = vec![u8::try_from(number % 251).unwrap() + 1; length];
                    // As redb does with a page that it could not write.
                    while runs.write(at, &page).is_err() {}
                    model[range(at, length)].copy_from_slice(&page);
                }
                Step::Read { at, length } if range(at, length).end <= model.len() => {
                    let mut read = vec![0; length];
                    while runs.read(at, &mut read).is_err() {}
                    prop_assert_eq!(&read, &model[range(at, length)]);
                }
                Step::Write { .. } | Step::Read { .. } => {}
                Step::Sync => {
                    if runs.sync_data().is_ok() {
                        let mut file = vec![0; model.len()];
                        runs.file.read(0, &mut file).unwrap();
                        prop_assert_eq!(&file, &model);
                    }
                }
                Step::SetLength(length) => {
                    while runs.set_len(length).is_err() {}
                    model.resize(usize::try_from(length).unwrap(), 0);
                }
            }
            let waiting = runs.waiting();
            let bytes: usize = waiting.pages.values().map(|page| page.len()).sum();
            prop_assert_eq!(bytes, waiting.bytes);
            prop_assert!(bytes <= 2 * WAITING_BYTES_MAX);
        }
    }
}

#[test]
fn pages_that_follow_one_another_are_written_at_once() {
    let file = Counting::new(1 << 20, Vec::new());
    let runs = Runs::over(file);
    // In an order like redb's.
    for stripe in 0..8_u64 {
        for page in (stripe..9).step_by(8) {
            runs.write(4096 * page, &[1; 4096]).unwrap();
        }
    }
    runs.write(4096 * 20, &[1; 4096]).unwrap();
    assert!(runs.file.writes.lock().unwrap().is_empty());
    runs.sync_data().unwrap();
    let writes = runs.file.writes.lock().unwrap();
    assert_eq!(*writes, [(0, 9 * 4096), (20 * 4096, 4096)]);
}
