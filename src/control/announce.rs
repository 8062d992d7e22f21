//! Carrying out orders about replicas, and telling what was ruled: events, and the state that outlives the process.
use super::ejections::Ruling;
use super::order::{Act, Answer, Target};
use super::replicas::Unable;
use super::runner::Runner;
use crate::observe::stamp;
use crate::stats::Clock as _;
use crate::table::{Ends, Hold};
use std::time::Duration;

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
        let ends = lasts.map(|lasts| Ends {
            at: now + lasts,
            wall: stamp().saturating_add(lasts).unwrap_or(jiff::Timestamp::MAX),
        });
        let hold = Hold { ends, reason: reason.map(str::to_owned) };
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
        match self.state.save(self.core.overrides()) {
            Ok(()) => Answer::Done,
            Err(error) => Answer::Failed(format!(
                "it is done, but would be forgotten by a restart: cannot write the state: {error}"
            )),
        }
    }

    pub(super) fn announce(&mut self, rulings: &[Ruling]) {
        for ruling in rulings {
            self.started.events.announce(ruling.kind(), ruling.to_string(), "evener", None);
        }
        // What held for a while may be over.
        if !rulings.is_empty()
            && let Err(error) = self.state.save(self.core.overrides())
        {
            tracing::error!(%error, "cannot write the state: a restart would bring back what is over");
        }
    }
}
