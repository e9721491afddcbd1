//! The limits of the process.

use super::Subject;
use super::report::Check;
use crate::host::OpenFiles;

const NAME: &str = "file limit";

/// How many files and connections the agent may have open: by its own word if it runs, else as it would inherit it.
pub(super) fn examine(subject: &Subject) -> Check {
    let here = OpenFiles::of_this_process();
    match subject.own_agent().map(|running| &running.process) {
        Some(process) if process.open_files_soft.is_some() => {
            let told = OpenFiles {
                soft: process.open_files_soft,
                hard: process.open_files_hard,
                open: process.open_files,
            };
            judge(told).seen("as the running agent says")
        }
        _ => {
            let raised = OpenFiles { open: None, ..here }.raised();
            judge(raised).seen("as an agent started from here raises it")
        }
    }
}

fn judge(files: OpenFiles) -> Check {
    let Some(soft) = files.soft else {
        return Check::ok(NAME, "there is none");
    };
    let hard = files
        .hard
        .map_or_else(|| "none".to_owned(), |hard| hard.to_string());
    let open = files
        .open
        .map_or_else(String::new, |open| format!(", {open} are open"));
    let fact = format!("{soft} open files and connections (hard limit {hard}{open})");
    let next =
        "raise it: LimitNOFILE= in the systemd unit, or `ulimit -n` before the agent is started";
    if soft < OpenFiles::SOFT_MIN || files.is_nearly_exhausted() {
        Check::failure(
            NAME,
            format!("{fact}: connections are about to be refused"),
            next,
        )
    } else if soft < OpenFiles::SOFT_AMPLE {
        let clients = OpenFiles::clients(soft);
        Check::warning(
            NAME,
            format!("{fact}: enough for some {clients} clients at once"),
            next,
        )
    } else {
        Check::ok(NAME, fact)
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    #[test]
    fn the_limit_is_judged_by_what_it_carries_and_by_what_is_used() {
        let files = |soft, open| OpenFiles {
            soft,
            hard: Some(1 << 20),
            open,
        };
        assert_eq!(judge(files(None, None)).verdict, Verdict::Ok);
        assert_eq!(judge(files(Some(65_536), Some(100))).verdict, Verdict::Ok);
        assert_eq!(judge(files(Some(1024), None)).verdict, Verdict::Warning);
        assert_eq!(judge(files(Some(256), None)).verdict, Verdict::Failure);
        assert_eq!(
            judge(files(Some(65_536), Some(65_000))).verdict,
            Verdict::Failure
        );
    }
}
