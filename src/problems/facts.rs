//! What is known at one moment, as plain data: what the list of problems is made of.
use super::serves::Serves;
use crate::canary;
use crate::health::{Class, Reply};
use crate::stats::Moment;
use std::sync::Arc;

/// Everything that can be wrong, as it is now. Counts rise since the process began.
#[derive(Clone, Debug)]
pub struct Facts {
    pub now: Moment,
    /// The wall clock at `now`.
    pub wall: jiff::Timestamp,
    pub models: Vec<ModelFacts>,
    /// Requests that ended before their model was known.
    pub nameless: Outcomes,
    pub certificates: Vec<CertificateFacts>,
    pub file: FileFacts,
    pub process: ProcessFacts,
}

/// What requests for a model were answered. Counts rise, except for clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replies {
    /// By [`Reply::ALL`].
    pub counts: [u64; Reply::ALL.len()],
    /// A bit for each client that got no good answer since the last look, by its hash.
    pub clients: u64,
}

impl Replies {
    pub(super) fn of(&self, reply: Reply) -> u64 {
        self.counts[reply as usize]
    }

    /// Those that brought no good answer.
    pub fn fruitless(&self) -> u64 {
        self.counts.iter().sum::<u64>() - self.of(Reply::Good)
    }

    /// How many clients there are at least, up to 64.
    pub(super) fn clients(&self) -> u32 {
        self.clients.count_ones()
    }

    /// The commonest of those that brought no good answer.
    pub(super) fn commonest(&self) -> Reply {
        let kinds = Reply::ALL.into_iter().filter(|reply| *reply != Reply::Good);
        kinds.max_by_key(|reply| self.of(*reply)).unwrap_or(Reply::OtherMistake)
    }

    #[must_use]
    pub(super) fn since(&self, before: &Self) -> Self {
        let counts = std::array::from_fn(|i| self.counts[i].saturating_sub(before.counts[i]));
        Self { counts, clients: self.clients }
    }

    #[must_use]
    pub(super) fn plus(mut self, other: &Self) -> Self {
        self.add(other);
        self
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (sum, n) in self.counts.iter_mut().zip(other.counts) {
            *sum += n;
        }
        self.clients |= other.clients;
    }
}

/// How requests ended. A client's own mistakes and departures are in neither number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    pub good: u64,
    /// Failures by no fault of the client, by [`Class::ALL`].
    pub failed: [u64; Class::ALL.len()],
}

#[derive(Clone, Debug)]
pub struct ModelFacts {
    pub name: Arc<str>,
    pub fail_open: bool,
    /// A client meets the same version or replica each time.
    pub sticky: bool,
    /// Requests that ended before they had a version.
    pub unplaced: Outcomes,
    pub versions: Vec<VersionFacts>,
    pub canary: Option<CanaryFacts>,
    pub mirror: Option<MirrorFacts>,
    /// Who divides its requests otherwise than the file says, if an operator does.
    pub split_by: Option<String>,
}

#[derive(Clone, Debug)]
pub struct VersionFacts {
    pub name: Arc<str>,
    /// Fraction of the model's requests.
    pub share: f64,
    pub outcomes: Outcomes,
    pub standings: Standings,
    /// Replicas that fail enough to be ejected and stay.
    pub ejections_refused: u32,
    /// The names that its replicas are asked for: `upstream_model`, else the model's own and its aliases.
    pub wanted: Vec<String>,
    /// What requests for the model were answered.
    pub replies: Replies,
    /// `headers.set` sends credentials to its replicas.
    pub sets_credentials: bool,
    /// Answers of each replica, where some were no good ones. Empty: none were.
    pub answers: Vec<AnswerFacts>,
    /// Why the files of its `tls` are not what is used.
    pub tls_fault: Option<String>,
}

/// How many replicas stand how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standings {
    pub all: u32,
    /// May get requests in the ordinary way.
    pub usable: u32,
    /// Are asked before any that fails: they wait for their first health check.
    pub unprobed: u32,
    pub unhealthy: u32,
    /// For cause.
    pub ejected: u32,
    pub ejected_by_hand: u32,
    pub probation: u32,
    pub draining: u32,
}

/// What a replica answered.
#[derive(Clone, Debug)]
pub struct AnswerFacts {
    pub url: Arc<str>,
    /// Requests for a model that it answered with 404, on paths that it answers otherwise as far as that is known.
    pub not_found: u64,
    /// Successes.
    pub good: u64,
    pub replies: Replies,
    /// The models that it said it serves; `None`: it was not asked, or does not say.
    pub serves: Option<Arc<Serves>>,
}

#[derive(Clone, Debug)]
pub struct CanaryFacts {
    pub candidate: String,
    pub state: canary::State,
}

#[derive(Clone, Debug)]
pub struct MirrorFacts {
    pub to: String,
    /// Copies that got a good answer or as bad a one as the client, and those that got none or a worse one.
    pub answered: u64,
    pub failed: u64,
}

/// A certificate that Evener shows.
#[derive(Clone, Debug)]
pub struct CertificateFacts {
    /// "listener `edge`", "version `chat/v1`".
    pub owner: String,
    pub name: String,
    /// Unix seconds.
    pub not_before: i64,
    pub not_after: i64,
    /// Why the files that stand there now are not what is used.
    pub fault: Option<String>,
}

/// The configuration file.
#[derive(Clone, Debug, Default)]
pub struct FileFacts {
    pub path: String,
    pub generation: u64,
    /// What is wrong with the file on disk; `None`: it is what serves.
    pub rejected: Option<RejectedFacts>,
    /// Why the keys of `jwt` are not those of their file.
    pub keys_fault: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct RejectedFacts {
    pub errors: usize,
    /// The keys that cannot change while Evener runs, where nothing else is wrong.
    pub needs_restart: Vec<String>,
}

/// Evener itself.
#[derive(Clone, Debug, Default)]
pub struct ProcessFacts {
    pub ends: bool,
    /// Why the state cannot be written.
    pub state_fault: Option<String>,
    /// Lines and spans lost, by what they are of.
    pub lost: Vec<(&'static str, u64)>,
    /// What connections could not be opened for want of.
    pub exhausted: Vec<ExhaustedFacts>,
    /// Tasks of Evener's own that panicked.
    pub panics: Vec<PanicFacts>,
    pub webhooks: Vec<WebhookFacts>,
    /// Descriptors in use and their limit; `None`: far from it.
    pub descriptors: Option<(u64, u64)>,
}

/// A resource of the machine or the process that was used up.
#[derive(Clone, Debug)]
pub struct ExhaustedFacts {
    pub name: &'static str,
    /// "no file descriptors are left".
    pub words: String,
    /// What an operator can do.
    pub remedy: &'static str,
    /// Connections that were not opened, or not accepted.
    pub count: u64,
}

/// A task that panicked, and was started again.
#[derive(Clone, Debug)]
pub struct PanicFacts {
    pub task: &'static str,
    pub count: u64,
    /// Message and place of the last one.
    pub what: String,
}

/// Messages that wait for a receiver which does not take them.
#[derive(Clone, Debug)]
pub struct WebhookFacts {
    /// Its host: the rest of its address may be a secret.
    pub receiver: String,
    pub waiting: usize,
    pub why: String,
}

impl Outcomes {
    pub fn failures(&self) -> u64 {
        self.failed.iter().sum()
    }

    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.good += other.good;
        for (sum, n) in self.failed.iter_mut().zip(other.failed) {
            *sum += n;
        }
        self
    }

    /// What came since `before`; nothing where the counts began anew.
    #[must_use]
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            good: self.good.saturating_sub(before.good),
            failed: std::array::from_fn(|i| self.failed[i].saturating_sub(before.failed[i])),
        }
    }

    /// The commonest kind of failure.
    pub(super) fn commonest(&self) -> Option<Class> {
        let kinds = Class::ALL.into_iter().zip(self.failed);
        let some = kinds.filter(|(_, n)| *n > 0);
        some.max_by_key(|(_, n)| *n).map(|(class, _)| class)
    }
}
