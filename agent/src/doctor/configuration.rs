//! The configuration and the secret: whether `run` would take them.

use super::report::Check;
use crate::config::{ConfigErrors, Loaded, PeerSecret, SecretError};

const NAME: &str = "configuration";
const SECRET: &str = "secret";

/// A configuration that `run` would refuse: one check for each thing that is wrong with it.
pub(super) fn refused(errors: &ConfigErrors) -> Vec<Check> {
    let problems = errors.problems().iter().map(|problem| {
        let subject = problem
            .subject
            .as_deref()
            .map(|subject| format!("{subject}: "));
        let fact = format!("{}{}", subject.unwrap_or_default(), problem.fault);
        Check::failure(
            NAME,
            fact,
            "correct it; nothing else was looked at, because all of it rests on the configuration",
        )
        .seen(problem.origin.to_string())
    });
    problems.collect()
}

/// A configuration that `run` would take.
pub(super) fn accepted(loaded: &Loaded) -> Check {
    let file = match &loaded.file {
        Some(path) => path.display().to_string(),
        None => "no file, so defaults, environment and flags".to_owned(),
    };
    let cluster = &loaded.config.node.cluster;
    Check::ok(NAME, format!("valid, for cluster {cluster} ({file})"))
}

/// The secret that all agents share, without showing it.
pub(super) fn secret(loaded: &Loaded, secret: &Result<Option<PeerSecret>, SecretError>) -> Check {
    let place = &loaded.peer_secret;
    match secret {
        Ok(Some(_)) => Check::ok(SECRET, format!("usable, from {place}")),
        Ok(None) => Check::ok(
            SECRET,
            format!("none yet: it is made at the first start, in {place}"),
        ),
        Err(error) => Check::failure(
            SECRET,
            error.to_string(),
            "do what the message says; without the secret the agent does not start",
        )
        .seen(format!("looked for in {place}"))
        .seen_if(std::error::Error::source(error).map(ToString::to_string)),
    }
}
