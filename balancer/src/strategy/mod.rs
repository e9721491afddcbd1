//! Who is next among the endpoints that may be picked.
//!
//! [`Strategy`] is the setting; `Chooser` holds what a strategy remembers between picks. Each
//! strategy has a file of its own. In: the weights of the candidates. Out: which one. A strategy
//! neither knows nor decides who is a candidate; `balancer.rs` does.

mod round_robin;

use std::fmt;
use std::str::FromStr;

use round_robin::RoundRobin;

/// How requests are spread over endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Each endpoint in turn, as often as its weight says.
    #[default]
    RoundRobin,
}

impl Strategy {
    /// Every strategy, for messages and completions.
    pub const ALL: &'static [Strategy] = &[Strategy::RoundRobin];

    /// Its name in configuration.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::RoundRobin => "round-robin",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No strategy has this name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no balancing strategy is called {0:?}; there is: round-robin")]
pub struct UnknownStrategy(String);

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Strategy::ALL.iter().find(|known| known.name() == name);
        found
            .copied()
            .ok_or_else(|| UnknownStrategy(name.to_owned()))
    }
}

/// A strategy with its memory. Shared by all workers.
#[derive(Debug)]
pub(crate) enum Chooser {
    RoundRobin(RoundRobin),
}

impl Chooser {
    pub(crate) fn new(strategy: Strategy) -> Self {
        match strategy {
            Strategy::RoundRobin => Chooser::RoundRobin(RoundRobin::default()),
        }
    }

    /// The position of the next endpoint among candidates with these weights; `None` if there are
    /// none.
    pub(crate) fn choose(&self, weights: impl Iterator<Item = u32> + Clone) -> Option<usize> {
        match self {
            Chooser::RoundRobin(round_robin) => round_robin.choose(weights),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strategy_is_found_by_the_name_it_prints() {
        for strategy in Strategy::ALL {
            assert_eq!(strategy.to_string().parse(), Ok(*strategy));
        }
    }

    #[test]
    fn an_unknown_strategy_is_named_in_the_error() {
        let error = "random".parse::<Strategy>().unwrap_err().to_string();
        assert!(
            error.contains("\"random\"") && error.contains("round-robin"),
            "{error}"
        );
    }
}
