//! What the process itself lacked: counted, and logged now and then with what to do.
use super::repeats::Repeats;
use crate::stats::Moment;
use crate::wire::{Exhausted, Resource};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Between two log lines of one kind.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// What could not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum During {
    /// Accepting a client's connection.
    Accept,
    /// Opening a connection for a request.
    Connect,
    /// A health check.
    Probe,
}

impl During {
    pub const ALL: [Self; 3] = [Self::Accept, Self::Connect, Self::Probe];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Connect => "connect",
            Self::Probe => "probe",
        }
    }
}

/// A resource, and what did not succeed for want of it since the start.
#[derive(Debug)]
pub struct UsedUp {
    pub name: &'static str,
    /// "no file descriptors are left".
    pub words: String,
    /// What an operator can do.
    pub remedy: &'static str,
    pub count: u64,
}

/// How often each resource was used up.
#[derive(Debug)]
pub struct Exhaustion {
    counts: [[AtomicU64; During::ALL.len()]; Resource::ALL.len()],
    logged: Mutex<Repeats<(Resource, During)>>,
}

impl Default for Exhaustion {
    fn default() -> Self {
        Self { counts: Default::default(), logged: Mutex::new(Repeats::new(BETWEEN_LINES)) }
    }
}

impl Exhaustion {
    pub fn note(&self, resource: Resource, during: During, now: Moment) {
        self.counts[resource as usize][during as usize].fetch_add(1, Relaxed);
        let logged = self.logged.lock().note((resource, during), now);
        let Some(unlogged) = logged else { return };
        let (during, remedy) = (during.name(), resource.remedy());
        tracing::warn!(during, unlogged, "{}: {remedy}", Exhausted(resource));
    }

    pub fn count(&self, resource: Resource, during: During) -> u64 {
        self.counts[resource as usize][during as usize].load(Relaxed)
    }

    /// Every resource, whether it was used up or not.
    pub fn totals(&self) -> impl Iterator<Item = UsedUp> + '_ {
        Resource::ALL.into_iter().map(|resource| UsedUp {
            name: resource.name(),
            words: Exhausted(resource).to_string(),
            remedy: resource.remedy(),
            count: During::ALL.into_iter().map(|during| self.count(resource, during)).sum(),
        })
    }
}
