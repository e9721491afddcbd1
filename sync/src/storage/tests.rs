use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Finish, MemoryStorage, Reader, Storage, StoreError, Table, Writer, read};

/// A disk that so many reads from now on fail on.
struct FailingReads {
    disk: MemoryStorage,
    left: AtomicU32,
    error: fn() -> StoreError,
}

impl FailingReads {
    fn new(left: u32, error: fn() -> StoreError) -> Self {
        Self {
            disk: MemoryStorage::default(),
            left: AtomicU32::new(left),
            error,
        }
    }

    fn found(&self) -> Result<Option<Vec<u8>>, StoreError> {
        read(self, |reader| reader.get(Table::Meta, b"key"))
    }
}

impl Storage for FailingReads {
    fn read(
        &self,
        work: &mut dyn FnMut(&dyn Reader) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let left = self.left.load(Ordering::SeqCst);
        self.left.store(left.saturating_sub(1), Ordering::SeqCst);
        match left {
            0 => self.disk.read(work),
            _ => Err((self.error)()),
        }
    }

    fn write(
        &self,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<Finish, StoreError>,
    ) -> Result<(), StoreError> {
        self.disk.write(work)
    }
}

#[test]
fn who_reads_while_a_file_is_opened_anew_notices_nothing() {
    let errors: [fn() -> StoreError; 3] = [
        || StoreError::Io(io::ErrorKind::Other.into()),
        || StoreError::Full(io::ErrorKind::StorageFull.into()),
        || StoreError::Database("it has failed before".into()),
    ];
    for error in errors {
        let storage = FailingReads::new(1, error);
        let mut put = |writer: &mut dyn Writer| {
            writer.insert(Table::Meta, b"key", b"value")?;
            Ok(Finish::Commit)
        };
        storage.write(&mut put).unwrap();
        assert_eq!(storage.found().unwrap().as_deref(), Some(&b"value"[..]));
    }
}

#[test]
fn a_disk_that_goes_on_failing_is_told_of() {
    let storage = FailingReads::new(u32::MAX, || StoreError::Io(io::ErrorKind::Other.into()));
    assert!(matches!(storage.found(), Err(StoreError::Io(_))));
}

#[test]
fn a_damaged_record_is_not_read_again() {
    let storage = FailingReads::new(1, || StoreError::Damaged {
        table: Table::Meta,
        detail: "it is",
    });
    assert!(matches!(storage.found(), Err(StoreError::Damaged { .. })));
    assert_eq!(storage.left.load(Ordering::SeqCst), 0);
}
