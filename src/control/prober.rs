//! Active health checks: a task for each replica, which ends with it.
use super::ask::{EndsOnDrop, NotAnswered};
use super::probe::probe;
use crate::fleet::{Replica, ReplicaId, Suspects};
use crate::health::{ProbeCount, ProbePlan, ProbeResult, Standing};
use crate::observe::{During, Events, Level, Meters, Task};
use crate::stats::{Clock as _, Moment, MonotonicClock};
use crate::table::Table;
use crate::wire::Exhausted;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Probes under way at once: ten thousand replicas must not starve the requests.
const AT_ONCE: usize = 64;
/// New replicas are first probed so far apart.
const STAGGER: Duration = Duration::from_micros(500);

/// When a request has failed, and the probe that was asked for then as well, the next one follows so soon.
const AGAIN: Duration = Duration::from_secs(1);

/// The probes of all replicas.
#[derive(Debug)]
pub(super) struct Prober {
    tasks: HashMap<ReplicaId, (Arc<ProbePlan>, EndsOnDrop)>,
    events: Arc<Events>,
    /// Where replicas are named that only waited for a probe to pass.
    suspects: Arc<Suspects>,
    clock: MonotonicClock,
    meters: Arc<Meters>,
    at_once: Arc<Semaphore>,
}

impl Prober {
    pub(super) fn new(
        events: Arc<Events>,
        suspects: Arc<Suspects>,
        clock: MonotonicClock,
        meters: Arc<Meters>,
    ) -> Self {
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        Self { tasks: HashMap::new(), events, suspects, clock, meters, at_once }
    }

    /// Follows a new table: probes begin, change and end with their replicas.
    pub(super) fn follow(&mut self, table: &Table) {
        let mut before = std::mem::take(&mut self.tasks);
        let mut delay = Duration::ZERO;
        for model in &table.models {
            let Some(plan) = &model.plan.health else { continue };
            let plan = Arc::new(plan.clone());
            for member in model.versions.iter().flat_map(|version| &version.members) {
                let id = &member.replica.id;
                let kept = before.remove(id).filter(|(old, _)| *old == plan);
                let task = kept.unwrap_or_else(|| {
                    delay += STAGGER;
                    (Arc::clone(&plan), self.begin(&member.replica, &plan, delay))
                });
                self.tasks.insert(id.clone(), task);
            }
        }
    }

    fn begin(&self, replica: &Arc<Replica>, plan: &Arc<ProbePlan>, delay: Duration) -> EndsOnDrop {
        let probe = Probe {
            replica: Arc::clone(replica),
            plan: Arc::clone(plan),
            events: Arc::clone(&self.events),
            suspects: Arc::clone(&self.suspects),
            clock: self.clock,
            meters: Arc::clone(&self.meters),
            at_once: Arc::clone(&self.at_once),
        };
        let probing = Task::Probe.keep_running(move || probe.clone().run(delay));
        EndsOnDrop(tokio::spawn(probing).abort_handle())
    }
}

#[derive(Clone)]
struct Probe {
    replica: Arc<Replica>,
    plan: Arc<ProbePlan>,
    events: Arc<Events>,
    suspects: Arc<Suspects>,
    clock: MonotonicClock,
    meters: Arc<Meters>,
    at_once: Arc<Semaphore>,
}

impl Probe {
    async fn run(self, delay: Duration) {
        let mut count = ProbeCount::default();
        let mut chance = SmallRng::seed_from_u64(self.replica.identity);
        let mut doubted = false;
        sleep(delay).await;
        loop {
            if let Some(result) = self.ask().await {
                let failed = result != ProbeResult::Passed;
                self.judge(&mut count, result);
                doubted &= failed && self.replica.standing() != Standing::Unhealthy;
            }
            let every = self.plan.every.mul_f64(chance.random_range(0.9..1.1));
            // Where requests fail as well, `fall` probes need not be far apart.
            let pause = if doubted { every.min(AGAIN) } else { every };
            // Poked: somebody wants to know now.
            doubted |= timeout(pause, self.replica.poked()).await.is_ok();
        }
    }

    /// Asks the replica. `None`: it could not be asked, which says nothing about it.
    async fn ask(&self) -> Option<ProbeResult> {
        let _permit = self.at_once.acquire().await.ok()?;
        let limit = self.plan.timeout;
        Some(match timeout(limit, probe(&self.replica, &self.plan)).await {
            Ok(Ok(())) => ProbeResult::Passed,
            Ok(Err(NotAnswered::Failed(why))) => ProbeResult::Failed(why),
            Ok(Err(NotAnswered::Exhausted(Exhausted(resource)))) => {
                self.meters.exhaustion.note(resource, During::Probe, self.clock.now());
                return None;
            }
            Err(_) => ProbeResult::Failed(format!("no answer within {limit:?}")),
        })
    }

    fn judge(&self, count: &mut ProbeCount, result: ProbeResult) {
        let fresh = self.replica.never_probed();
        let (passed, why) = match result {
            ProbeResult::Passed => (true, None),
            ProbeResult::Failed(why) => (false, Some(why)),
        };
        let now = self.clock.now();
        self.replica.note_probe(why.as_deref(), now);
        if let Some(healthy) = count.count(passed, fresh, &self.plan) {
            self.decide(healthy, fresh, why.as_deref(), now);
        }
        if passed && self.replica.passes(now) {
            self.suspects.add(&self.replica);
        }
    }

    fn decide(&self, healthy: bool, fresh: bool, why: Option<&str>, now: Moment) {
        let changed = self.replica.probed(healthy, why, now);
        // That a replica starts healthy is no news.
        if changed && !(healthy && fresh) {
            let id = &self.replica.id;
            let message = match (healthy, why) {
                (true, _) => format!("{id} passes its health check again"),
                (false, Some(why)) => format!("{id} fails its health check: {why}"),
                (false, None) => format!("{id} fails its health check"),
            };
            let level = if healthy { Level::Info } else { Level::Warning };
            self.events.tell(level, "standing", message, "probe", None);
        }
    }
}
