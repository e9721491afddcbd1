//! The configuration as a whole: what is refused and in which words, and which source wins.

mod collection_refusals;
mod collections;
mod loading;
mod refusals;
mod secrets;

use std::ffi::OsString;
use std::fs;

use tempfile::TempDir;

use super::{Config, ConfigErrors, Environment, FlagValue, Loaded, Sources};

/// Sources made of texts. The file is called `agent.toml`, in a directory that lives as long as this.
struct Given {
    dir: TempDir,
    sources: Sources,
}

impl Given {
    fn nothing() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            sources: Sources::default(),
        }
    }

    fn file(mut self, contents: impl AsRef<[u8]>) -> Self {
        let path = self.dir.path().join("agent.toml");
        fs::write(&path, contents).unwrap();
        self.sources.file = Some(path);
        self
    }

    fn environment(mut self, variables: &[(&str, &str)]) -> Self {
        let variables = variables
            .iter()
            .map(|(n, v)| (OsString::from(n), OsString::from(v)));
        self.sources.environment = variables.collect::<Environment>();
        self
    }

    fn flag(mut self, flag: &str, value: &str) -> Self {
        self.sources.flags.push(FlagValue {
            flag: flag.to_owned(),
            value: value.to_owned(),
        });
        self
    }

    fn load(&self) -> Result<Loaded, ConfigErrors> {
        Config::load(&self.sources)
    }

    /// The settings, which have to be good.
    fn config(&self) -> Config {
        self.load()
            .unwrap_or_else(|errors| panic!("{errors}"))
            .config
    }

    /// The problems, of which there have to be some, without the directory of the file.
    fn problems(&self) -> Vec<String> {
        let errors = self.load().expect_err("the configuration was taken");
        let dir = format!("{}/", self.dir.path().display());
        errors
            .problems()
            .iter()
            .map(|problem| problem.to_string().replace(&dir, ""))
            .collect()
    }
}
