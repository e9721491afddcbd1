//! What operations are refused, and with which words.

use super::super::tests::{World, bytes};
use super::*;

fn refused(world: &mut World, merge: Merge, action: Action) -> String {
    let before = world.nodes[0].doc.clone();
    let error = world.act(0, merge, &action, None).unwrap_err();
    assert_eq!(world.nodes[0].doc, before);
    error.to_string()
}

#[test]
fn what_is_refused_says_what_to_send_instead() {
    let long = format!("{{\"{}\":1}}", "n".repeat(513));
    for (merge, put, text, words) in [
        (Merge::Lww, true, "{", "send one JSON value"),
        (Merge::Lww, true, "\"\\ud800\"", "send one JSON value"),
        (Merge::Lww, false, "", "send one JSON value"),
        (Merge::Fields, true, &long, "at most 512"),
        (Merge::Fields, false, &long, "at most 512"),
        (Merge::Counter, true, "1.5", "send one, as in 42"),
        (
            Merge::Counter,
            true,
            "9223372036854775808",
            "send one, as in 42",
        ),
        (Merge::Counter, false, "5", "{\"add\": 5}"),
        (
            Merge::Counter,
            false,
            "{\"add\":5,\"sub\":1}",
            "{\"add\": 5}",
        ),
        (Merge::Counter, false, "{\"add\":\"5\"}", "{\"add\": 5}"),
        (Merge::Set, true, "{}", "send one, as in"),
        (Merge::Set, false, "[1]", "{\"add\": [\"a\"]"),
        (Merge::Set, false, "{\"add\":1}", "{\"add\": [\"a\"]"),
        (Merge::Set, false, "{\"ad\":[]}", "{\"add\": [\"a\"]"),
        (
            Merge::Set,
            false,
            "{\"add\":[{\"a\":1}],\"remove\":[{\"a\": 1}]}",
            "name it once",
        ),
    ] {
        let body = bytes(text);
        let action = if put {
            Action::Put(body)
        } else {
            Action::Patch(body)
        };
        let said = refused(&mut World::new(), merge, action);
        assert!(said.contains(words), "{text}: {said}");
    }
}

#[test]
fn a_document_of_another_sort_has_to_be_deleted_first() {
    for (merge, patch, value, words) in [
        (
            Merge::Counter,
            "{\"add\":1}",
            "{\"a\":1}",
            "holds an object",
        ),
        (
            Merge::Counter,
            "{\"add\":1}",
            "1.5",
            "holds a number, which is no integer",
        ),
        (
            Merge::Set,
            "{\"add\":[1]}",
            "7",
            "holds a number, which is no list",
        ),
        (Merge::Set, "{}", " \"s\"", "holds a string"),
    ] {
        let mut world = World::new();
        world.put(0, Merge::Lww, value);
        let said = refused(&mut world, merge, Action::Patch(bytes(patch)));
        assert!(said.contains(words), "{said}");
        world.delete(0, merge);
        world.patch(0, merge, patch);
    }
}

#[test]
fn a_counter_stays_within_its_integers() {
    let mut world = World::new();
    world.put(0, Merge::Counter, &i64::MAX.to_string());
    let said = refused(
        &mut world,
        Merge::Counter,
        Action::Patch(bytes("{\"add\":1}")),
    );
    assert!(said.contains("send a smaller step"), "{said}");
    // The running total of an origin has to stay within them as well.
    let put = Action::Put(bytes(&i64::MIN.to_string()));
    world.act(0, Merge::Counter, &put, None).unwrap();
    world.patch(0, Merge::Counter, "{\"add\":1}");
}

#[test]
fn a_set_takes_as_many_elements_at_once_as_it_says() {
    let list = |count: usize| {
        let numbers: Vec<String> = (0..count).map(|n| n.to_string()).collect();
        bytes(&format!("[{}]", numbers.join(",")))
    };
    let mut world = World::new();
    let said = refused(&mut world, Merge::Set, Action::Put(list(ELEMENTS_MAX + 1)));
    assert!(said.contains("at most 4096"), "{said}");
    let put = Action::Put(list(ELEMENTS_MAX));
    world.act(0, Merge::Set, &put, None).unwrap();
    world.put(1, Merge::Lww, std::str::from_utf8(&list(70_000)).unwrap());
    let patch = Action::Patch(bytes("{}"));
    let error = world.act(1, Merge::Set, &patch, None).unwrap_err();
    assert!(matches!(error, PlanError::SetTooLarge(70_000)));
}

#[test]
fn parts_are_as_few_as_the_operation_needs() {
    let mut world = World::new();
    let parts = |world: &mut World, merge, action| {
        let write = world.act(0, merge, &action, None).unwrap();
        let parts = write.parts.into_iter();
        parts.map(|write| write.part).collect::<Vec<_>>()
    };
    let put = |text| Action::Put(bytes(text));
    let field = |name: &str| Part::Field(name.into());
    assert_eq!(
        parts(&mut world, Merge::Lww, put("{\"a\":1}")),
        [Part::Root]
    );
    assert_eq!(
        parts(&mut world, Merge::Fields, put("{\"a\":1,\"b\":1}")),
        [field("b")]
    );
    assert_eq!(
        parts(&mut world, Merge::Fields, put("{\"b\":1}")),
        [field("a")]
    );
    assert_eq!(
        parts(&mut world, Merge::Fields, put("{\"b\":1}")),
        [field("b")]
    );
    assert_eq!(
        parts(&mut world, Merge::Fields, Action::Delete),
        [Part::Root]
    );
}

#[test]
fn merge_rules_have_names() {
    for merge in [Merge::Lww, Merge::Fields, Merge::Counter, Merge::Set] {
        assert_eq!(merge.to_string().parse(), Ok(merge));
    }
    assert_eq!("LWW".parse::<Merge>(), Err(ParseMergeError));
}
