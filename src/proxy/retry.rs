//! The attempts of one request: the first, and those that follow while failing may still be hidden from the client.
use super::body::Body;
use super::chance::{chance, choose};
use super::exchange::{End, Exchange};
use super::placed::Placed;
use crate::dialect::RefusalCode;
use crate::flow::{Happened, Refusal, Stop, Trouble};
use crate::health::{Repeatable, RetryOn, RetryPlan};
use crate::table::{Choice, Timeouts, Wish};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::sleep;

impl Exchange<'_> {
    /// Asks the chosen replica, then others as long as that is allowed, and answers the client with what comes of it.
    pub(super) async fn serve<'m>(
        &mut self,
        placed: &mut Placed<'m>,
        wish: Wish<'_>,
        first: Choice<'m>,
    ) -> Result<End, Stop> {
        let model = placed.model;
        let timeouts = &model.plan.timeouts;
        model.state.retry_budget.deposit(model.plan.retries.budget);
        if let Some(hedge) = &model.plan.hedge {
            model.state.hedge_budget.deposit(hedge.budget);
        }
        let mut choice = first;
        loop {
            if self.time_left(timeouts).is_zero() {
                return Err(self.deadline.passed(timeouts).into());
            }
            let Choice { version, fail_open, .. } = choice;
            self.record.course.note(Happened::Assigned { version, fail_open });
            let trouble = match self.attempt(placed, choice, wish).await {
                Ok(end) => {
                    self.note_rescue(model);
                    return Ok(end);
                }
                Err(trouble) => trouble,
            };
            if let (Trouble::Answered { failed: None, .. }, Some(body)) =
                (&trouble, self.own_answer.take())
            {
                return Ok(self.answer_model(body).await);
            }
            // Of two that raced, the one that did not give way.
            let asked = self.record.course.replica().unwrap_or(&choice.member.replica);
            let replica = Arc::clone(asked);
            let Some(failed) = self.repeats(&trouble) else {
                return self.give_up(trouble, &replica, placed).await;
            };
            tracing::debug!(replica = %replica.id, %trouble, "attempt failed; another follows");
            self.attempts.tried.push(replica);
            self.record.course.note(Happened::Repeats(self.proxy.now()));
            let pause = RetryPlan::pause(self.attempts.retries, chance());
            self.attempts.retries += 1;
            self.pause(placed, pause).await?;
            let again = Wish { tried: &self.attempts.tried, ..wish };
            choice = choose(model, again, self.proxy.now()).map_err(|owner| {
                let message = format!("no replica of `{}/{}` is left", model.name, owner.name);
                Refusal::new(RefusalCode::NoReplicas, message)
            })?;
            model.state.retried(failed);
        }
    }

    /// Does another attempt follow? Then as what it is counted.
    fn repeats(&self, trouble: &Trouble) -> Option<RetryOn> {
        let failed = match trouble {
            // Granted when its head was read.
            Trouble::Answered { failed, .. } => return *failed,
            Trouble::Connect(_) => RetryOn::Connect,
            Trouble::Died(_) | Trouble::Unseen(_) | Trouble::Reset(_) | Trouble::Malformed(_) => {
                RetryOn::Reset
            }
            Trouble::FirstByte => RetryOn::FirstByte,
            Trouble::Stalled
            | Trouble::Total
            | Trouble::Exhausted(_)
            | Trouble::BadRequest(_)
            | Trouble::ClientGone
            | Trouble::ClientStalled
            | Trouble::Client(_) => return None,
        };
        let unseen = matches!(trouble, Trouble::Unseen(_));
        self.grants_retry(failed, unseen).then_some(failed)
    }

    /// May what failed so be asked again? If so, the budget has paid for it. `unseen`: no replica worked on it.
    pub(super) fn grants_retry(&self, failed: RetryOn, unseen: bool) -> bool {
        let Some(model) = &self.record.model else { return false };
        let attempts = &self.attempts;
        let repeatable = if unseen { Repeatable::Always } else { attempts.repeatable };
        // Asked of every answer: nearly all are good, and that is seen first.
        if !model.plan.retries.allows(failed, repeatable, attempts.retries)
            || attempts.body_spent
            || attempts.informed
            || self.begun()
            || self.wants_one_replica()
        {
            return false;
        }
        let usual = self.record.course.version().and_then(|(_, state)| state.speed().typical());
        if usual.is_some_and(|usual| self.time_left(&model.plan.timeouts) < usual) {
            return false;
        }
        // What no replica worked on is no load that a retry could double.
        let free = unseen || failed == RetryOn::Connect;
        let paid = free || model.state.retry_budget.take();
        if !paid {
            model.state.retries_refused.fetch_add(1, Relaxed);
        }
        paid
    }

    /// Waits before a retry.
    async fn pause(&mut self, placed: &Placed<'_>, pause: Duration) -> Result<(), Stop> {
        let timeouts = &placed.model.plan.timeouts;
        let paused = match placed.body {
            Body::Whole(..) => self.watched(timeouts, sleep(pause)).await,
            Body::Stream(..) => self.in_time(timeouts, sleep(pause)).await,
        };
        paused.map_err(|trouble| {
            let over = matches!(trouble, Trouble::Total);
            if over { self.deadline.passed(timeouts).into() } else { Stop::Gone }
        })
    }

    /// What is left of the time for the whole exchange.
    pub(super) fn time_left(&self, timeouts: &Timeouts) -> Duration {
        self.deadline.left(timeouts, self.record.course.converses(), self.proxy.now())
    }
}
