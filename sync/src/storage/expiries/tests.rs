use super::*;
use crate::storage::MemoryStorage;

#[test]
fn any_row_is_read_as_it_was_written_or_is_damaged() {
    let key = b"users\0u1";
    let due = decode_row(&row(7, key)).unwrap();
    assert_eq!((due.at_ms, &due.key[..]), (7, &key[..]));
    assert!(matches!(
        decode_row(&[0; 7]),
        Err(StoreError::Damaged { .. })
    ));
}

#[test]
fn what_is_due_comes_in_order_and_no_further_than_asked() {
    let storage = MemoryStorage::default();
    let fill = |writer: &mut dyn Writer| {
        for at_ms in [300, 100, 200, 400] {
            writer.insert(Table::Expiries, &row(at_ms, b"users\0u1"), &[])?;
        }
        Ok(Finish::Commit)
    };
    storage.write(&mut { fill }).unwrap();
    let moments = |from_ms, now_ms, limit| {
        let found = super::super::read(&storage, |reader| due(reader, from_ms, now_ms, limit));
        let found = found.unwrap().into_iter().map(|due| due.at_ms);
        found.collect::<Vec<_>>()
    };
    assert_eq!(moments(0, 300, 9), [100, 200, 300]);
    assert_eq!(moments(101, 299, 9), [200]);
    assert_eq!(moments(0, 400, 2), [100, 200]);
    let next = super::super::read(&storage, |reader| first(reader, 301)).unwrap();
    assert_eq!(next, Some(400));
}
