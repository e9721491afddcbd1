use proptest::prelude::*;

use super::*;

#[test]
fn what_is_sound_can_be_read_and_what_is_not_cannot() {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for good in ["1", " {\"a\":[1.5e3,\"\\u00e9\",null,true]} ", &deep(127)] {
        check(good.as_bytes(), DEPTH_MAX).unwrap();
        serde_json::from_str::<Value>(good).unwrap();
    }
    let bad = [
        "",
        "{",
        "1 2",
        "\"\\ud800\"",
        "1e999",
        "[1,]",
        "{1:2}",
        &deep(128),
    ];
    for bad in bad.map(str::as_bytes).into_iter().chain([&b"\"\xff\""[..]]) {
        assert!(check(bad, DEPTH_MAX).is_err(), "{bad:?}");
    }
    check(deep(1_000_000).as_bytes(), DEPTH_MAX).unwrap_err();
    check(deep(3).as_bytes(), 2).unwrap_err();
    check(b"{\"a\":{}}", 2).unwrap();
}

#[test]
fn a_merge_patch_follows_the_examples_of_the_rfc() {
    for (target, patch, result) in [
        (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
        (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
        (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (
            r#"{"a":{"b":"c"}}"#,
            r#"{"a":{"b":"d","c":null}}"#,
            r#"{"a":{"b":"d"}}"#,
        ),
        (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
        (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
        (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
        (r#"{"a":"foo"}"#, "null", "null"),
        (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
        ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
        ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
    ] {
        assert_eq!(
            merge_patch(Some(target), patch),
            result,
            "{target} + {patch}"
        );
    }
    assert_eq!(merge_patch(None, r#"{"a":null,"b":1}"#), r#"{"b":1}"#);
}

#[test]
fn a_patch_leaves_the_digits_and_the_order_of_the_rest_alone() {
    let target = r#"{"z":1.00000000000000000001,"b":{"y":1,"x":12345678901234567890123}}"#;
    assert_eq!(
        merge_patch(Some(target), r#"{"b":{"y":2}}"#),
        r#"{"z":1.00000000000000000001,"b":{"y":2,"x":12345678901234567890123}}"#
    );
}

#[test]
fn of_two_members_with_one_name_the_last_counts() {
    let members = Members::parse(r#"{"a":1,"b":2,"a":3}"#).unwrap();
    assert_eq!(members.to_text(), r#"{"a":3,"b":2}"#);
}

#[test]
fn a_removed_member_comes_back_at_the_end() {
    let mut members = Members::parse(r#"{"a":1,"b":2}"#).unwrap();
    members.remove("a");
    members.set("a", "3");
    assert_eq!(members.to_text(), r#"{"b":2,"a":3}"#);
    assert_eq!(members.get("a"), Some("3"));
}

proptest! {
    #[test]
    fn what_is_canonical_is_canonical_when_it_is_read_again(
        float: f64,
        digits in "-?[1-9][0-9]{0,30}(\\.[0-9]{1,30})?(e-?[0-9]{1,2})?",
    ) {
        let text = format!("[{digits},{}]", Value::from(float));
        let once = canonical(serde_json::from_str(&text).unwrap());
        prop_assert_eq!(&canonical(serde_json::from_slice(&once).unwrap()), &once);
    }
}

#[test]
fn the_order_of_names_does_not_matter_to_what_is_canonical() {
    let text = r#"{ "b": [ {"d": 1, "c": 2} ], "a": "\u0041" }"#;
    let canonical = canonical(serde_json::from_str(text).unwrap());
    assert_eq!(canonical, r#"{"a":"A","b":[{"c":2,"d":1}]}"#);
    assert!(same(text, r#"{"a":"A","b":[{"c":2,"d":1}]}"#));
}
