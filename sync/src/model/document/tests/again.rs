//! Making a write again, elsewhere.

use super::*;

/// What node 1 reads when it makes a write of node 0 again; `None` if there is nothing to do.
fn read_again(world: &mut World, merge: Merge, write: &Write) -> Option<String> {
    let again = world.nodes[1].doc.again(write, world.now_ms)?;
    let ttl = again.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap());
    world.act(1, merge, &again.action, ttl).unwrap();
    let value = world.nodes[1].doc.value(world.now_ms);
    Some(value.map_or("nothing".to_owned(), |value| {
        String::from_utf8(value.to_vec()).unwrap()
    }))
}

fn patch(world: &mut World, merge: Merge, body: &str) -> Write {
    let action = Action::Patch(bytes(body));
    world.act(0, merge, &action, None).unwrap()
}

#[test]
fn a_document_is_put_again_and_a_field_is_laid_over_what_is_there() {
    let mut world = World::new();
    let put = Action::Put(bytes(r#"{"a":1,"b":2}"#));
    let put = world.act(0, Merge::Fields, &put, None).unwrap();
    let again = read_again(&mut world, Merge::Fields, &put);
    assert_eq!(again.as_deref(), Some(r#"{"a":1,"b":2}"#));
    let patched = patch(&mut world, Merge::Fields, r#"{"a":null,"c":{"d":3}}"#);
    let again = read_again(&mut world, Merge::Fields, &patched);
    assert_eq!(again.as_deref(), Some(r#"{"b":2,"c":{"d":3}}"#));

    let mut world = World::new();
    let put = Action::Put(bytes("[7]"));
    let put = world.act(0, Merge::Lww, &put, None).unwrap();
    world.put(1, Merge::Lww, "8");
    let again = read_again(&mut world, Merge::Lww, &put);
    assert_eq!(again.as_deref(), Some("[7]"));
}

#[test]
fn a_deletion_is_made_again_where_there_is_something_to_delete() {
    let mut world = World::new();
    world.put(0, Merge::Lww, "1");
    let deleted = world.act(0, Merge::Lww, &Action::Delete, None).unwrap();
    assert_eq!(read_again(&mut world, Merge::Lww, &deleted), None);
    world.put(1, Merge::Lww, "2");
    let again = read_again(&mut world, Merge::Lww, &deleted);
    assert_eq!(again.as_deref(), Some("nothing"));
}

#[test]
fn of_a_count_only_what_is_missing_is_added() {
    let mut world = World::new();
    patch(&mut world, Merge::Counter, r#"{"add":5}"#);
    world.send(0, 1);
    let more = patch(&mut world, Merge::Counter, r#"{"add":2}"#);
    world
        .act(
            1,
            Merge::Counter,
            &Action::Patch(bytes(r#"{"add":10}"#)),
            None,
        )
        .unwrap();
    let again = read_again(&mut world, Merge::Counter, &more);
    assert_eq!(again.as_deref(), Some("17"));
    // Where the write itself has come meanwhile, there is nothing to add.
    world.send(0, 1);
    assert_eq!(read_again(&mut world, Merge::Counter, &more), None);
}

#[test]
fn elements_are_added_again_and_taken_off_where_they_still_are() {
    let mut world = World::new();
    patch(&mut world, Merge::Set, r#"{"add":["a","b"]}"#);
    world.send(0, 1);
    let changed = patch(&mut world, Merge::Set, r#"{"add":["c"],"remove":["a"]}"#);
    let again = read_again(&mut world, Merge::Set, &changed);
    assert_eq!(again.as_deref(), Some(r#"["b","c"]"#));
    let removed = patch(&mut world, Merge::Set, r#"{"remove":["c"]}"#);
    assert_eq!(
        read_again(&mut world, Merge::Set, &removed),
        None,
        "the addition that it took off is not here, and another is"
    );
}

#[test]
fn what_would_have_expired_by_now_is_not_made_again() {
    let mut world = World::new();
    let put = Action::Put(bytes("1"));
    let put = world.act(0, Merge::Lww, &put, Some(500)).unwrap();
    let again = world.nodes[1].doc.again(&put, world.now_ms + 100).unwrap();
    assert_eq!(again.ttl.map(|ttl| ttl.as_millis()), Some(400));
    assert_eq!(world.nodes[1].doc.again(&put, world.now_ms + 500), None);
}
