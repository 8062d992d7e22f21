//! What an operator may say to a canary, and what each state makes of it.
use super::falls::Relapse;
use super::plan::OnFailure;
use super::rollout::RollOut;
use super::state::{Effect, Ending, Occasion, Stage};
use super::words::percent;
use crate::stats::Moment;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    Pause,
    Resume,
    Promote,
    Abort,
}

/// Who says so, and why.
#[derive(Clone, Copy, Debug)]
pub struct By<'a> {
    pub who: &'a str,
    pub reason: Option<&'a str>,
}

impl By<'_> {
    fn words(&self) -> String {
        match self.reason {
            Some(reason) => format!("by {}: {reason}", self.who),
            None => format!("by {}", self.who),
        }
    }
}

impl RollOut {
    /// Does what an operator says, or tells why not. What is so already is no error.
    pub fn command(
        &mut self,
        command: Command,
        by: By<'_>,
        now: Moment,
    ) -> Result<Vec<Effect>, String> {
        let (model, candidate) = (&self.judged().model, &self.judged().candidate);
        match self.stage() {
            Stage::Idle => {
                let how = format!("start it with `evener canary start {model}`");
                return Err(format!("no canary of {model} is running; {how}"));
            }
            Stage::Promoted | Stage::RolledBack => {
                let promoted = self.stage() == Stage::Promoted;
                let how = if promoted { "was promoted" } else { "was rolled back" };
                let again = format!("`evener canary start {model}` begins anew");
                return Err(format!("{candidate} {how} already; {again}"));
            }
            Stage::Running | Stage::Paused | Stage::Undecided => {}
        }
        let age = self.age(now);
        match (command, self.stage()) {
            (Command::Pause, Stage::Paused) | (Command::Resume, Stage::Running) => Ok(Vec::new()),
            (Command::Pause, _) => {
                self.set_stage(Stage::Paused, by.words());
                Ok(self.announce(Occasion::Paused, now))
            }
            (Command::Resume, _) => {
                let fails = self.memory.failing_since.is_some();
                let given_up = self.stage() == Stage::Undecided && fails;
                if std::mem::take(&mut self.memory.failed) || given_up {
                    // Whoever goes on after a failure overrules the evidence; it must not end the same way at once.
                    self.forget_evidence(age);
                }
                self.set_stage(Stage::Running, by.words());
                self.memory.step_since = age;
                self.memory.in_vain.restart();
                self.memory.undecided_since = age;
                let mut effects = self.share_effect();
                effects.extend(self.announce(Occasion::Resumed, now));
                Ok(effects)
            }
            (Command::Promote, _) if self.plan().aa => Err(format!(
                "this canary compares {candidate} with itself; there is nothing to promote"
            )),
            (Command::Promote, _) => {
                Ok(self.end(Ending::Promoted, &format!("Promoted {}.", by.words()), now))
            }
            (Command::Abort, _) => {
                Ok(self.end(Ending::RolledBack, &format!("Aborted {}.", by.words()), now))
            }
        }
    }

    /// What a failure leads to.
    pub(super) fn fail(&mut self, now: Moment) -> Vec<Effect> {
        self.memory.failed = true;
        match self.plan().on_failure {
            OnFailure::Rollback => self.end(Ending::RolledBack, "", now),
            OnFailure::Pause => self.hold_failed("after it failed", now),
        }
    }

    /// It fell often enough: it goes back where each fall came with the share, else it waits for a person.
    pub(super) fn end_climb(&mut self, relapse: Relapse, now: Moment) -> Vec<Effect> {
        self.memory.failed = true;
        let why = self.fell(relapse);
        if relapse.at_once && self.plan().on_failure == OnFailure::Rollback {
            return self.end(Ending::RolledBack, &format!("{why}."), now);
        }
        self.hold_failed(&format!("because {why}"), now)
    }

    /// Waits for a person, with no more than the first step's share.
    fn hold_failed(&mut self, why: &str, now: Moment) -> Vec<Effect> {
        let mut effects = self.cut(self.age(now));
        let held = format!("{why}; it is kept at {}", percent(self.memory.share));
        self.set_stage(Stage::Paused, held);
        effects.extend(self.announce(Occasion::Paused, now));
        effects
    }
}
