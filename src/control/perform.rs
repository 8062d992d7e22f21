//! Performing what was decided, in one order, and telling of it.
use super::action::{Action, CanaryNews};
use super::core::{Instruction, Trigger};
use super::courier::{Message, Subject};
use super::order::Unable;
use super::runner::Runner;
use super::waiting::{Raised, Then, Unwritten};
use crate::canary::{By, Occasion};
use crate::observe::Level;
use crate::stats::{Clock as _, Moment};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// So often the evidence of a canary is written down.
const JOURNAL: Duration = Duration::from_secs(5);

impl Runner {
    /// Has what happened decided on, and does what follows.
    pub(super) fn follow(&mut self, trigger: Trigger<'_>) {
        let now = self.clock.now();
        let actions = self.core.handle(trigger, now);
        let second = matches!(trigger, Trigger::Second);
        let due = now.since(self.journalled) >= JOURNAL && self.core.canary_runs();
        if !actions.is_empty() || (second && due) {
            let by = By { who: "evener", reason: None };
            self.perform(actions, by, Unwritten::IsTakenBack);
        } else if second {
            self.publish_unless_raising();
        }
    }

    /// Does what an operator wants. Returns the number of the state that has it.
    pub(super) fn obey(
        &mut self,
        instruction: Instruction<'_>,
        by: By<'_>,
        now: Moment,
    ) -> Result<u64, Unable> {
        let actions = self.core.obey(instruction, by, now)?;
        Ok(self.perform(actions, by, Unwritten::Stands))
    }

    /// Does what follows from a decision, always in this order. What takes a share away, or a replica out, is swapped in,
    /// told, and written; it waits for no disk. What gives a candidate more is written first, so that a restart knows of
    /// it, then swapped in and told. Returns the number of the state that has all of it.
    pub(super) fn perform(
        &mut self,
        actions: Vec<Action>,
        by: By<'_>,
        unwritten: Unwritten,
    ) -> u64 {
        let (later, at_once) = split_by_order(actions);
        self.swap(&at_once, later.is_empty());
        // Whoever hears of it finds it so.
        let messages = self.messages(&at_once, by);
        self.announce(&at_once, messages, by);
        let before = match unwritten {
            Unwritten::IsTakenBack => self.core.kept_of(&later),
            Unwritten::Stands => Vec::new(),
        };
        let now = self.clock.now();
        self.core.keep_canaries(now);
        self.journalled = now;
        if later.is_empty() {
            return self.save();
        }
        let messages = self.messages(&later, by);
        let (who, reason) = (by.who.to_owned(), by.reason.map(str::to_owned));
        self.save_then(Then::Raise(Raised { actions: later, messages, who, reason, before }))
    }

    /// Swaps in what is to be at once. `whole`: nothing of this decision comes later.
    fn swap(&mut self, at_once: &[Action], whole: bool) {
        // Connections to who joins are kept from the first request on.
        for action in at_once {
            if let Action::Join(replica) = action {
                replica.upstream.join();
            }
        }
        let moved: Vec<&str> = at_once.iter().filter_map(Action::moves).collect();
        if !moved.is_empty() || at_once.iter().any(|action| matches!(action, Action::Swap)) {
            self.settle_raises(&moved);
            self.publish();
        } else if whole {
            self.publish_unless_raising();
        }
        for action in at_once {
            if let Action::Retire(replica) = action {
                replica.upstream.retire();
            }
        }
    }

    /// Swaps in what gives a share, and tells of it; what does not stand is taken back, where it can be.
    pub(super) fn raise(&mut self, raised: Raised, stands: bool) {
        let Raised { actions, messages, who, reason, before } = raised;
        let takes_back = !stands && !before.is_empty();
        if takes_back {
            self.core.take_back(before, self.clock.now());
        }
        self.publish();
        if !takes_back {
            self.announce(&actions, messages, By { who: &who, reason: reason.as_deref() });
        }
    }

    fn announce(&self, actions: &[Action], messages: Vec<Message>, by: By<'_>) {
        let events = &self.started.events;
        for action in actions {
            match action {
                Action::Swap | Action::Join(_) | Action::Retire(_) => {}
                Action::Rule(ruling) => {
                    let (level, message) = (ruling.level(), ruling.to_string());
                    events.tell(level, ruling.kind(), message, "evener", None);
                }
                Action::Tell(CanaryNews { model, occasion, sentence }) => {
                    let message = format!("{model}: {sentence}");
                    events.tell(level_of(*occasion), occasion.name(), message, by.who, by.reason);
                    let model = self.core.table().model(model);
                    if let (Some(model), Occasion::Promoted) = (model, occasion) {
                        model.state.promotions.fetch_add(1, Relaxed);
                    }
                }
                Action::Confirm { kind, message, .. } => {
                    events.announce(kind, message.clone(), by.who, by.reason);
                }
            }
        }
        for message in messages {
            self.courier.send(message);
        }
    }

    /// What webhooks are to be told.
    fn messages(&self, actions: &[Action], by: By<'_>) -> Vec<Message> {
        let message = |action: &Action| {
            let Action::Tell(news) = action else { return None };
            let model = self.core.table().model(&news.model)?;
            let plan = model.plan.canary.as_ref()?;
            let (candidate, state) = (&plan.candidate, &model.state);
            let about = Subject { candidate, state, who: by.who, reason: by.reason };
            Some(self.courier.message(plan.notify.as_ref()?, news, about))
        };
        actions.iter().filter_map(message).collect()
    }

    /// Swaps in the table, and shows how the canaries stand.
    pub(super) fn publish(&self) {
        let proxy = &self.started.proxy;
        if !Arc::ptr_eq(&proxy.current.load(), self.core.table()) {
            proxy.current.store(Arc::clone(self.core.table()));
        }
        let reports = self.core.canary_reports(self.clock.now());
        proxy.meters.canaries.store(Arc::new(reports));
    }

    /// Does so, unless a canary waits for the disk before it goes on.
    fn publish_unless_raising(&self) {
        if !self.raises() {
            self.publish();
        }
    }
}

/// What waits for the disk, and what does not. With a canary that goes on waits what is told of its model beside.
fn split_by_order(actions: Vec<Action>) -> (Vec<Action>, Vec<Action>) {
    let raised: Vec<String> =
        actions.iter().filter_map(Action::raises).map(|news| news.model.clone()).collect();
    let waits = |action: &Action| match action {
        Action::Tell(_) => action.raises().is_some(),
        Action::Rule(_) => {
            action.moves().is_some_and(|model| raised.iter().any(|raised| raised == model))
        }
        Action::Swap | Action::Join(_) | Action::Retire(_) | Action::Confirm { .. } => false,
    };
    actions.into_iter().partition(waits)
}

const fn level_of(occasion: Occasion) -> Level {
    match occasion {
        Occasion::RolledBack => Level::Error,
        Occasion::Failing | Occasion::Paused | Occasion::Undecided => Level::Warning,
        Occasion::Began
        | Occasion::Advanced
        | Occasion::Recovered
        | Occasion::Resumed
        | Occasion::Promoted => Level::Info,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::action::Ruling;

    #[test]
    fn what_gives_a_candidate_more_waits_for_the_disk_and_what_is_told_of_its_model_with_it() {
        let tell = |model: &str, occasion| {
            let (model, sentence) = (model.to_owned(), String::new());
            Action::Tell(CanaryNews { model, occasion, sentence })
        };
        let ended = |model: &str| {
            let (model, why) = (model.to_owned(), String::new());
            Action::Rule(Ruling::SplitEnded { model, why })
        };
        let confirm = Action::Confirm { kind: "split", message: String::new(), split: None };
        let up = [Occasion::Began, Occasion::Advanced, Occasion::Resumed, Occasion::Promoted];
        for occasion in up {
            let (later, at_once) = split_by_order(vec![
                Action::Swap,
                ended("a"),
                tell("a", occasion),
                tell("b", Occasion::RolledBack),
                ended("b"),
                confirm.clone(),
            ]);
            let models = |actions: &[Action]| -> Vec<String> {
                actions.iter().filter_map(Action::moves).map(str::to_owned).collect()
            };
            assert_eq!(models(&later), ["a", "a"], "{occasion:?}");
            assert_eq!((models(&at_once), at_once.len()), (vec!["b".into(), "b".into()], 4));
        }
        for occasion in [Occasion::RolledBack, Occasion::Paused, Occasion::Failing] {
            let (later, at_once) = split_by_order(vec![ended("a"), tell("a", occasion)]);
            assert_eq!((later.len(), at_once.len()), (0, 2), "{occasion:?}");
        }
    }
}
