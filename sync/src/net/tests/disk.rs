//! A replica on a disk that is full, or that does not answer.

use std::sync::Condvar;

use super::*;
use crate::storage::{Finish, Reader, Storage, StoreError, Writer};

/// How long the replica waits for its disk here.
const DISK_PATIENCE: Duration = Duration::from_millis(500);

/// A store in memory, over a disk that does what a test says.
#[derive(Default)]
struct FaultyDisk {
    store: MemoryStorage,
    fault: Mutex<Fault>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Default)]
enum Fault {
    #[default]
    None,
    /// Nothing can be written.
    Full,
    /// A write does not return while it is so.
    Stuck,
}

impl FaultyDisk {
    fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
        self.changed.notify_all();
    }
}

impl Storage for FaultyDisk {
    fn read(
        &self,
        work: &mut dyn FnMut(&dyn Reader) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.store.read(work)
    }

    fn write(
        &self,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<Finish, StoreError>,
    ) -> Result<(), StoreError> {
        let stuck = |fault: &mut Fault| *fault == Fault::Stuck;
        let fault = self.fault.lock().unwrap();
        let fault = *self.changed.wait_while(fault, stuck).unwrap();
        self.store.write(&mut |writer| match work(writer)? {
            Finish::Commit if fault == Fault::Full => {
                Err(StoreError::Full(io::ErrorKind::StorageFull.into()))
            }
            finish => Ok(finish),
        })
    }
}

/// A replica alone on such a disk.
fn alone() -> (Arc<FaultyDisk>, Node) {
    let disk = Arc::new(FaultyDisk::default());
    let mut options = Options::new("c", "n1");
    options.disk_patience = DISK_PATIENCE;
    let open = Arc::new(AtomicBool::new(false));
    let door = Door {
        network: Network::default(),
        own: PeerId::new("n1"),
        open: open.clone(),
    };
    let handle = start(disk.clone(), options, Arc::new(door)).unwrap();
    (disk, Node { handle, open })
}

#[tokio::test]
async fn a_stuck_disk_is_not_waited_for_and_all_is_well_once_it_answers() {
    let (disk, node) = alone();
    write(&node, put("before", "1")).await.unwrap();
    disk.set(Fault::Stuck);

    let under_way = write(&node, put("under-way", "2")).await;
    let Err(WriteError::Unanswered(waited)) = under_way else {
        panic!("{under_way:?}");
    };
    assert!(waited >= DISK_PATIENCE, "{waited:?}");
    let later = write(&node, put("later", "3")).await;
    assert!(matches!(later, Err(WriteError::DiskStuck(_))), "{later:?}");
    assert!(node.handle.disk().stuck >= Some(DISK_PATIENCE));
    let before = node.handle.entry(&key("before")).unwrap();
    assert!(before.is_some(), "reads go on");

    disk.set(Fault::None);
    let again = async {
        while let Err(error) = write(&node, put("after", "4")).await {
            assert!(matches!(error, WriteError::DiskStuck(_)), "{error}");
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, again).await.expect("writes are accepted");
    assert_eq!(node.handle.disk(), DiskStatus::default());
    let held = |name: &str| node.handle.entry(&key(name)).unwrap().is_some();
    assert!(held("under-way"), "it may be done, and here it was");
    assert!(!held("later"), "nothing was changed");
}

#[tokio::test]
async fn a_full_disk_is_told_until_something_could_be_written() {
    let (disk, node) = alone();
    disk.set(Fault::Full);
    for _ in 0..2 {
        let refused = write(&node, put("k", "1")).await;
        assert!(
            matches!(refused, Err(WriteError::Refused(WriteRefused::DiskFull))),
            "{refused:?}"
        );
        assert!(node.handle.disk().failure.is_some_and(|found| found.full));
    }
    disk.set(Fault::None);
    let nothing = vec![Operation::new(key("nobody"), Action::Delete)];
    let refused = write(&node, nothing).await;
    assert!(
        matches!(refused, Err(WriteError::Refused(WriteRefused::NotFound(_)))),
        "{refused:?}"
    );
    let still = node.handle.disk().failure;
    assert!(
        still.is_some(),
        "a write that writes nothing proves nothing"
    );
    write(&node, put("k", "1")).await.unwrap();
    assert_eq!(node.handle.disk(), DiskStatus::default());
}
