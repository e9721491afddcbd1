//! The clocks of the peers against this one's, as the running agent has measured them.

use std::cmp::Reverse;

use super::Subject;
use super::report::Check;
use super::running::Member;

const NAME: &str = "clocks";
/// Beyond this a node's writes can be ordered wrongly against others'.
const OFFSET_MAX_MS: u64 = 500;
/// Beyond this it needs a hand now.
const OFFSET_ERROR_MS: u64 = 60_000;

/// Judges the largest offset.
pub(super) fn examine(subject: &Subject) -> Check {
    match subject.own_agent() {
        Some(running) => judge(&running.members, &running.id),
        None => Check::unknown(
            NAME,
            "not known while the agent does not run: it measures them",
        ),
    }
}

fn judge(members: &[Member], own: &str) -> Check {
    let others = members
        .iter()
        .filter(|member| member.id != own && member.live != Some(false));
    let mut offsets: Vec<(&str, i64)> = others
        .filter_map(|member| Some((member.id.as_str(), member.clock_offset_ms?)))
        .collect();
    offsets.sort_by_key(|(_, offset)| Reverse(offset.unsigned_abs()));
    let Some((id, offset)) = offsets.first() else {
        return Check::ok(NAME, "there is no other member to compare with");
    };
    let magnitude = offset.unsigned_abs();
    let direction = if *offset > 0 { "ahead of" } else { "behind" };
    let fact = format!("the clock of {id} is {magnitude} ms {direction} this one's");
    let next = "set the clocks right on both machines (NTP; `timedatectl` shows the state)";
    let check = if magnitude > OFFSET_ERROR_MS {
        Check::failure(
            NAME,
            format!(
                "{fact}: of two writes at the same time that of the one ahead wins, and a node ahead of most others takes no writes"
            ),
            next,
        )
    } else if magnitude > OFFSET_MAX_MS {
        Check::warning(NAME, fact, next)
    } else {
        let count = offsets.len();
        return Check::ok(
            NAME,
            format!("{count} compared, {magnitude} ms apart at most"),
        );
    };
    offsets.iter().fold(check, |check, (id, offset)| {
        check.seen(format!("{id}: {offset:+} ms"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    #[test]
    fn the_clock_that_is_furthest_off_decides() {
        let member = |id: &str, live, clock_offset_ms| Member {
            id: id.to_owned(),
            live: Some(live),
            clock_offset_ms,
        };
        let judge = |offset| {
            let members = [
                member("n1", true, Some(9_000_000)),
                member("n2", true, Some(3)),
                member("n3", true, offset),
                member("n4", false, Some(9_000_000)),
            ];
            judge(&members, "n1")
        };
        assert_eq!(judge(Some(-20)).verdict, Verdict::Ok);
        assert_eq!(judge(None).verdict, Verdict::Ok);
        let warning = judge(Some(-501));
        assert_eq!(warning.verdict, Verdict::Warning);
        assert!(warning.fact.contains("n3 is 501 ms behind"), "{warning:?}");
        assert_eq!(judge(Some(3_600_000)).verdict, Verdict::Failure);
        assert_eq!(judge(Some(i64::MIN)).verdict, Verdict::Failure);
    }
}
