//! Whether a request that failed is sent again, and to whom.
//!
//! In: how an attempt failed ([`Failed`]) and what is known of the request ([`Request`]). Out: a
//! [`Decision`], or why there is none ([`Refused`]). The one rule that nothing may override: a
//! request that is not idempotent and of which a byte may have reached an endpoint is never sent
//! again. Beside it `idempotency.rs` (which requests may be repeated) and `budget.rs` (how much of
//! the traffic may be repeats). Nothing here sends anything or reads a clock.

mod budget;
mod idempotency;

use std::time::Instant;

pub use budget::BudgetConfig;
pub(crate) use budget::RetryBudget;
pub(crate) use idempotency::is_idempotent;

use crate::balancer::FailureKind;
use crate::config::RetryConfig;

/// What the decision needs to know of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// Carrying it out twice does what carrying it out once does.
    pub(crate) idempotent: bool,
    /// Its whole body is at hand to be sent again.
    pub(crate) body_kept: bool,
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed {
    pub(crate) kind: FailureKind,
    /// A byte of it may have left.
    pub(crate) sent: bool,
    /// It was sent, or was to be sent, on a connection that had served others before.
    pub(crate) reused: bool,
}

/// To send it again, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// To an endpoint that has not been tried.
    Elsewhere,
    /// To the same endpoint over a new connection: the old one had gone stale, which says nothing
    /// about the endpoint.
    SamePlaceNewConnection,
}

/// Why it is not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It may have been carried out, and carrying it out twice may do harm.
    NotIdempotent,
    /// Its body was longer than what is kept.
    BodyNotKept,
    /// It has been tried often enough.
    AttemptsSpent,
    /// Too much of the traffic is repeats already.
    OverBudget,
}

/// The attempts of one request.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    sent: u32,
    connect_failures: u32,
}

impl Attempts {
    /// Decides at `now` what follows a failure.
    pub(crate) fn after_failure(
        &mut self,
        now: Instant,
        failed: Failed,
        request: Request,
        config: &RetryConfig,
        budget: &mut RetryBudget,
    ) -> Result<Decision, Refused> {
        if !failed.sent {
            return self.after_nothing_was_sent(failed, config);
        }
        self.sent = self.sent.saturating_add(1);
        if !request.idempotent {
            return Err(Refused::NotIdempotent);
        }
        if !request.body_kept {
            return Err(Refused::BodyNotKept);
        }
        if self.sent >= config.attempts_max {
            return Err(Refused::AttemptsSpent);
        }
        if !budget.withdraw(now) {
            return Err(Refused::OverBudget);
        }
        if failed.reused && failed.kind == FailureKind::Reset {
            Ok(Decision::SamePlaceNewConnection)
        } else {
            Ok(Decision::Elsewhere)
        }
    }

    fn after_nothing_was_sent(
        &mut self,
        failed: Failed,
        config: &RetryConfig,
    ) -> Result<Decision, Refused> {
        if failed.reused {
            return Ok(Decision::SamePlaceNewConnection);
        }
        self.connect_failures = self.connect_failures.saturating_add(1);
        if self.connect_failures < config.connect_attempts_max {
            Ok(Decision::Elsewhere)
        } else {
            Err(Refused::AttemptsSpent)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn budget(now: Instant) -> RetryBudget {
        RetryBudget::new(now, &BudgetConfig::default())
    }

    fn decide(failed: Failed, request: Request) -> Result<Decision, Refused> {
        let now = Instant::now();
        let config = RetryConfig::default();
        Attempts::default().after_failure(now, failed, request, &config, &mut budget(now))
    }

    const GET: Request = Request {
        idempotent: true,
        body_kept: true,
    };
    const POST: Request = Request {
        idempotent: false,
        body_kept: true,
    };
    const REFUSED: Failed = Failed {
        kind: FailureKind::Connect,
        sent: false,
        reused: false,
    };
    const RESET: Failed = Failed {
        kind: FailureKind::Reset,
        sent: true,
        reused: false,
    };

    #[test]
    fn what_was_never_sent_goes_elsewhere_whatever_it_is() {
        assert_eq!(decide(REFUSED, GET), Ok(Decision::Elsewhere));
        assert_eq!(decide(REFUSED, POST), Ok(Decision::Elsewhere));
    }

    #[test]
    fn a_stale_connection_is_replaced_without_blaming_the_endpoint() {
        let unsent = Failed {
            sent: false,
            reused: true,
            ..RESET
        };
        assert_eq!(decide(unsent, POST), Ok(Decision::SamePlaceNewConnection));
        let sent = Failed {
            reused: true,
            ..RESET
        };
        assert_eq!(decide(sent, GET), Ok(Decision::SamePlaceNewConnection));
    }

    #[test]
    fn an_idempotent_request_goes_elsewhere_unless_its_body_is_gone() {
        assert_eq!(decide(RESET, GET), Ok(Decision::Elsewhere));
        let upload = Request {
            body_kept: false,
            ..GET
        };
        assert_eq!(decide(RESET, upload), Err(Refused::BodyNotKept));
    }

    #[test]
    fn connecting_fails_only_so_often() {
        let now = Instant::now();
        let config = RetryConfig {
            connect_attempts_max: 4,
            ..RetryConfig::default()
        };
        let (mut attempts, mut budget) = (Attempts::default(), budget(now));
        for _ in 0..3 {
            let decision = attempts.after_failure(now, REFUSED, POST, &config, &mut budget);
            assert_eq!(decision, Ok(Decision::Elsewhere));
        }
        let decision = attempts.after_failure(now, REFUSED, POST, &config, &mut budget);
        assert_eq!(decision, Err(Refused::AttemptsSpent));
    }

    #[test]
    fn a_spent_budget_stops_repeats() {
        let now = Instant::now();
        let nothing = BudgetConfig {
            share: 0.0,
            per_second_min: 0,
            ..BudgetConfig::default()
        };
        let mut budget = RetryBudget::new(now, &nothing);
        let config = RetryConfig::default();
        let decision = Attempts::default().after_failure(now, RESET, GET, &config, &mut budget);
        assert_eq!(decision, Err(Refused::OverBudget));
    }

    fn any_failure() -> impl Strategy<Value = Failed> {
        let kind = prop_oneof![
            Just(FailureKind::Connect),
            Just(FailureKind::Reset),
            Just(FailureKind::Timeout),
            Just(FailureKind::Malformed),
        ];
        (kind, any::<bool>(), any::<bool>()).prop_map(|(kind, sent, reused)| Failed {
            kind,
            sent,
            reused,
        })
    }

    proptest! {
        /// TESTING, invariant 7: whatever happened before, once sent it is never sent again.
        #[test]
        fn a_request_that_is_not_idempotent_is_sent_at_most_once(
            failures in prop::collection::vec(any_failure(), 1..40),
        ) {
            let now = Instant::now();
            let config = RetryConfig::default();
            let (mut attempts, mut budget) = (Attempts::default(), budget(now));
            for failed in failures {
                let decision = attempts.after_failure(now, failed, POST, &config, &mut budget);
                prop_assert!(!failed.sent || decision == Err(Refused::NotIdempotent));
                if decision.is_err() {
                    break;
                }
            }
        }

        #[test]
        fn an_idempotent_request_is_sent_at_most_attempts_max_times(
            failures in prop::collection::vec(any_failure(), 1..40),
            attempts_max in 1u32..6,
        ) {
            let now = Instant::now();
            let config = RetryConfig { attempts_max, ..RetryConfig::default() };
            let (mut attempts, mut budget) = (Attempts::default(), budget(now));
            let mut sent = 0;
            for failed in failures {
                sent += u32::from(failed.sent);
                if attempts.after_failure(now, failed, GET, &config, &mut budget).is_err() {
                    break;
                }
            }
            prop_assert!(sent <= attempts_max);
        }
    }
}
