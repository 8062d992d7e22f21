//! What a canary does where clients wait for the candidate in vain and no check can tell why: it gets the first step's
//! share, and a person decides.
use super::rollout::RollOut;
use super::state::{Effect, Occasion, Stage};
use super::words::{grouped, percent, span};
use crate::stats::Moment;

impl RollOut {
    /// For so many seconds clients have waited in vain for the candidate, and not for the stable side; that is too long.
    /// `None` while it fails: then it has the first step's share already.
    pub(super) fn waits_in_vain(&self, age: f64) -> Option<f64> {
        let memory = &self.memory;
        if self.plan.aa || memory.failing_since.is_some() || self.stable_fails() {
            return None;
        }
        // With the first step's share a cold candidate gets the time to warm up, and who is paused already has no less.
        let small = memory.share <= self.plan.steps[memory.first] / 100.0;
        if small && (memory.stage != Stage::Running || self.is_cold(age)) {
            return None;
        }
        memory.in_vain.lasted(age, self.plan.hold)
    }

    /// Gives it the first step's share and waits for a person.
    pub(super) fn spare(&mut self, waits: f64, age: f64, now: Moment) -> Vec<Effect> {
        let mut because = self.in_vain(waits);
        if self.memory.stage == Stage::Paused {
            because = format!("{}, and is at the first step {because}", self.memory.because);
        }
        let mut effects = self.cut(age);
        // Whoever resumes it has it proven anew, step by step: what was passed before was passed while nobody waited.
        self.memory.returning = None;
        self.set_stage(Stage::Paused, because);
        effects.extend(self.announce(Occasion::Paused, now));
        effects
    }

    /// "clients left 48 of its last 60 requests after a long wait, and 0 of 240 of v1".
    pub(super) fn leavings(&self) -> String {
        let [own, others] = self.memory.in_vain.over();
        let rounded = |count: f64| grouped(count.round() as u64);
        format!(
            "clients left {} of its last {} requests after a long wait, and {} of {} of {}",
            rounded(own.hits),
            rounded(own.readings),
            rounded(others.hits),
            rounded(others.readings),
            self.stable
        )
    }

    /// "because clients waited for it in vain for 3 min at 25 %: …".
    fn in_vain(&self, waits: f64) -> String {
        let (memory, stable) = (&self.memory, &self.stable);
        let mut seen = Vec::new();
        let [late, of_stable] = memory.waiting.late().late;
        if late > 0 {
            seen.push(format!(
                "{} of its requests are open for far longer than usual, {} of {stable}",
                grouped(late),
                grouped(of_stable)
            ));
        }
        if memory.in_vain.over()[0].hits >= 0.5 {
            seen.push(self.leavings());
        }
        let why = if self.is_crowded() {
            "each of its replicas is given more than those of the other side"
        } else {
            "no check could tell why"
        };
        format!(
            "because clients waited for it in vain for {} at {}: {}; no verdict is possible, {why}",
            span(waits),
            percent(memory.share),
            seen.join("; ")
        )
    }
}
