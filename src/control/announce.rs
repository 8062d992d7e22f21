//! Carrying out orders about replicas, and telling what was ruled: events, and the state that outlives the process.
use super::canaries::{CanaryVerb, Told};
use super::courier::{Message, Subject};
use super::ejections::Ruling;
use super::order::{Act, Target};
use super::runner::Runner;
use super::waiting::{Carried, Raised, Then, Unwritten};
use crate::canary::{By, Occasion};
use crate::observe::{Level, stamp};
use crate::stats::Clock as _;
use crate::table::{Ends, Hold, Shares};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// So often the evidence of a canary is written down.
const JOURNAL: Duration = Duration::from_secs(5);

impl Runner {
    pub(super) fn act(
        &mut self,
        target: &Target,
        act: Act,
        lasts: Option<Duration>,
        who: &str,
        reason: Option<&str>,
    ) -> Carried {
        let now = self.clock.now();
        let hold = Hold { ends: self.ends(lasts), reason: reason.map(str::to_owned) };
        match self.core.act(target, act, hold, now) {
            Err(unable) => return Carried::Not(unable),
            Ok(0) => {}
            Ok(_) => {
                let (kind, verb) = match act {
                    Act::Drain => ("drain", "drains"),
                    Act::Undrain => ("drain", "serves again"),
                    Act::Eject => ("ejection", "is ejected"),
                    Act::Restore => ("ejection", "is restored and serves again"),
                    Act::Probe => ("standing", "is probed"),
                };
                let lasts = lasts.map(|lasts| format!(" for {lasts:?}")).unwrap_or_default();
                let message = format!("{target} {verb}{lasts}");
                self.started.events.announce(kind, message, who, reason);
            }
        }
        Carried::Saved(self.save())
    }

    fn ends(&self, lasts: Option<Duration>) -> Option<Ends> {
        lasts.map(|lasts| Ends {
            at: self.clock.now() + lasts,
            wall: stamp().saturating_add(lasts).unwrap_or(jiff::Timestamp::MAX),
        })
    }

    /// Divides a model's requests as an operator says, or as before again.
    pub(super) fn split(
        &mut self,
        model: &str,
        shares: Option<Shares>,
        lasts: Option<Duration>,
        who: &str,
        reason: Option<&str>,
    ) -> Carried {
        let ruled = match shares {
            Some(shares) => {
                let hold = Hold { ends: self.ends(lasts), reason: reason.map(str::to_owned) };
                let by = (who, stamp());
                self.core.set_split(model, shares, hold, by).map(Some)
            }
            None => self.core.reset_split(model),
        };
        let said = match ruled {
            Err(unable) => return Carried::Not(unable),
            Ok(said) => said,
        };
        self.publish();
        if let Some(message) = said {
            let lasts = lasts.and_then(|lasts| jiff::SignedDuration::try_from(lasts).ok());
            let lasts = lasts.map(|lasts| format!(" for {lasts:#}")).unwrap_or_default();
            let message = format!("{message}{lasts}");
            self.started.events.announce("split", message, who, reason);
        }
        Carried::Saved(self.save())
    }

    /// Lets the canaries look at what was seen, and does what follows.
    pub(super) fn judge(&mut self) {
        let now = self.clock.now();
        let told = self.core.judge_canaries(now);
        let due = self.core.canary_runs() && now.since(self.journalled) >= JOURNAL;
        if due || !told.is_empty() {
            self.tell(told, Unwritten::IsTakenBack, "evener", None);
        } else {
            self.publish_unless_raising();
        }
    }

    /// Says to a canary what an operator says.
    pub(super) fn say(
        &mut self,
        model: &str,
        verb: CanaryVerb,
        who: &str,
        reason: Option<&str>,
    ) -> Carried {
        match self.core.order_canary(model, verb, By { who, reason }, self.clock.now()) {
            Err(unable) => Carried::Not(unable),
            Ok(told) => Carried::Saved(self.tell(told, Unwritten::Stands, who, reason)),
        }
    }

    /// Tells of canaries, writes them down, and shows how they stand. What takes a share away is swapped in first and
    /// waits for no disk; what gives one is written first, so that a restart knows of it. Returns the number of the
    /// state that has all of it.
    pub(super) fn tell(
        &mut self,
        told: Vec<Told>,
        unwritten: Unwritten,
        who: &str,
        reason: Option<&str>,
    ) -> u64 {
        let (up, down): (Vec<_>, Vec<_>) =
            told.into_iter().partition(|one| gives_share(one.occasion));
        if !down.is_empty() {
            self.settle_raises(&down);
            self.publish();
        } else if up.is_empty() {
            self.publish_unless_raising();
        }
        let messages = self.messages(&down, who, reason);
        self.announce_canaries(&down, messages, who, reason);
        let before = match unwritten {
            Unwritten::IsTakenBack => self.core.kept_of(&up),
            Unwritten::Stands => Vec::new(),
        };
        let now = self.clock.now();
        self.core.keep_canaries(now);
        self.journalled = now;
        let ended = self.core.take_ended_splits();
        if up.is_empty() && ended.is_empty() {
            return self.save();
        }
        let messages = self.messages(&up, who, reason);
        let (who, reason) = (who.to_owned(), reason.map(str::to_owned));
        let raised = Raised { told: up, messages, who, reason, ended, before };
        self.save_then(Then::Raise(raised))
    }

    /// Swaps in what gives a share, and tells of it; what does not stand is taken back, where it can be.
    pub(super) fn raise(&mut self, raised: Raised, stands: bool) {
        let Raised { told, messages, who, reason, ended, before } = raised;
        let takes_back = !stands && !before.is_empty();
        if takes_back {
            self.core.take_back(before, self.clock.now());
        }
        self.publish();
        if !takes_back {
            self.announce_canaries(&told, messages, &who, reason.as_deref());
        }
        for ended in ended {
            self.started.events.announce(ended.kind(), ended.to_string(), "evener", None);
        }
    }

    /// Pauses all canaries that run.
    pub(super) fn hold_canaries(&mut self, why: &str) {
        let held = self.core.hold_canaries(why, self.clock.now());
        self.publish();
        let messages = self.messages(&held, "evener", Some(why));
        self.announce_canaries(&held, messages, "evener", Some(why));
    }

    fn announce_canaries(
        &self,
        told: &[Told],
        messages: Vec<Message>,
        who: &str,
        reason: Option<&str>,
    ) {
        for Told { model, occasion, sentence } in told {
            let message = format!("{model}: {sentence}");
            self.started.events.tell(level_of(*occasion), occasion.name(), message, who, reason);
            if let (Some(model), Occasion::Promoted) = (self.core.table().model(model), occasion) {
                model.state.promotions.fetch_add(1, Relaxed);
            }
        }
        for message in messages {
            self.courier.send(message);
        }
    }

    /// What webhooks are to be told.
    fn messages(&self, told: &[Told], who: &str, reason: Option<&str>) -> Vec<Message> {
        let message = |one: &Told| {
            let model = self.core.table().model(&one.model)?;
            let plan = model.plan.canary.as_ref()?;
            let (candidate, state) = (&plan.candidate, &model.state);
            let about = Subject { candidate, state, who, reason };
            Some(self.courier.message(plan.notify.as_ref()?, one, about))
        };
        told.iter().filter_map(message).collect()
    }

    /// Swaps in what the canaries moved, and shows how they stand.
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

    /// Tells of what is so from now on: whoever hears of it finds it so.
    pub(super) fn announce(&mut self, rulings: &[Ruling]) {
        if rulings.is_empty() {
            return;
        }
        self.publish();
        for ruling in rulings {
            let (level, message) = (ruling.level(), ruling.to_string());
            self.started.events.tell(level, ruling.kind(), message, "evener", None);
        }
        // What held for a while may be over.
        self.save();
    }
}

/// Does a candidate get more by it than it had?
const fn gives_share(occasion: Occasion) -> bool {
    match occasion {
        Occasion::Began
        | Occasion::Advanced
        | Occasion::Recovered
        | Occasion::Resumed
        | Occasion::Promoted => true,
        Occasion::RolledBack | Occasion::Failing | Occasion::Paused | Occasion::Undecided => false,
    }
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
