//! The flags that set keys of the configuration, made from its schema.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::flags::file_or_default;
use crate::config::{Environment, FlagShape, FlagValue, Initial, KEYS, SET, Sources};

const HEADING: &str = "Settings";

/// The configuration file and the flags that override it.
#[derive(Debug, Args)]
pub(super) struct SettingsArgs {
    /// The configuration file [env: BASIC_AGENT_CONFIG; default: basic-agent.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: SettingsFlags,
}

/// Values of keys in the order in which they were given.
#[derive(Debug, Default)]
struct SettingsFlags(Vec<FlagValue>);

impl SettingsArgs {
    /// The configuration file, if one was named.
    pub(super) fn file(&self) -> Option<PathBuf> {
        self.config.clone()
    }

    /// The flags in the order in which they were given.
    pub(super) fn flags(&self) -> &[FlagValue] {
        &self.flags.0
    }

    /// File, environment and flags together.
    pub(super) fn sources(self, environment: Environment) -> Sources {
        Sources {
            file: file_or_default(self.config, &environment),
            environment,
            flags: self.flags.0,
        }
    }
}

impl Args for SettingsFlags {
    fn augment_args(command: Command) -> Command {
        let set = Arg::new(id(SET))
            .long(id(SET))
            .value_name("TABLE.KEY=VALUE")
            .action(ArgAction::Append)
            .help("Set any key but those of collections; lists and labels are separated by commas. May be repeated")
            .help_heading(HEADING);
        let keys = KEYS.iter().filter_map(|key| {
            let flag = id(key.flag()?);
            let default = match key.initial() {
                Initial::Default(text) if !text.is_empty() => format!(" [default: {text}]"),
                Initial::Default(_) | Initial::Unset { .. } => String::new(),
            };
            let arg = Arg::new(flag)
                .long(flag)
                .help(format!("{}{default}", key.doc().trim_end_matches('.')))
                .help_heading(HEADING);
            Some(match key.flag_shape() {
                FlagShape::One => arg.action(ArgAction::Set).value_name("VALUE"),
                FlagShape::Many => arg.action(ArgAction::Append).value_name("VALUE"),
                FlagShape::Switch => arg
                    .action(ArgAction::Set)
                    .value_name("BOOL")
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true"),
            })
        });
        command.args(keys.chain([set]))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingsFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given: Vec<(usize, FlagValue)> = Vec::new();
        for flag in KEYS.iter().filter_map(|key| key.flag()) {
            if let Some((last, values)) = occurrences(matches, flag).split_last() {
                let texts = values.iter().chain([last]).map(|(_, text)| text.as_str());
                let value = texts.collect::<Vec<_>>().join(",");
                given.push((
                    last.0,
                    FlagValue {
                        flag: flag.to_owned(),
                        value,
                    },
                ));
            }
        }
        given.extend(occurrences(matches, SET).into_iter().map(|(index, value)| {
            (
                index,
                FlagValue {
                    flag: SET.to_owned(),
                    value,
                },
            )
        }));
        given.sort_by_key(|(index, _)| *index);
        Ok(Self(given.into_iter().map(|(_, value)| value).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The values of a flag, each with its place on the command line.
fn occurrences(matches: &ArgMatches, flag: &'static str) -> Vec<(usize, String)> {
    let indices = matches.indices_of(id(flag)).into_iter().flatten();
    let values = matches
        .get_many::<String>(id(flag))
        .into_iter()
        .flatten()
        .cloned();
    indices.zip(values).collect()
}

/// What clap calls a flag: its name without the dashes.
fn id(flag: &'static str) -> &'static str {
    flag.trim_start_matches('-')
}
