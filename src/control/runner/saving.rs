//! Writing down what must outlive the process, again until it works.
use super::Runner;
use crate::control::core::Core;
use crate::control::courier::Courier;
use crate::control::order::Answer;
use crate::control::state::StateDir;
use crate::observe::Level;
use crate::stats::{Clock as _, Moment};
use std::io;
use std::time::Duration;

/// So often a save that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

impl Runner {
    /// Writes the state. What cannot be written now is written by [`Self::save_again`], also when nothing else happens:
    /// an ended canary or a drain gives no later occasion.
    pub(in crate::control) fn save(&mut self) -> io::Result<()> {
        self.core.overrides.webhooks = self.courier.waiting();
        let saved = self.state.check().and_then(|()| self.state.save(self.core.overrides()));
        self.note_saved(saved.as_ref().err());
        saved
    }

    fn note_saved(&mut self, failed: Option<&io::Error>) {
        let troubles = &self.started.proxy.meters.troubles;
        troubles.state_is(failed.map(ToString::to_string));
        let failed_before = self.unsaved.is_some();
        self.unsaved = failed.map(|_| self.clock.now());
        match failed {
            Some(error) if !failed_before => {
                let message = format!(
                    "the state cannot be written: {error}; until it is, a restart forgets what changes now"
                );
                self.started.events.tell(Level::Error, "state", message, "evener", None);
            }
            None if failed_before => {
                let message = "the state is written again".to_owned();
                self.started.events.announce("state", message, "evener", None);
            }
            Some(_) | None => {}
        }
    }

    /// Also when a webhook was told, which must not be told again after a crash. Called by the second.
    pub(in crate::control) fn save_again(&mut self) {
        let now = self.clock.now();
        // An operator should hear of it before something is lost, not when there is something to write.
        if self.unsaved.is_none()
            && let Err(error) = self.state.check()
        {
            self.note_saved(Some(&error));
        }
        let due = match self.unsaved {
            Some(tried) => now.since(tried) >= AGAIN,
            None => self.courier.moved(),
        };
        if due {
            self.core.keep_canaries(now);
            // It has said what there is to say.
            self.save().ok();
        }
    }
}

/// The last save of a process that ends. What no webhook was told of waits for the next one.
pub(super) async fn save_last(
    core: &mut Core,
    state: &mut StateDir,
    courier: &Courier,
    now: Moment,
) {
    courier.last_words().await;
    core.keep_canaries(now);
    core.overrides.webhooks = courier.waiting();
    let saved = state.save(core.overrides());
    let untold: Vec<String> = core.overrides.webhooks.iter().map(ToString::to_string).collect();
    let untold = untold.join(", ");
    match saved {
        Ok(()) if untold.is_empty() => {}
        Ok(()) => {
            tracing::warn!(untold, "undelivered webhooks are kept; the next process sends them");
        }
        Err(error) => {
            tracing::error!(%error, untold, "cannot write the state: the next process forgets what changed, and does not send these webhooks");
        }
    }
}

/// The answer to an order that was carried out.
pub(in crate::control) fn done(saved: io::Result<()>) -> Answer {
    match saved {
        Ok(()) => Answer::Done,
        Err(error) => Answer::Failed(format!(
            "applied, but not persisted, so a restart forgets it: cannot write the state: {error}"
        )),
    }
}
