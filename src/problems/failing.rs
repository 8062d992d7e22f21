//! Do the requests of a model fail? Judged by what ended lately, so that neither chance nor a wavering rate flickers.
//!
//! Three looks back: the last 10 s or 3 requests show a sudden failure, the last 5 minutes or 20 requests show that it
//! matters, and the last minute, or as many requests as prove that it is over, show whether it goes on. (After the
//! pairs of windows of "The Site Reliability Workbook", chapter 5.)
use super::facts::Outcomes;
use crate::health::Class;
use crate::stats::Moment;
use std::collections::VecDeque;
use std::time::Duration;

const SUDDEN: (Duration, u64) = (Duration::from_secs(10), 3);
const LONG: (Duration, u64) = (Duration::from_mins(5), 20);
const MINUTE: (Duration, u64) = (Duration::from_mins(1), 20);
/// Failures that are no longer a chance.
const SEVERAL: u64 = 3;
/// Requests that ended before this say nothing of now.
const OLD: Duration = Duration::from_hours(1);
/// It is over when half as many fail as it began with, among so many that this many failures were to be expected: by
/// chance that is so in 2 of 100 looks.
const EXPECTED: f64 = 12.0;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Grade {
    /// A few fail.
    Some,
    /// Too many do.
    Many,
}

/// When it is so bad, and when it no longer is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Terms {
    /// Fraction of requests from which [`Grade::Some`] and [`Grade::Many`] begin. They end at half of it.
    pub(super) some: f64,
    pub(super) many: f64,
    /// Failures without which it is not [`Grade::Some`].
    pub(super) least: u64,
}

/// Of clients' requests.
pub(super) const REQUESTS: Terms = Terms { some: 0.01, many: 0.05, least: 10 };
/// Of mirrored ones, which hurt nobody.
pub(super) const COPIES: Terms = Terms { some: 0.5, many: 0.5, least: 3 };

#[derive(Clone, Copy, Debug)]
struct Slot {
    at: Moment,
    good: u32,
    failed: u32,
    /// The commonest of its failures.
    kind: Class,
}

/// What ended in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Part {
    pub(super) good: u64,
    pub(super) failed: u64,
    /// The time, if all of it fits; `None`: it is the last requests, however old.
    pub(super) span: Option<Duration>,
}

impl Part {
    pub(super) fn all(&self) -> u64 {
        self.good + self.failed
    }

    pub(super) fn rate(&self) -> f64 {
        if self.all() == 0 { 0.0 } else { self.failed as f64 / self.all() as f64 }
    }
}

/// What is said of requests that fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Verdict {
    pub(super) grade: Grade,
    /// What tells it best.
    pub(super) seen: Part,
    /// How most of them failed.
    pub(super) kind: Class,
}

/// The recent endings of one model or version, and what was last said of them.
#[derive(Debug)]
pub(super) struct Failing {
    terms: Terms,
    before: Option<Outcomes>,
    slots: VecDeque<Slot>,
    grade: Option<Grade>,
    /// The highest rate of [`LONG`] since it began.
    worst: f64,
}

impl Failing {
    pub(super) fn new(terms: Terms) -> Self {
        Self { terms, before: None, slots: VecDeque::new(), grade: None, worst: 0.0 }
    }

    /// Looks at counts that rise; about once a second. What they had before the first look is not known to be recent.
    pub(super) fn look(&mut self, counts: &Outcomes, now: Moment) -> Option<Verdict> {
        let new = counts.since(&self.before.replace(*counts).unwrap_or(*counts));
        if new.good + new.failures() > 0 {
            let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
            let kind = new.commonest().unwrap_or(Class::Success);
            let (good, failed) = (small(new.good), small(new.failures()));
            self.slots.push_back(Slot { at: now, good, failed, kind });
        }
        self.forget(now);
        self.grade = self.judge(now);
        let grade = self.grade?;
        Some(Verdict { grade, seen: self.telling(now), kind: self.commonest(now) })
    }

    fn forget(&mut self, now: Moment) {
        let mut kept: u64 =
            self.slots.iter().map(|s| u64::from(s.good) + u64::from(s.failed)).sum();
        while let Some(oldest) = self.slots.front() {
            let (age, n) =
                (now.since(oldest.at), u64::from(oldest.good) + u64::from(oldest.failed));
            if age < LONG.0 || (age <= OLD && kept - n < LONG.1) {
                break;
            }
            kept -= n;
            self.slots.pop_front();
        }
    }

    /// What ended within `span`, or the last `least` requests, whichever is more.
    fn over(&self, (span, least): (Duration, u64), now: Moment) -> Part {
        let mut part = Part { span: Some(span), ..Part::default() };
        for slot in self.slots.iter().rev() {
            if now.since(slot.at) >= span {
                if part.all() >= least {
                    break;
                }
                part.span = None;
            }
            part.good += u64::from(slot.good);
            part.failed += u64::from(slot.failed);
        }
        part
    }

    fn judge(&mut self, now: Moment) -> Option<Grade> {
        let (sudden, long) = (self.over(SUDDEN, now), self.over(LONG, now));
        self.worst = if self.grade.is_some() { self.worst.max(long.rate()) } else { 0.0 };
        if sudden.failed >= SEVERAL && sudden.rate() >= self.terms.many.max(0.5) {
            return Some(Grade::Many);
        }
        // Nothing is known to work.
        if long.good == 0 && long.failed > 0 {
            return Some(Grade::Many);
        }
        let is_many = self.grade == Some(Grade::Many);
        if long.failed >= SEVERAL && self.is_so(self.terms.many, is_many, now) {
            return Some(Grade::Many);
        }
        let least = if self.grade.is_some() { SEVERAL } else { self.terms.least };
        let some = long.failed >= least && self.is_so(self.terms.some, self.grade.is_some(), now);
        some.then_some(Grade::Some)
    }

    /// Do as many fail as `from`; `was`: as they did a moment ago?
    fn is_so(&self, from: f64, was: bool, now: Moment) -> bool {
        if was {
            let enough = (EXPECTED / from.max(self.worst / 2.0)).ceil() as u64;
            let lately = self.over((MINUTE.0, MINUTE.1.max(enough)), now);
            return lately.rate() >= from / 2.0;
        }
        self.over(LONG, now).rate() >= from && self.over(MINUTE, now).rate() >= from
    }

    /// The highest of the rates, of enough requests to be said.
    fn telling(&self, now: Moment) -> Part {
        let sudden = self.over(SUDDEN, now);
        let long = self.over(LONG, now);
        let minute = self.over(MINUTE, now);
        let parts = [(sudden, 10), (minute, 10), (long, 0)];
        let told = parts.into_iter().filter(|(part, least)| part.all() >= *least);
        // Of equal ones the last, which is of more requests.
        told.map(|(part, _)| part).max_by(|a, b| a.rate().total_cmp(&b.rate())).unwrap_or(long)
    }

    fn commonest(&self, now: Moment) -> Class {
        let mut kinds = [0_u64; Class::ALL.len()];
        for slot in self.slots.iter().filter(|slot| now.since(slot.at) < LONG.0) {
            kinds[slot.kind as usize] += u64::from(slot.failed);
        }
        let last = || self.slots.iter().rev().find(|slot| slot.failed > 0).map(|slot| slot.kind);
        let most =
            Class::ALL.into_iter().zip(kinds).filter(|(_, n)| *n > 0).max_by_key(|(_, n)| *n);
        most.map(|(class, _)| class).or_else(last).unwrap_or(Class::ServerError)
    }
}

#[cfg(test)]
mod tests;
