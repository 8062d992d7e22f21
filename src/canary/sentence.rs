//! What a canary says of itself: where it stands, what was seen, how sure that is, and what happens next.
use super::metric::{Finding, Metric};
use super::rollout::{Ending, RollOut, State};
use super::view::{Count, loudest};
use super::words::{chance, grouped, percent, some, span};
use crate::stats::Moment;

/// A side that was not asked for so long, in seconds, is said to get nothing.
const SILENT: f64 = 60.0;
/// Clients that left are spoken of from so many on, and from this part of all.
const MANY: u64 = 10;
const PART: f64 = 0.05;

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
            return format!(
                "{candidate} has {share}, but no usable replica yet; it is judged from {warmup} after its first one."
            );
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
        let next = if state == State::Passing {
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

    /// What is still needed, and how long that takes.
    fn missing(&self, age: f64) -> String {
        let unread = self.memory.proofs.iter().zip(&self.plan.checks).find(|(proof, check)| {
            self.memory.samples > 200
                && proof.on_step == 0
                && !matches!(check.metric, Metric::Errors)
                && !proof.is_passed_over(check)
        });
        if let Some((_, check)) = unread {
            return format!("no request has told anything of {} yet.", check.metric.name());
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
                "{candidate} failed in a burst: {seen}. It is kept at {} for a while before it goes on.",
                percent(self.memory.share)
            );
        }
        let kept = if self.memory.share < self.step_share() {
            let share = percent(self.memory.share);
            format!("It is kept at {share} until it is clear that this was no burst.")
        } else {
            "It does not advance until it is clear whether this was a burst.".to_owned()
        };
        format!("{candidate} fails: {}. {kept}", self.seen_against(age))
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
        format!(
            "{candidate} is paused at {} {because}. {}. `evener canary resume {model}` goes on.",
            percent(self.memory.share),
            capital(&self.seen(self.main_check(), age))
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
                let unread = self.unread();
                format!("{candidate} was promoted{seen}.{why} It serves all of {model}.{unread}")
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
                format!(
                    "{candidate} was rolled back{seen}.{why} {serve}; `evener canary start {model}` tries again."
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

    fn notes(&self) -> String {
        let at = self.at();
        let slow = if self.plan.checks.iter().any(|check| at.is_unfair_to(check)) {
            let (candidate, stable) = (&self.judged.candidate, &self.stable);
            format!(
                " Latency is not comparable: {candidate} has too few replicas, each is given more than those of {stable}."
            )
        } else {
            String::new()
        };
        let usable = if self.memory.usable {
            ""
        } else {
            " It has no usable replica now: what it misses counts as errors."
        };
        format!("{slow}{usable}{}{}", self.cancelled(), self.unread())
    }

    /// Where clients leave the candidate much more often than the others, it is slow or hangs.
    fn cancelled(&self) -> String {
        let count = |side: usize| {
            let (hits, requests) = (self.memory.cancelled[side], self.memory.requests[side]);
            Count { hits, requests }
        };
        let (own, theirs) = (count(0), count(1));
        let (rate, usual) = (own.rate().unwrap_or_default(), theirs.rate().unwrap_or_default());
        if own.hits < MANY || rate < PART || rate < 2.0 * usual {
            return String::new();
        }
        format!(
            " Clients left {} of its {} requests before their end, and {} of {} of {}.",
            grouped(own.hits),
            grouped(own.requests),
            grouped(theirs.hits),
            grouped(theirs.requests),
            self.stable
        )
    }

    fn unread(&self) -> &'static str {
        let mut each = self.memory.proofs.iter().zip(&self.plan.checks);
        if each.any(|(proof, check)| self.is_unread(proof, check)) {
            " No answer can be read (binary or compressed): bad_output is not checked."
        } else {
            ""
        }
    }

    fn counted(&self) -> Count {
        self.memory.proofs.first().map_or(Count::default(), |proof| proof.counts().0)
    }

    /// The check that tells most while nothing is wrong.
    fn main_check(&self) -> usize {
        self.plan.checks.iter().position(|check| check.metric == Metric::Errors).unwrap_or(0)
    }

    /// The check that speaks loudest against it, with how sure that is.
    fn seen_against(&self, age: f64) -> String {
        let check = loudest(&self.memory.proofs, &self.weights).unwrap_or(0);
        let odds = chance(self.evidence());
        format!("{}; would be seen by chance {odds}", self.seen(check, age))
    }

    /// Both counts, both rates, and the time.
    fn seen(&self, check: usize, age: f64) -> String {
        let (candidate, stable) = self.memory.proofs[check].counts();
        let metric = &self.plan.checks[check].metric;
        let rate = |count: Count| {
            count.rate().map_or(String::new(), |rate| format!(" ({})", percent(rate)))
        };
        let of = |count: Count| format!("{} of {}", grouped(count.hits), grouped(count.requests));
        let other = if self.plan.aa { "the other half" } else { &self.stable };
        let own = format!("{} requests", of(candidate));
        let rated = match (rate(candidate), flaw_words(self.memory.proofs[check].flaws())) {
            (rated, None) => rated,
            (_, Some(flaws)) => {
                format!(" ({}: {flaws})", percent(candidate.rate().unwrap_or_default()))
            }
        };
        let theirs = format!("{}{}", of(stable), rate(stable));
        let from = self.memory.evidence_since.max(self.judged_from().unwrap_or(age));
        let took = span(age - from);
        let times = self.plan.checks[check].at_most.times;
        let what = match metric {
            Metric::Errors => "errors in",
            Metric::ClientErrors => "client errors in",
            Metric::Cancelled => "clients left before any answer in",
            Metric::BadOutput(_) => "bad output in",
            Metric::Latency(_) | Metric::FirstByte(_) | Metric::OutputTokens => {
                let name = metric.name();
                return format!(
                    "{own} above {times} times the {name} of {other}{rated}, whose own are above it in {theirs}, in {took}"
                );
            }
        };
        format!("{what} {own}{rated}, {other} in {theirs}, in {took}")
    }
}

fn flaw_words(flaws: impl Iterator<Item = (Finding, u64)>) -> Option<String> {
    let words: Vec<String> =
        flaws.map(|(found, count)| format!("{} {}", grouped(count), found.words())).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}
