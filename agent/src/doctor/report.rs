//! What an examination found, check by check.

use serde::Serialize;

/// What comes of one check; the later, the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It cannot be told, and the evidence says why.
    Unknown,
    /// It works, or may work, and deserves a look.
    Warning,
    /// It does not work.
    Failure,
}

impl Verdict {
    /// The name used in the output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}

/// One check and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at, such as `peer port (UDP)`.
    pub name: String,
    /// What came of it.
    pub verdict: Verdict,
    /// The finding as a sentence.
    pub fact: String,
    /// How that is known, a line each.
    pub evidence: Vec<String>,
    /// What to do now; always there for a warning and a failure.
    pub next: Option<String>,
}

impl Check {
    pub(super) fn ok(name: impl Into<String>, fact: impl Into<String>) -> Self {
        Self::new(name, Verdict::Ok, fact, None)
    }

    pub(super) fn unknown(name: impl Into<String>, fact: impl Into<String>) -> Self {
        Self::new(name, Verdict::Unknown, fact, None)
    }

    pub(super) fn warning(
        name: impl Into<String>,
        fact: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self::new(name, Verdict::Warning, fact, Some(next.into()))
    }

    pub(super) fn failure(
        name: impl Into<String>,
        fact: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self::new(name, Verdict::Failure, fact, Some(next.into()))
    }

    /// The same with one more line of evidence.
    pub(super) fn seen(mut self, evidence: impl Into<String>) -> Self {
        self.evidence.push(evidence.into());
        self
    }

    /// The same with one more line of evidence, if there is one.
    pub(super) fn seen_if(self, evidence: Option<impl Into<String>>) -> Self {
        match evidence {
            Some(evidence) => self.seen(evidence),
            None => self,
        }
    }

    fn new(
        name: impl Into<String>,
        verdict: Verdict,
        fact: impl Into<String>,
        next: Option<String>,
    ) -> Self {
        Self {
            name: name.into(),
            verdict,
            fact: fact.into(),
            evidence: Vec::new(),
            next,
        }
    }
}

/// The whole examination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst of all checks.
    pub verdict: Verdict,
    /// All checks, in the order in which a person would make them.
    pub checks: Vec<Check>,
}

impl Report {
    pub(super) fn of(checks: Vec<Check>) -> Self {
        let worst = checks.iter().map(|check| check.verdict).max();
        Self {
            verdict: worst.unwrap_or(Verdict::Unknown),
            checks,
        }
    }

    /// How many checks came to this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        let matching = self.checks.iter().filter(|check| check.verdict == verdict);
        matching.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_as_bad_as_its_worst_check() {
        let checks = vec![
            Check::ok("a", "fine"),
            Check::failure("b", "broken", "mend it"),
            Check::unknown("c", "who knows"),
        ];
        let report = Report::of(checks);
        assert_eq!(report.verdict, Verdict::Failure);
        assert_eq!(report.count(Verdict::Ok), 1);
        assert_eq!(report.count(Verdict::Warning), 0);
    }

    #[test]
    fn the_name_of_a_verdict_is_its_json() {
        for verdict in [
            Verdict::Ok,
            Verdict::Unknown,
            Verdict::Warning,
            Verdict::Failure,
        ] {
            let json = serde_json::to_string(&verdict).unwrap();
            assert_eq!(json, format!("\"{}\"", verdict.as_str()));
        }
    }
}
