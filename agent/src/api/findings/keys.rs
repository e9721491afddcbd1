//! Keys: a rotation that is not through.

use std::collections::BTreeSet;

use basic_membership::{KeyId, Member};

use super::{Code, Facts, Finding};

/// Members that run and do not all have, or do not all use, the same keys.
pub(super) fn findings(facts: &Facts<'_>) -> impl Iterator<Item = Finding> {
    // One that announces no key is of an older version.
    let members: Vec<&Member> = facts
        .members
        .iter()
        .filter(|member| member.live && !member.metadata.keys.is_empty())
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
            format!("{}: {}", member.id, keys.join(", "))
        })
        .collect();
    Finding::warning(
        Code::KeysDiffer,
        "not all members have the same keys: a rotation is not finished",
    )
    .cause("a rotation or a retirement is under way, or a member cannot take the new key in")
    .evidence(format!("in use first, then installed: {}", each.join("; ")))
    .next("basic-agent keys list shows who has which; it goes on by itself once all members are reached")
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
            "an older version"
        );
        let mut away = scene([&[NEW], &[NEW], &[OLD]]);
        away.member("n3").live = false;
        away.member("n3").state = basic_membership::MemberState::Left;
        assert_eq!(away.findings(), []);
    }
}
