//! One node, agent and server, as children of a test.
//!
//! For tests that must see what `scripts/cluster` hides: exit codes, refused
//! configurations, a node that belongs to no cluster. The children stay in the
//! process group of the test, so that a runner that gives a test up takes them
//! along, and are killed when their handle is dropped.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::harness::binaries::Binaries;
use crate::harness::layout::NodeLayout;
use crate::harness::process::{ProcessId, Signal};
use crate::harness::wait::{WaitError, wait_until};

/// Variables that would change an agent's configuration from outside.
const AGENT_VARIABLES: &str = "BASIC_AGENT_";

/// A child process whose output goes to a file.
pub struct Service {
    child: Child,
    id: ProcessId,
    log: PathBuf,
}

/// A node of a [`Layout`](crate::harness::layout::Layout), once its files are written.
pub struct Node {
    /// Where its ports and files are.
    pub layout: NodeLayout,
    /// The agent.
    pub agent: Service,
    /// The server beside it.
    pub app: Service,
}

impl Node {
    /// Starts server and agent; neither need be ready yet.
    ///
    /// # Errors
    /// When one of the two cannot be started.
    pub fn start(binaries: &Binaries, layout: NodeLayout) -> io::Result<Self> {
        Self::start_by(binaries, layout, |command| command)
    }

    /// The same, with each command as `run_as` makes it of the plain one: inside
    /// a namespace, say.
    ///
    /// # Errors
    /// When one of the two cannot be started.
    pub fn start_by(
        binaries: &Binaries,
        layout: NodeLayout,
        run_as: impl Fn(Command) -> Command,
    ) -> io::Result<Self> {
        let mut app = run_as(app_command(binaries, &layout));
        let mut agent = run_as(agent_command(binaries, &layout));
        let app = Service::start(&mut app, layout.app_log())?;
        let agent = Service::start(&mut agent, layout.agent_log())?;
        fs::write(
            layout.directory().join("agent.pid"),
            agent.id.pid.to_string(),
        )?;
        fs::write(layout.directory().join("app.pid"), app.id.pid.to_string())?;
        Ok(Self { layout, agent, app })
    }
}

impl Service {
    /// Starts a child that appends its output to `log`.
    ///
    /// # Errors
    /// When the log cannot be opened or the child cannot be started.
    pub fn start(command: &mut Command, log: PathBuf) -> io::Result<Self> {
        let output = File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let id = ProcessId::of(child.id()).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { child, id, log })
    }

    /// By what it is signalled and measured.
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// All that it has said so far.
    pub fn output(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What it has said after the first `offset` bytes.
    pub fn output_from(&self, offset: u64) -> String {
        let mut bytes = Vec::new();
        let read = File::open(&self.log).and_then(|mut file| {
            file.seek(SeekFrom::Start(offset))?;
            file.read_to_end(&mut bytes)
        });
        // A log that cannot be read says nothing.
        match read {
            Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(_) => String::new(),
        }
    }

    /// How many bytes it has said so far.
    pub fn output_length(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |log| log.len())
    }

    /// Sends a signal; nothing happens if it has ended.
    ///
    /// # Errors
    /// When the operating system does not permit it.
    pub fn signal(&self, signal: Signal) -> io::Result<bool> {
        self.id.signal(signal)
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub async fn exit(&mut self, limit: Duration) -> Result<ExitStatus, WaitError> {
        let pid = self.id.pid;
        wait_until(format!("process {pid} to end"), limit, || {
            std::future::ready(match self.child.try_wait() {
                Ok(Some(status)) => Ok(status),
                Ok(None) => Err("it still runs".to_owned()),
                Err(error) => Err(error.to_string()),
            })
        })
        .await
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command that runs the agent of a node.
pub fn agent_command(binaries: &Binaries, layout: &NodeLayout) -> Command {
    agent_command_with(&binaries.agent(), &layout.config_file())
}

/// The command that runs an agent by a configuration file, and by nothing
/// else: variables of our own environment that would change its settings are
/// kept from it, except `BASIC_AGENT_LOG`, which only changes what it logs.
pub fn agent_command_with(agent: &Path, config: &Path) -> Command {
    let mut command = Command::new(agent);
    for (name, _) in std::env::vars_os() {
        let setting = name.to_string_lossy().starts_with(AGENT_VARIABLES);
        if setting && name != "BASIC_AGENT_LOG" {
            command.env_remove(name);
        }
    }
    command.arg("run").arg("--config").arg(config);
    command
}

/// The command that runs the server of a node.
pub fn app_command(binaries: &Binaries, layout: &NodeLayout) -> Command {
    let address = layout.app();
    let mut command = Command::new(binaries.sample_server());
    command.arg("--host").arg(address.ip().to_string());
    command.arg("--port").arg(address.port().to_string());
    command
}
