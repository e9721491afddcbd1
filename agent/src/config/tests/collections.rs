//! `[collections.NAME]`: what is taken, and how it is shown.

use std::time::Duration;

use basic_sync::model::VALUE_BYTES_MAX;
use basic_sync::model::document::Merge;
use bytesize::ByteSize;
use proptest::prelude::*;

use super::super::schema::COLLECTION_KEYS;
use super::super::value::{Choice as _, Raw};
use super::super::*;
use super::Given;

/// Every way to write a collection's table, and one that is all at its defaults.
const COLLECTIONS: &str = r#"
[collections.users]
merge = "fields"
document_max = "64KiB"
ttl = "30d"
history = 10
history_age = "7d"
[collections]
hits = { merge = "counter" }
sessions.ttl = "1h"
[collections."a.b"]
merge = "set"
[collections.plain]
"#;

/// Names of the collections that are configured.
pub(super) fn names(config: &Config) -> Vec<&str> {
    config.collections.keys().map(String::as_str).collect()
}

#[test]
fn a_policy_is_read_and_what_it_leaves_out_is_at_its_default() {
    let config = Given::nothing().file(COLLECTIONS).config();
    assert_eq!(
        names(&config),
        ["a.b", "hits", "plain", "sessions", "users"]
    );
    assert_eq!(
        config.collections["users"],
        CollectionSettings {
            merge: Merge::Fields,
            document_max: ByteSize::kib(64),
            ttl: Some(Duration::from_secs(30 * 24 * 3600)),
            history: 10,
            history_age: Some(Duration::from_secs(7 * 24 * 3600)),
        }
    );
    assert_eq!(config.collections["hits"].merge, Merge::Counter);
    assert_eq!(config.collections["a.b"].merge, Merge::Set);
    let hour = Some(Duration::from_secs(3600));
    assert_eq!(config.collections["sessions"].ttl, hour);
    assert_eq!(config.collections["plain"], CollectionSettings::default());
}

#[test]
fn a_collection_without_a_policy_of_its_own_is_not_listed_and_has_the_defaults() {
    assert_eq!(names(&Given::nothing().config()), [""; 0]);
    assert_eq!(
        CollectionSettings::default(),
        CollectionSettings {
            merge: Merge::Lww,
            document_max: ByteSize::b(VALUE_BYTES_MAX as u64),
            ttl: None,
            history: 0,
            history_age: None,
        }
    );
}

#[test]
fn the_tables_may_be_written_inline_or_dotted_and_may_be_none() {
    for file in [
        "collections = { users = { merge = \"set\" } }",
        "collections.users.merge = \"set\"",
        "[collections]\nusers = { merge = \"set\" }",
        "[collections]\nusers.merge = \"set\"",
        "[collections.\"users\"]\nmerge = \"set\"",
    ] {
        let config = Given::nothing().file(file).config();
        assert_eq!(config.collections["users"].merge, Merge::Set, "{file}");
    }
    assert_eq!(
        names(&Given::nothing().file("[collections]\n").config()),
        [""; 0]
    );
}

#[test]
fn what_show_prints_loads_to_the_same_settings() {
    let loaded = Given::nothing().file(COLLECTIONS).load().unwrap();
    for printed in [
        loaded.to_toml(false),
        loaded.to_toml(true),
        loaded.to_file(),
    ] {
        let again = Given::nothing().file(&printed).config();
        assert_eq!(again, loaded.config, "{printed}");
    }
    let shown = loaded.to_toml(false);
    let end = "\n\n[collections.users]\nmerge = \"fields\"\ndocument_max = \"64KiB\"\nttl = \"30days\"\nhistory = 10\nhistory_age = \"7days\"\n";
    assert!(shown.ends_with(end), "{shown}");
    let one =
        "\n\n[collections.\"a.b\"]\nmerge = \"set\"\ndocument_max = \"1MiB\"\nhistory = 0\n\n[";
    assert!(shown.contains(one), "{shown}");
}

#[test]
fn show_tells_where_each_value_came_from() {
    let given = Given::nothing().file(COLLECTIONS);
    let loaded = given.load().unwrap();
    let file = given.sources.file.as_ref().unwrap().display().to_string();
    let origin = |collection, name| {
        let origin = loaded.origins.of_collection(collection, name);
        origin.map(ToString::to_string)
    };
    assert_eq!(origin("users", "merge"), Some(format!("file {file}:3")));
    assert_eq!(origin("sessions", "ttl"), Some(format!("file {file}:10")));
    assert_eq!(origin("sessions", "merge").as_deref(), Some("default"));
    assert_eq!(origin("hits", "ttl"), None);
    assert_eq!(origin("other", "merge"), None);
    let shown = loaded.to_toml(true);
    let line = format!("ttl = \"30days\"          # file {file}:5\n");
    assert!(shown.contains(&line), "{shown}");
}

#[test]
fn show_as_json_has_an_object_for_each_collection() {
    let loaded = Given::nothing().file(COLLECTIONS).load().unwrap();
    let json = loaded.to_json(false);
    assert_eq!(json["collections"]["users"]["document_max"], "64KiB");
    assert_eq!(json["collections"]["a.b"]["merge"], "set");
    let json = loaded.to_json(true);
    let merge = &json["collections"]["plain"]["merge"];
    assert_eq!(merge["value"], "lww");
    assert_eq!(merge["origin"], "default");
    let none = Given::nothing().load().unwrap().to_json(false);
    assert_eq!(none["collections"], serde_json::json!({}));
}

#[test]
fn the_example_of_the_default_file_loads_once_it_is_no_comment() {
    let mut file = default_file();
    for start in ["[collections.users]", "merge =", "document_max =", "ttl ="] {
        let comment = format!("\n# {start}");
        assert_eq!(file.matches(&comment).count(), 1, "{start} in {file}");
        file = file.replace(&comment, &format!("\n{start}"));
    }
    let config = Given::nothing().file(file).config();
    assert!(config.collections["users"].ttl.is_some());
}

#[test]
fn every_default_and_example_is_valid_and_every_merge_rule_has_its_own_name() {
    for key in COLLECTION_KEYS {
        let (Initial::Default(text) | Initial::Unset { example: text }) = key.initial();
        let checked = key.check(&Raw::Text(text.to_owned())).unwrap();
        assert!(key.check(&Raw::Toml(checked)).is_ok(), "{}", key.id());
        assert!(key.flag().is_none());
    }
    for (name, merge) in Merge::CHOICES {
        assert_eq!(name.parse(), Ok(*merge));
        assert_eq!(merge.to_string(), *name);
    }
}

proptest! {
    #[test]
    fn arbitrary_lines_with_real_names_never_panic(
        lines in proptest::collection::vec(
            (r#"(\[|\[\[|)collections(\.(users|a\.b|"a\.b"|"agent\.x"|".{0,3}"))?(\]\]|\]|)"#,
             r"(merge|document_max|ttl|users|users\.ttl| |\n)= ?.{0,12}"), 0..6),
    ) {
        let text: String = lines.iter().map(|(a, b)| format!("{a}\n{b}\n")).collect();
        if let Err(errors) = Given::nothing().file(&text).load() {
            prop_assert!(!errors.problems().is_empty());
        }
    }

    #[test]
    fn every_policy_is_shown_as_it_is_read(
        name in "[a-z0-9][a-z0-9._-]{0,63}",
        merge in "(lww|fields|counter|set)",
        document_max in 1024..=1_048_576_u64,
        ttl in proptest::option::of(1000..=315_576_000_000_u64),
    ) {
        prop_assume!(!name.starts_with("agent."));
        let ttl = ttl.map(|ms| format!(", ttl = \"{ms}ms\"")).unwrap_or_default();
        let file = format!("[collections]\n\"{name}\" = {{ merge = \"{merge}\", document_max = \"{document_max}B\"{ttl} }}");
        let loaded = Given::nothing().file(file).load().unwrap();
        prop_assert_eq!(names(&loaded.config), [name.as_str()]);
        for shown in [loaded.to_toml(true), loaded.to_file()] {
            prop_assert_eq!(&Given::nothing().file(&shown).config(), &loaded.config);
        }
    }
}
