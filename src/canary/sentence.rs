//! What a canary says of itself: where it stands, what was seen, how sure that is, and what happens next.
use super::falls::Relapse;
use super::metric::Metric;
use super::rollout::RollOut;
use super::state::{Ending, State};
use super::words::{capital, chance, grouped, percent, some, span, times};
use crate::stats::Moment;

/// A side that was not asked for so long, in seconds, is said to get nothing.
const SILENT: f64 = 60.0;

impl RollOut {
    /// The state in plain English.
    pub fn sentence(&self, now: Moment) -> String {
        let age = self.age(now);
        let state = self.state(now);
        let (candidate, model) = (&self.judged.candidate, &self.judged.model);
        if self.plan.aa && self.is_live() {
            return self.of_itself(age);
        }
        match state {
            State::Idle => format!("{candidate} waits: `evener canary start {model}` begins."),
            State::Promoted | State::RolledBack => self.memory.because.clone(),
            State::Collecting | State::Passing => self.underway(state, age),
            State::Failing => self.failing(age),
            State::Paused => self.paused(age),
            State::Undecided => {
                let spent = span(age - self.memory.step_since);
                format!(
                    "{candidate} is undecided after {spent} at {}: {}. {} It stays there; \
                     `evener canary resume {model}` goes on, `promote` or `abort` end it.",
                    percent(self.memory.share),
                    self.seen(self.main_check(), age),
                    capital(&self.missing(age)),
                )
            }
        }
    }

    fn underway(&self, state: State, age: f64) -> String {
        let candidate = &self.judged.candidate;
        let share = percent(self.memory.share);
        let Some(from) = self.judged_from() else {
            let warmup = span(self.plan.warmup.as_secs_f64());
            let soon = format!(
                "it is judged {warmup} after one of its replicas has passed its health check or served a request"
            );
            // Nobody has looked yet.
            if self.memory.ticked <= 0.0 {
                return format!("{candidate} gets {share} from now on; {soon}.");
            }
            return format!("{candidate} has {share}, but no usable replica yet; {soon}.");
        };
        if let Some(silence) = self.silence(age) {
            return silence;
        }
        if age < from {
            return format!(
                "{candidate} has {share} and warms up; it is judged in {}.",
                span(from - age)
            );
        }
        let (step, steps) = (self.memory.step + 1, self.plan.steps.len());
        let seen = self.seen(self.main_check(), age);
        let next = if self.doubt().is_none() && self.is_returning() {
            let back = percent(self.plan.steps[self.memory.returning.unwrap_or(0)] / 100.0);
            format!("It returns to {back} step by step after it fell back.")
        } else if state == State::Passing {
            format!("It is proven to be no worse, and {}.", self.next(age))
        } else {
            format!("Nothing decides yet: {}", self.missing(age))
        };
        format!("{candidate} has {share} (step {step} of {steps}): {seen}. {next}{}", self.notes())
    }

    /// "goes to 25 % in 40 s".
    fn next(&self, age: f64) -> String {
        let left = (self.plan.hold.as_secs_f64() - (age - self.memory.step_since)).max(0.0);
        let when = if left < 1.0 { "now".to_owned() } else { format!("in {}", span(left)) };
        if self.memory.step >= self.last_judged() {
            format!("is promoted {when}")
        } else {
            let next = self.plan.steps[self.memory.step + 1] / 100.0;
            format!("goes to {} {when}", percent(next))
        }
    }

    /// What keeps every candidate where it is.
    fn doubt(&self) -> Option<String> {
        let stable = &self.stable;
        if self.stable_fails() {
            let rate = percent(self.outage());
            return Some(format!(
                "{stable} itself fails {rate} of its requests, and to fail as often proves nothing"
            ));
        }
        if let Some([own, others]) = self.memory.waiting.unexplained() {
            return Some(format!(
                "{} of its requests are open for far longer than usual, {} of {stable}",
                grouped(own),
                grouped(others)
            ));
        }
        if self.memory.in_vain.has_begun() {
            return Some(self.leavings());
        }
        let (check, rate) = self.worse_lately()?;
        let name = self.plan.checks[check].metric.name();
        Some(format!("it has just begun to fail: {name} in {} of its last requests", percent(rate)))
    }

    /// It begins above the first step.
    pub(super) fn begins_higher(&self, now: Moment) -> String {
        let candidate = &self.judged.candidate;
        let (share, hold) = (percent(self.memory.share), span(self.plan.hold.as_secs_f64()));
        let age = self.age(now).max(1.0);
        let rate = self.memory.requests.iter().sum::<u64>() as f64 / age;
        format!(
            "{candidate} begins with {share}: at {} requests/s fewer than 100 of its requests would come in {hold} at a smaller share.",
            super::words::decimal(rate)
        )
    }

    /// "v2 fails above 5 %: it fell back from 25 % twice".
    pub(super) fn fell(&self, Relapse { step, here, .. }: Relapse) -> String {
        let candidate = &self.judged.candidate;
        if step <= self.memory.first || here < 2 {
            let falls = times(self.memory.falls.len());
            return format!("{candidate} failed {falls}, and on all its replicas");
        }
        let (below, from) = (self.plan.steps[step - 1] / 100.0, self.plan.steps[step] / 100.0);
        format!(
            "{candidate} fails above {}: it fell back from {} {}",
            percent(below),
            percent(from),
            times(here)
        )
    }

    /// What is still needed, and how long that takes.
    fn missing(&self, age: f64) -> String {
        if let Some(doubt) = self.doubt() {
            return format!("{doubt}.");
        }
        let unread = self.memory.proofs.iter().zip(&self.plan.checks).find(|(proof, check)| {
            self.memory.samples > 200
                && proof.on_step == 0
                && !matches!(check.metric, Metric::Errors)
                && !proof.is_passed_over(check)
        });
        if let Some((_, check)) = unread {
            return format!("no request has told anything of {} yet.", check.metric.name());
        }
        let full = self
            .memory
            .proofs
            .iter()
            .zip(&self.plan.checks)
            .find(|(proof, check)| proof.lacks_room(check) && !proof.is_passed_over(check));
        if let Some((_, check)) = full {
            let name = check.metric.name();
            return format!(
                "nearly all requests of {} are hits of {name}, and as many prove nothing.",
                self.stable
            );
        }
        let Some(needs) = self.needs_requests() else {
            return "so far it looks worse, and no number of such requests would let it advance."
                .to_owned();
        };
        if needs == 0 {
            return "it waits for the end of its step.".to_owned();
        }
        let requests = if needs == 1 { "request" } else { "requests" };
        match self.eta_at(age) {
            Some(eta) => format!(
                "it needs {} more {requests}, about {} at the present rate.",
                some(needs),
                span(eta)
            ),
            None => format!("it needs {} more {requests}.", some(needs)),
        }
    }

    fn failing(&self, age: f64) -> String {
        let candidate = &self.judged.candidate;
        if self.evidence() < self.bar() {
            let seen = self.seen(self.main_check(), age);
            return format!(
                "{candidate} failed in a burst: {seen}. It is kept at {} for a while before it goes on.{}",
                percent(self.memory.share),
                self.notes()
            );
        }
        let kept = if self.memory.returning.is_some() {
            let share = percent(self.memory.share);
            format!("It is kept at {share} until it is clear that this was no burst.")
        } else {
            "It does not advance until it is clear whether this was a burst.".to_owned()
        };
        format!("{candidate} fails: {}. {kept}{}", self.seen_against(age), self.notes())
    }

    fn paused(&self, age: f64) -> String {
        let (candidate, model) = (&self.judged.candidate, &self.judged.model);
        let because = &self.memory.because;
        if self.memory.failed {
            return format!(
                "{candidate} is paused {because}: {}. `evener canary resume {model}` overrules that and judges \
                 anew; `promote` or `abort` end it.",
                self.seen_against(age)
            );
        }
        if self.memory.failing_since.is_some() {
            return format!(
                "{candidate} is paused {because}, and fails: {}. It is kept at {} until it is clear that this was no \
                 burst; `evener canary resume {model}` goes on.",
                self.seen_against(age),
                percent(self.memory.share)
            );
        }
        format!(
            "{candidate} is paused at {} {because}. {}. `evener canary resume {model}` goes on.{}",
            percent(self.memory.share),
            capital(&self.seen(self.main_check(), age)),
            self.notes()
        )
    }

    /// What is said for good.
    pub(super) fn last_sentence(&self, ending: Ending, why: &str, now: Moment) -> String {
        let age = self.age(now);
        let (candidate, model) = (&self.judged.candidate, &self.judged.model);
        let seen = match (self.counted().requests, why) {
            (_, "") if ending == Ending::RolledBack => format!(": {}", self.seen_against(age)),
            (0, _) => String::new(),
            (..) => format!(": {}", self.seen(self.main_check(), age)),
        };
        let why = if why.is_empty() { String::new() } else { format!(" {why}") };
        match ending {
            Ending::Promoted => {
                let found = self.would_have_found().filter(|_| self.counted().requests > 0);
                let found =
                    found.map_or(String::new(), |least| format!(" It would have found {least}."));
                let notes = [self.of_one_client(), self.hidden_by_retries(), self.unread()];
                let notes = notes.concat() + &self.apart();
                format!(
                    "{candidate} was promoted{seen}.{why}{found} It serves all of {model} until the file's `split` changes.{notes}"
                )
            }
            Ending::RolledBack if self.plan.aa => {
                format!("{candidate} is no longer compared with itself.{why}")
            }
            Ending::RolledBack => {
                // The name of a version stays as it is.
                let serve = match self.stable.strip_prefix("the ") {
                    Some(rest) => format!("The {rest} serve all"),
                    None => format!("{} serves all", self.stable),
                };
                let notes = format!("{}{}", self.hidden_by_retries(), self.apart());
                format!(
                    "{candidate} was rolled back{seen}.{why}{notes} {serve}; `evener canary start {model}` tries again."
                )
            }
        }
    }

    /// An A/A test.
    fn of_itself(&self, age: f64) -> String {
        let name = &self.judged.candidate;
        let seen = self.seen(self.main_check(), age);
        let verdict = if self.memory.failing_since.is_some() {
            let odds = chance(self.evidence());
            format!(
                "The statistics see a difference where there is none, which chance does {odds}."
            )
        } else {
            "The statistics see no difference.".to_owned()
        };
        format!("{name} is compared with itself, request by request at random: {seen}. {verdict}")
    }

    /// "v2 is not receiving traffic: 0 requests in 5 min."
    fn silence(&self, age: f64) -> Option<String> {
        let silent = |side: usize| age - self.memory.last_seen[side].unwrap_or(0.0);
        if silent(0) < SILENT {
            return None;
        }
        let (who, side) = if silent(1) < SILENT {
            (&self.judged.candidate, 0)
        } else {
            (&self.judged.model, usize::from(silent(1) < silent(0)))
        };
        let usable = if self.memory.usable { "" } else { " It has no usable replica." };
        Some(format!(
            "{who} is not receiving traffic: 0 requests in {}.{usable} Nothing is decided without evidence.",
            span(silent(side))
        ))
    }
}
