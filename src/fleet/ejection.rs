//! What becomes of a replica that fails: set in place by the control path, read by picks.
use super::custody::{Fate, File};
use super::replica::Replica;
use super::trial::Token;
use super::version_state::VersionState;
use crate::health::{Cause, EjectionPlan, Evidence, Recent, Stage, Standing, Trial};
use crate::stats::Moment;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// A replica that goes from bad to good and back each second is news once in so long.
const QUIET: Duration = Duration::from_mins(1);

/// A trial that has run for so long and answers has passed; one that is still being sent gives its place back.
const LONG_TRIAL: Duration = Duration::from_mins(1);

/// A replica's ejection as people see it.
#[derive(Clone, Debug)]
pub struct Ejection {
    pub stage: Stage,
    pub count: u32,
    pub cause: Option<Cause>,
    pub reason: Option<Arc<str>>,
    pub refused: Option<Arc<str>>,
    pub seen: Option<(Evidence, Recent)>,
}

impl Replica {
    pub(super) fn fate(&self) -> Fate {
        Fate::of(self.custody.fate.load(Relaxed))
    }

    fn set_fate(&self, fate: Fate) {
        self.custody.fate.store(fate as u8, Relaxed);
    }

    pub fn stage(&self) -> Stage {
        self.custody.file.lock().life.stage()
    }

    /// `None`: it was never ejected, nor refused to be.
    pub fn ejection(&self) -> Option<Ejection> {
        let file = self.custody.file.lock();
        file.cause.map(|_| Ejection {
            stage: file.life.stage(),
            count: file.life.count(),
            cause: file.cause,
            reason: file.reason.clone(),
            refused: file.refused.clone(),
            seen: file.seen,
        })
    }

    pub fn ejections(&self, cause: Cause) -> u64 {
        self.custody.counts[cause as usize].load(Relaxed)
    }

    /// The last endings of its requests.
    pub fn last_outcomes(&self) -> Recent {
        self.learned.lock().recent
    }

    /// Claims the one place of a replica on probation, if it has been free for `patience`.
    pub fn try_trial(&self, patience: Duration, now: Moment) -> bool {
        self.is_on_probation() && self.custody.slot.claim(patience, now)
    }

    /// Would [`Self::try_trial`] succeed now?
    pub fn awaits_trial(&self, patience: Duration, now: Moment) -> bool {
        self.is_on_probation() && self.custody.slot.is_free(patience, now)
    }

    fn is_on_probation(&self) -> bool {
        self.fate() == Fate::Probation && self.standing() == Standing::Probation
    }

    /// Is it convicted, and stays all the same?
    pub fn refused(&self) -> bool {
        self.custody.refused.load(Relaxed)
    }

    /// What convicts it, if anything does.
    pub fn conviction(&self, version: &VersionState, now: Moment) -> Option<Evidence> {
        self.learned.lock().detector.conviction(
            &version.pool(),
            |began| version.seconds().of(began),
            now,
        )
    }

    /// Do its peers fail a good part of their requests as well, at present?
    pub fn is_among_failing(&self, version: &VersionState) -> bool {
        self.learned.lock().detector.usual(&version.pool()) >= 0.05
    }

    /// Takes it out for cause. Returns for how long.
    pub fn eject(
        &self,
        version: &VersionState,
        plan: &EjectionPlan,
        evidence: Evidence,
        draw: f64,
        now: Moment,
    ) -> Duration {
        let cause = evidence.cause();
        let recent = self.last_outcomes();
        let reason: Arc<str> = version.sentence(&evidence, now).into();
        let ill = now.since(evidence.since);
        let lasts = self.shift(now, || {
            let mut file = self.custody.file.lock();
            file.seen = Some((evidence, recent));
            file.began_with = Some(Arc::clone(&reason));
            self.enter(&mut file, cause, reason);
            file.life.eject(plan, ill, draw, now)
        });
        self.forget(version);
        version.seconds().withdraw(&self.learned.lock().detector.take_seconds());
        lasts
    }

    /// What the trial of its probation failed with, if it did.
    pub fn failed_trial(&self) -> Option<Cause> {
        self.custody.file.lock().failed
    }

    /// Takes it out again: a request on its probation failed so. Returns for how long.
    pub fn fail_probation(
        &self,
        plan: &EjectionPlan,
        cause: Cause,
        draw: f64,
        now: Moment,
    ) -> Duration {
        self.shift(now, || {
            let mut file = self.custody.file.lock();
            let first = file.began_with.as_ref().map(|began| format!("; at first it {began}"));
            let reason =
                format!("failed on probation: {}{}", cause.name(), first.unwrap_or_default());
            self.enter(&mut file, cause, reason.into());
            file.life.eject(plan, Duration::ZERO, draw, now)
        })
    }

    /// Takes it out by hand, until then or until it is restored.
    pub fn hold(
        &self,
        version: &VersionState,
        until: Option<Moment>,
        reason: Arc<str>,
        now: Moment,
    ) {
        self.shift(now, || {
            let mut file = self.custody.file.lock();
            file.seen = None;
            file.began_with = None;
            self.enter(&mut file, Cause::Operator, reason);
            file.life.hold(until);
        });
        self.forget(version);
    }

    fn enter(&self, file: &mut File, cause: Cause, reason: Arc<str>) {
        file.cause = Some(cause);
        file.reason = Some(reason);
        file.refused = None;
        file.failed = None;
        file.poked = false;
        self.custody.refused.store(false, Relaxed);
        self.custody.counts[cause as usize].fetch_add(1, Relaxed);
        self.custody.slot.close();
        self.set_fate(Fate::Ejected);
    }

    /// Its peers are no longer judged against it, nor it by what was.
    fn forget(&self, version: &VersionState) {
        version.withdraw(self.learned.lock().detector.forget());
    }

    /// Notes that it is convicted and stays, and why. `capped`: because too many are out; then it gets next to nothing
    /// while others are there, if it fails nearly all. Returns whether that is news.
    pub fn refuse(
        &self,
        version: &VersionState,
        evidence: Evidence,
        why: &str,
        capped: bool,
        now: Moment,
    ) -> bool {
        self.set_capped(capped && evidence.fails_nearly_all());
        let recent = self.last_outcomes();
        let mut file = self.custody.file.lock();
        file.cause = Some(evidence.cause());
        file.seen = Some((evidence, recent));
        file.refused = Some(format!("{why}: it {}", version.sentence(&evidence, now)).into());
        self.custody.refused.store(true, Relaxed);
        let news = file.told.is_none_or(|told| now.since(told) >= QUIET);
        if news {
            file.told = Some(now);
        }
        news
    }

    /// Nobody compares it any more, or it is another process than before: nothing speaks against it.
    pub fn excuse(&self, version: &VersionState) {
        if self.refused() {
            self.end_refusal();
        }
        self.forget(version);
    }

    fn end_refusal(&self) {
        self.set_capped(false);
        self.custody.file.lock().refused = None;
        self.custody.refused.store(false, Relaxed);
    }

    /// The refused one behaves again. A score that only wavers is no end of it.
    pub fn acquit(&self) {
        if self.refused() && self.learned.lock().detector.nearness() < 0.5 {
            self.end_refusal();
        }
    }

    /// Is its time over, and if `probed`, has a health check passed since? If only the check is missing, its prober
    /// is woken. Returns whether it is on probation now.
    pub fn try_out(&self, probed: bool, now: Moment) -> bool {
        let passed = Moment::from_nanos(self.custody.probe_passed.load(Relaxed));
        self.shift(now, || {
            let mut file = self.custody.file.lock();
            let Stage::Ejected { until: Some(until), .. } = file.life.stage() else { return false };
            if probed && file.life.over(now) && passed <= until {
                if !std::mem::replace(&mut file.poked, true) {
                    self.poke();
                }
                return false;
            }
            let tried = file.life.try_out(now);
            if tried {
                self.set_fate(Fate::Probation);
                self.custody.slot.open(now);
            }
            tried
        })
    }

    /// Ends a probation that was passed: it serves again, slowly at first. Returns whether it was.
    pub fn reinstate(&self, now: Moment) -> bool {
        self.shift(now, || {
            let proved = self.custody.file.lock().life.reinstate(now);
            if proved {
                self.go_free(now);
            }
            proved
        })
    }

    /// Ends any ejection at once. Returns whether there was one.
    pub fn restore(&self, now: Moment) -> bool {
        self.shift(now, || {
            let mut file = self.custody.file.lock();
            let out = file.life.stage() != Stage::Free;
            if out {
                file.life.restore(now);
                file.failed = None;
                self.go_free(now);
            }
            out
        })
    }

    /// A trial that has been answering for long has shown what it can, and one that is still being sent may never show
    /// anything: neither an endless stream nor an endless upload may hold the place.
    pub fn end_long_trial(&self, now: Moment) {
        let Some((trial, answers)) = self.custody.slot.runs_for(LONG_TRIAL, now) else { return };
        if !answers || !self.tried(trial, Ok(())) {
            self.custody.slot.free(trial, now);
        }
    }

    fn go_free(&self, now: Moment) {
        self.custody.slot.close();
        self.set_fate(Fate::Free);
        self.start_slowly(now);
    }

    /// Forgives old ejections.
    pub fn forgive(&self, now: Moment) {
        let calm = self.learned.lock().detector.nearness() < 0.5;
        self.custody.file.lock().life.forgive(calm, now);
    }

    /// The trial of a probation ended so. Returns whether that decides it.
    pub(super) fn tried(&self, trial: Token, ending: Result<(), Cause>) -> bool {
        let mut file = self.custody.file.lock();
        // One that began in an earlier probation says nothing of this one.
        if !self.custody.slot.is_held_by(trial) {
            return false;
        }
        match file.life.trial(ending.is_ok()) {
            Some(Trial::Failed) => {
                file.failed = ending.err();
                true
            }
            Some(Trial::Proved) => true,
            Some(Trial::Passed) | None => false,
        }
    }

    /// Asks its prober for a probe now.
    pub fn poke(&self) {
        self.custody.poke.notify_one();
    }

    /// Waits until somebody asks for a probe.
    pub async fn poked(&self) {
        self.custody.poke.notified().await;
    }

    /// A probe passed. Returns whether the control path waits for that.
    pub fn passes(&self, now: Moment) -> bool {
        self.custody.probe_passed.store(now.as_nanos(), Relaxed);
        self.fate() == Fate::Ejected && self.custody.file.lock().poked
    }

    /// Why it is out, or on probation.
    pub(super) fn ejection_reason(&self) -> Option<Arc<str>> {
        self.custody.file.lock().reason.clone()
    }
}
