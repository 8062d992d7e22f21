//! Writing down what must outlive the process, again until it works, and what waits for that: answers to orders, and
//! canaries that go on. A disk that hangs keeps nothing else waiting.
use super::Runner;
use crate::control::core::{Core, Trigger};
use crate::control::courier::Courier;
use crate::control::order::Answer;
use crate::control::scribe::{PATIENCE, Scribe, Written, hangs};
use crate::control::waiting::{Then, Waiting};
use crate::observe::Level;
use crate::stats::{Clock as _, MonotonicClock};
use crate::table::KeptWebhook;
use std::io;
use std::time::Duration;

/// So often a save that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

impl Runner {
    /// Has the state written. What cannot be written now is written by [`Self::save_again`], also when nothing else
    /// happens: an ended canary or a drain gives no later occasion. Returns the number to wait for.
    pub(in crate::control) fn save(&mut self) -> u64 {
        self.core.overrides.webhooks = untold(&self.courier, &self.waiting);
        self.scribe.save(self.core.overrides(), self.clock.now())
    }

    /// Has the state written, with what is then to be told, and does this when it is, or when that fails.
    pub(in crate::control) fn save_then(&mut self, then: Then) -> u64 {
        self.once_saved(self.scribe.next(), then);
        self.save()
    }

    /// Does this when the state of this number is written, or when that fails.
    pub(in crate::control) fn once_saved(&mut self, number: u64, then: Then) {
        self.waiting.push(Waiting { number, then });
    }

    /// Does anything wait for the disk before it goes on?
    pub(in crate::control) fn raises(&self) -> bool {
        self.waiting.iter().any(|waiting| matches!(waiting.then, Then::Raise(_)))
    }

    /// The splits of these models move at once, and what went up before is told before it. Others that wait to go up are
    /// taken back: they go up again once that can be written.
    pub(in crate::control) fn settle_raises(&mut self, down: &[&str]) {
        for waiting in std::mem::take(&mut self.waiting) {
            match waiting.then {
                Then::Raise(raised) => {
                    let concerned = raised.moves_one_of(down);
                    self.raise(raised, concerned);
                }
                Then::Answer(_) => self.waiting.push(waiting),
            }
        }
    }

    /// The state is written as far as this tells, or is not.
    pub(super) fn note_written(&mut self, written: &Written) {
        self.scribe.note(written, self.clock.now());
        let failed = written.result.as_ref().err();
        // An operator should hear of it before something is lost, not when there is something to write.
        let told = !written.only_checked || (failed.is_some() && self.unsaved.is_none());
        if told {
            self.note_saved(failed);
        }
        if !written.only_checked {
            self.go_on(written.number, failed);
        }
    }

    /// Tells those that wait for the state up to this number. What cannot be written must not go on: a restart would
    /// not know of it.
    fn go_on(&mut self, number: u64, failed: Option<&io::Error>) {
        let all = std::mem::take(&mut self.waiting).into_iter();
        let settles = |one: &Waiting| {
            one.number <= number || (failed.is_some() && matches!(one.then, Then::Raise(_)))
        };
        let (ready, waiting): (Vec<_>, Vec<_>) = all.partition(settles);
        self.waiting = waiting;
        let mut answers = Vec::new();
        for Waiting { then, .. } in ready {
            match then {
                Then::Raise(raised) => self.raise(raised, failed.is_none()),
                Then::Answer(reply) => answers.push(reply),
            }
        }
        if let Some(error) = failed {
            self.follow(Trigger::Unwritable(&format!("the journal cannot be written: {error}")));
        }
        for reply in answers {
            // Whoever asked may have left.
            reply.send(done(failed)).ok();
        }
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
        if let Some(silence) = self.scribe.silence(now) {
            if silence >= PATIENCE {
                let error = hangs(silence);
                self.note_saved(Some(&error));
                self.go_on(u64::MAX, Some(&error));
            }
            return;
        }
        let due = match self.unsaved {
            Some(tried) => now.since(tried) >= AGAIN,
            None => self.courier.moved(),
        };
        if due {
            self.core.keep_canaries(now);
            self.save();
        } else if self.unsaved.is_none() {
            self.scribe.check(now);
        }
    }

    /// Writes the state and waits for the disk, while nothing else is done: before another process reads it.
    pub(super) async fn save_now(&mut self) -> io::Result<()> {
        let number = self.save();
        let written = self.scribe.answer_to(number).await?;
        self.note_written(&written);
        written.result
    }

    /// Answers whoever waits for what is not written yet, before the process ends.
    pub(super) async fn settle_waiting(&mut self) {
        if !self.waiting.is_empty()
            && let Err(error) = self.save_now().await
        {
            self.go_on(u64::MAX, Some(&error));
        }
    }
}

/// What webhooks are not told yet.
fn untold(courier: &Courier, waiting: &[Waiting]) -> Vec<KeptWebhook> {
    let mut untold = courier.waiting();
    for waiting in waiting {
        if let Then::Raise(raised) = &waiting.then {
            untold.extend(raised.messages.iter().map(|message| message.kept.clone()));
        }
    }
    untold
}

/// The last save of a process that ends. What no webhook was told of waits for the next one.
pub(super) async fn save_last(
    core: &mut Core,
    scribe: &mut Scribe,
    courier: &Courier,
    waiting: &[Waiting],
    clock: MonotonicClock,
) {
    courier.last_words().await;
    core.keep_canaries(clock.now());
    core.overrides.webhooks = untold(courier, waiting);
    let number = scribe.save(core.overrides(), clock.now());
    let saved = scribe.answer_to(number).await.and_then(|written| written.result);
    let unsent: Vec<String> = core.overrides.webhooks.iter().map(ToString::to_string).collect();
    let untold = unsent.join(", ");
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

/// The answer to an order that was carried out. `failed`: it could not be written down.
fn done(failed: Option<&io::Error>) -> Answer {
    match failed {
        None => Answer::Done,
        Some(error) => Answer::Failed(format!(
            "applied, but not persisted, so a restart forgets it: cannot write the state: {error}"
        )),
    }
}
