//! Carrying out orders about replicas, and telling what was ruled: events, and the state that outlives the process.
use super::canaries::{CanaryVerb, Told};
use super::courier::Subject;
use super::ejections::Ruling;
use super::order::{Act, Answer, Target};
use super::replicas::Unable;
use super::runner::{Runner, done};
use crate::canary::{By, Occasion};
use crate::observe::{Level, stamp};
use crate::stats::Clock as _;
use crate::table::{Ends, Hold, Shares};
use std::io;
use std::sync::Arc;
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
    ) -> Answer {
        let now = self.clock.now();
        let hold = Hold { ends: self.ends(lasts), reason: reason.map(str::to_owned) };
        match self.core.act(target, act, hold, now) {
            Err(Unable::Unknown(why)) => return Answer::Unknown(why),
            Err(Unable::Impossible(why)) => return Answer::Failed(why),
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
        done(self.save())
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
    ) -> Answer {
        let ruled = match shares {
            Some(shares) => {
                let hold = Hold { ends: self.ends(lasts), reason: reason.map(str::to_owned) };
                let by = (who, stamp());
                self.core.set_split(model, shares, hold, by).map(Some)
            }
            None => self.core.reset_split(model),
        };
        let said = match ruled {
            Err(Unable::Unknown(why)) => return Answer::Unknown(why),
            Err(Unable::Impossible(why)) => return Answer::Failed(why),
            Ok(said) => said,
        };
        self.publish();
        if let Some(message) = said {
            let lasts = lasts.and_then(|lasts| jiff::SignedDuration::try_from(lasts).ok());
            let lasts = lasts.map(|lasts| format!(" for {lasts:#}")).unwrap_or_default();
            let message = format!("{message}{lasts}");
            self.started.events.announce("split", message, who, reason);
        }
        done(self.save())
    }

    /// Lets the canaries look at what was seen, and does what follows.
    pub(super) fn judge(&mut self) {
        let now = self.clock.now();
        let told = self.core.judge_canaries(now);
        let due = self.core.canary_runs() && now.since(self.journalled) >= JOURNAL;
        if due || !told.is_empty() {
            // What cannot be written is tried again.
            self.tell(&told, "evener", None).ok();
        } else {
            self.publish();
        }
    }

    /// Says to a canary what an operator says.
    pub(super) fn say(
        &mut self,
        model: &str,
        verb: CanaryVerb,
        who: &str,
        reason: Option<&str>,
    ) -> Answer {
        match self.core.order_canary(model, verb, By { who, reason }, self.clock.now()) {
            Err(Unable::Unknown(why)) => Answer::Unknown(why),
            Err(Unable::Impossible(why)) => Answer::Failed(why),
            Ok(told) => done(self.tell(&told, who, reason)),
        }
    }

    /// Tells of canaries, writes them down, and shows how they stand. What cannot be written must not go on: a restart
    /// would not know of it.
    pub(super) fn tell(
        &mut self,
        told: &[Told],
        who: &str,
        reason: Option<&str>,
    ) -> io::Result<()> {
        self.announce_canaries(told, who, reason);
        let ended = self.core.take_ended_splits();
        let now = self.clock.now();
        self.core.keep_canaries(now);
        self.journalled = now;
        let saved = self.save();
        if let Err(error) = &saved {
            let why = format!("the journal cannot be written: {error}");
            let held = self.core.hold_canaries(&why, now);
            self.announce_canaries(&held, "evener", Some(&why));
        }
        self.publish();
        for ended in ended {
            self.started.events.announce(ended.kind(), ended.to_string(), "evener", None);
        }
        saved
    }

    fn announce_canaries(&self, told: &[Told], who: &str, reason: Option<&str>) {
        for one in told {
            let Told { model, occasion, sentence } = one;
            let message = format!("{model}: {sentence}");
            self.started.events.tell(level_of(*occasion), occasion.name(), message, who, reason);
            let Some(model) = self.core.table().model(model) else { continue };
            let Some(plan) = &model.plan.canary else { continue };
            if let Some(notify) = &plan.notify {
                let about =
                    Subject { candidate: &plan.candidate, state: &model.state, who, reason };
                self.courier.tell(notify, one, about);
            }
        }
    }

    /// Swaps in what the canaries moved, and shows how they stand.
    fn publish(&self) {
        let proxy = &self.started.proxy;
        if !Arc::ptr_eq(&proxy.current.load(), self.core.table()) {
            proxy.current.store(Arc::clone(self.core.table()));
        }
        let reports = self.core.canary_reports(self.clock.now());
        proxy.meters.canaries.store(Arc::new(reports));
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
        // What held for a while may be over. What cannot be written is tried again.
        self.save().ok();
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
