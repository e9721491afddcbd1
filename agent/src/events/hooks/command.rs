//! A command that is run for each event, with the event's JSON on its standard input.
//!
//! It is run as it is configured, without a shell, in a process group of its own and without the agent's secrets in
//! its environment. It has [`TIME_LIMIT`]; then its group is killed. It has been told if it ends with 0; of what it
//! says, the last line of its standard error goes into the error.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use super::payload::Payload;
use crate::config::CommandLine;
use crate::events::record::text;

/// How long a command may run.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// How long its standard error is read after it has ended: a process that it left behind may keep that open.
const STDERR_LIMIT: Duration = Duration::from_millis(500);
/// How much of the end of its standard error is kept, in bytes.
const STDERR_KEPT: usize = 4096;
/// How the names of variables begin that may hold a secret of the agent.
const OWN_VARIABLES: &str = "BASIC_AGENT_";

/// The command.
#[derive(Debug)]
pub(super) struct CommandHook {
    program: String,
    arguments: Vec<String>,
    time_limit: Duration,
}

/// Why a command has not been told of an event, as far as is known.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    #[error("{program} cannot be run; correct [events] command")]
    Start { program: String, source: io::Error },
    #[error("{program} ended with {status}{}", said(.last_line))]
    Failed {
        program: String,
        status: ExitStatus,
        last_line: String,
    },
    #[error("{program} did not end within {} and was killed{}", humantime::format_duration(*.limit), said(.last_line))]
    TimedOut {
        program: String,
        limit: Duration,
        last_line: String,
    },
    #[error("{program} could not be waited for")]
    Wait { program: String, source: io::Error },
}

impl CommandHook {
    /// The command of the configuration, if there is one.
    pub(super) fn new(command: &CommandLine) -> Option<CommandHook> {
        let (program, arguments) = command.words().split_first()?;
        Some(CommandHook {
            program: program.clone(),
            arguments: arguments.to_vec(),
            time_limit: TIME_LIMIT,
        })
    }

    /// The same with another time limit.
    #[cfg(test)]
    pub(super) fn with_time_limit(self, time_limit: Duration) -> CommandHook {
        CommandHook { time_limit, ..self }
    }

    pub(super) fn program(&self) -> String {
        self.program.clone()
    }

    /// Runs it once.
    ///
    /// # Errors
    /// [`CommandError`].
    pub(super) async fn deliver(&self, payload: &Payload) -> Result<(), CommandError> {
        let program = || self.program();
        let mut child = self
            .command()
            .spawn()
            .map_err(|source| CommandError::Start {
                program: program(),
                source,
            })?;
        let stdin = child.stdin.take();
        let stderr = child.stderr.take();
        let mut last_line = LastLine::default();
        let running = async {
            let feeding = async {
                if let Some(mut stdin) = stdin {
                    // A command that does not read it is free not to.
                    let _ = stdin.write_all(&payload.body).await;
                    let _ = stdin.write_all(b"\n").await;
                }
            };
            let waiting =
                async { tokio::join!(feeding, ended(&mut child, stderr, &mut last_line)).1 };
            timeout(self.time_limit, waiting).await
        };
        match running.await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(CommandError::Failed {
                program: program(),
                status,
                last_line: last_line.text(),
            }),
            Ok(Err(source)) => Err(CommandError::Wait {
                program: program(),
                source,
            }),
            Err(_) => {
                kill_group(&mut child).await;
                Err(CommandError::TimedOut {
                    program: program(),
                    limit: self.time_limit,
                    last_line: last_line.text(),
                })
            }
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with(OWN_VARIABLES) {
                command.env_remove(name);
            }
        }
        command
    }
}

/// Waits for the end of a child and reads its standard error meanwhile, and shortly after.
async fn ended(
    child: &mut Child,
    stderr: Option<ChildStderr>,
    last_line: &mut LastLine,
) -> io::Result<ExitStatus> {
    let Some(mut stderr) = stderr else {
        return child.wait().await;
    };
    let status = {
        let mut reading = std::pin::pin!(last_line.read(&mut stderr));
        tokio::select! {
            status = child.wait() => {
                // What it said last may still be in the pipe.
                let _ = timeout(STDERR_LIMIT, reading).await;
                Some(status)
            }
            () = &mut reading => None,
        }
    };
    match status {
        Some(status) => status,
        None => child.wait().await,
    }
}

/// Kills a child that has not been waited for, so that its id is still its own, with all of its group.
async fn kill_group(child: &mut Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(pid) = pid.and_then(Pid::from_raw) {
        // It may have ended at this moment.
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let _ = child.wait().await;
}

/// The end of what a command says.
#[derive(Debug, Default)]
struct LastLine {
    tail: Vec<u8>,
}

impl LastLine {
    async fn read(&mut self, stderr: &mut ChildStderr) {
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
            self.tail.extend(buffer.iter().take(count));
            let surplus = self.tail.len().saturating_sub(STDERR_KEPT);
            self.tail.drain(..surplus);
        }
    }

    fn text(&self) -> String {
        let said = String::from_utf8_lossy(&self.tail);
        let last = said.lines().rev().find(|line| !line.trim().is_empty());
        text(last.unwrap_or_default().trim())
    }
}

fn said(last_line: &str) -> String {
    if last_line.is_empty() {
        String::new()
    } else {
        format!("; it said: {last_line}")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn hook(words: &[&str]) -> CommandHook {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        CommandHook::new(&CommandLine::new(words)).unwrap()
    }

    fn payload() -> Payload {
        Payload {
            event_id: "n1/7".to_owned(),
            body: br#"{"id":7}"#.to_vec(),
        }
    }

    #[tokio::test]
    async fn a_command_gets_the_event_on_its_standard_input_and_no_shell_reads_its_arguments() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a b;$(c)");
        let file = file.to_str().unwrap();
        hook(&["tee", file]).deliver(&payload()).await.unwrap();
        assert_eq!(fs::read_to_string(file).unwrap(), "{\"id\":7}\n");
    }

    #[tokio::test]
    async fn the_error_has_the_exit_status_and_what_the_command_said_last() {
        let failing = hook(&[
            "sh",
            "-c",
            "echo first >&2; echo no such person >&2; exit 3",
        ]);
        let error = failing.deliver(&payload()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "sh ended with exit status: 3; it said: no such person"
        );
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let error = hook(&["/no/such/program"]).deliver(&payload()).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("/no/such/program"), "{error}");
        assert!(error.contains("[events] command"), "{error}");
    }

    #[tokio::test]
    async fn a_command_that_does_not_end_is_killed_with_all_it_has_started() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let script = format!(
            "sleep 600 & echo $! > {}; echo waiting >&2; wait",
            file.display()
        );
        let slow = hook(&["sh", "-c", &script]).with_time_limit(Duration::from_secs(1));
        let error = slow.deliver(&payload()).await.unwrap_err().to_string();
        assert!(error.contains("killed; it said: waiting"), "{error}");
        let pid = fs::read_to_string(file).unwrap();
        let status = format!("/proc/{}/stat", pid.trim());
        // It is gone, or about to be collected by whoever inherits it.
        for _ in 0..500 {
            match fs::read_to_string(&status) {
                Ok(stat) if !stat.contains(") Z") => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                _ => return,
            }
        }
        panic!("the process {} still runs", pid.trim());
    }

    #[tokio::test]
    async fn a_command_that_leaves_a_process_behind_with_its_output_open_is_not_waited_for_longer()
    {
        let leaving = hook(&["sh", "-c", "sleep 5 & echo $! >&2; exit 1"]);
        let error = leaving.deliver(&payload()).await.unwrap_err();
        let CommandError::Failed { last_line, .. } = error else {
            panic!("{error}");
        };
        let pid: i32 = last_line.parse().unwrap();
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }
}
