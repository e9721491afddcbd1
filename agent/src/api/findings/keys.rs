//! Keys: a rotation that is not through.

use std::collections::BTreeSet;

use basic_membership::transport::keyring::KEYS_MAX;
use basic_membership::{KeyId, Member};

use super::{Code, Facts, Finding};

/// Members that run and do not all have, or do not all use, the same keys.
pub(super) fn findings(facts: &Facts<'_>) -> impl Iterator<Item = Finding> {
    let live: Vec<&Member> = facts.members.iter().filter(|member| member.live).collect();
    // One that announces no key is of another version. As long as there is one key only, nothing waits for it.
    let is_waited_for = live.iter().any(|member| member.metadata.keys.len() > 1);
    let members: Vec<&Member> = live
        .into_iter()
        .filter(|member| is_waited_for || !member.metadata.keys.is_empty())
        .collect();
    let rings: BTreeSet<(Option<KeyId>, BTreeSet<KeyId>)> =
        members.iter().map(|member| ring(member)).collect();
    (rings.len() > 1).then(|| unfinished(&members)).into_iter()
}

fn unfinished(members: &[&Member]) -> Finding {
    let each: Vec<String> = members
        .iter()
        .map(|member| {
            let keys: Vec<String> = member
                .metadata
                .keys
                .iter()
                .map(ToString::to_string)
                .collect();
            let keys = match keys.as_slice() {
                [] => "none announced".to_owned(),
                keys => keys.join(", "),
            };
            format!("{}: {keys}", member.id)
        })
        .collect();
    let finding = Finding::warning(
        Code::KeysDiffer,
        "not all members have the same keys: a rotation is not finished",
    )
    .evidence(format!("in use first, then installed: {}", each.join("; ")));
    let full = named(members, |member| member.metadata.keys.len() >= KEYS_MAX);
    let silent = named(members, |member| member.metadata.keys.is_empty());
    if !full.is_empty() {
        return finding
            .cause(format!("{full} cannot take a further key in: {KEYS_MAX} are installed, which is the most there may be"))
            .next("basic-agent keys retire ID ends one that nobody uses any more, and the rotation goes on; basic-agent keys list shows who uses which");
    }
    if !silent.is_empty() {
        return finding
            .cause(format!("{silent} announces no key, so that a rotation waits for it: is its agent of another version?"))
            .next(format!("install the version of the others on {silent}, or take it out by basic-agent remove"));
    }
    finding
        .cause("a rotation or a retirement is under way, or a member cannot take the new key in")
        .next("basic-agent keys list shows who has which; it goes on by itself once all members are reached")
}

fn named(members: &[&Member], which: impl Fn(&Member) -> bool) -> String {
    let members = members.iter().filter(|member| which(member));
    let names: Vec<&str> = members.map(|member| member.id.as_str()).collect();
    names.join(", ")
}

/// The key in use, and all that are installed.
fn ring(member: &Member) -> (Option<KeyId>, BTreeSet<KeyId>) {
    let keys = &member.metadata.keys;
    (keys.first().copied(), keys.iter().copied().collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::scene::Scene;
    use super::*;

    const OLD: &str = "00000001";
    const NEW: &str = "00000002";

    fn scene(rings: [&[&str]; 3]) -> Scene {
        let mut scene = Scene::healthy();
        for (member, keys) in scene.members.iter_mut().zip(rings) {
            let keys = keys.iter().map(|key| key.parse().unwrap());
            Arc::make_mut(&mut member.metadata).keys = keys.collect();
        }
        scene
    }

    #[test]
    fn a_rotation_is_unfinished_until_all_have_and_use_the_same_keys() {
        assert_eq!(scene([&[OLD], &[OLD], &[OLD]]).findings(), []);
        assert_eq!(
            scene([&[NEW, OLD], &[NEW, OLD], &[NEW, OLD]]).findings(),
            []
        );
        let found = scene([&[NEW, OLD], &[NEW, OLD], &[OLD, NEW]]).only(Code::KeysDiffer);
        assert!(
            found.evidence.contains("n3: 00000001, 00000002"),
            "{found:?}"
        );
        scene([&[NEW, OLD], &[OLD], &[OLD]]).only(Code::KeysDiffer);
        assert_eq!(
            scene([&[NEW], &[], &[NEW]]).findings(),
            [],
            "nothing waits for it"
        );
        let found = scene([&[OLD, NEW], &[OLD, NEW], &[]]).only(Code::KeysDiffer);
        assert!(found.cause.contains("n3 announces no key"), "{found:?}");
        let mut away = scene([&[NEW], &[NEW], &[OLD]]);
        away.member("n3").live = false;
        away.member("n3").state = basic_membership::MemberState::Left;
        assert_eq!(away.findings(), []);
    }
    #[test]
    fn a_member_without_room_for_the_new_key_is_named_with_the_way_out() {
        let full: Vec<String> = (1..=KEYS_MAX).map(|n| format!("{n:08x}")).collect();
        let full: Vec<&str> = full.iter().map(String::as_str).collect();
        let found = scene([&[OLD, "000000ff"], &[OLD, "000000ff"], &full]).only(Code::KeysDiffer);
        assert!(found.cause.contains("n3 cannot take"), "{found:?}");
        assert!(found.next.contains("keys retire"), "{found:?}");
    }
}
