//! The command that is told of events: is there a program to run?
//!
//! A webhook is not asked, because it would take the question for an event.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::Subject;
use super::report::Check;

const NAME: &str = "events command";

/// Nothing where no command is configured.
pub(super) fn examine(subject: &Subject) -> Option<Check> {
    let program = subject.config.events.command.words().first()?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    Some(judge(program, &path))
}

fn judge(program: &str, path: &OsStr) -> Check {
    let found = if program.contains('/') {
        is_program(Path::new(program))
    } else {
        std::env::split_paths(path).any(|directory| is_program(&directory.join(program)))
    };
    if found {
        Check::ok(NAME, format!("{program} can be run"))
    } else {
        Check::failure(
            NAME,
            format!("{program} is no program that can be run: nobody would be told of events"),
            "correct [events] command, or make the file executable",
        )
    }
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    #[test]
    fn a_program_is_a_file_that_can_be_run_by_its_path_or_found_on_the_way() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("notify");
        fs::write(&file, "#!/bin/sh\n").unwrap();
        let by_path = file.to_str().unwrap();
        let path = directory.path().as_os_str();
        let verdicts = || [by_path, "notify"].map(|program| judge(program, path).verdict);
        assert_eq!(verdicts(), [Verdict::Failure; 2], "not executable");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(verdicts(), [Verdict::Ok; 2]);
        assert_eq!(judge("notify", OsStr::new("")).verdict, Verdict::Failure);
        let directory = directory.path().to_str().unwrap();
        assert_eq!(judge(directory, path).verdict, Verdict::Failure);
    }
}
