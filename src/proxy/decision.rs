//! Noting why a request goes where it goes, and telling those who want to know.
use super::exchange::Exchange;
use super::reasons::{Pick, Reasons};
use super::record::{Line, Record};
use crate::health::Class;
use crate::observe::{Assignment, Decision};
use crate::stats::Moment;
use crate::table::{Choice, KeySource, RoutePlan, RouteUsed, Table, Telling, Tier, Wish};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// Replicas that are told of one attempt, the least loaded first: a pool may have thousands.
const TOLD: usize = 32;

#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    line: Line<'a>,
    assignment: Option<Assignment>,
}

impl Exchange<'_> {
    /// Begins to note the reasons of a request, if anybody wants to know them.
    pub(super) fn note_reasons(
        &mut self,
        table: &Table,
        route: Option<&RoutePlan>,
        key: Option<&KeySource>,
        wish: Wish<'_>,
    ) {
        let decisions = &self.proxy.logs.decisions;
        let interest = decisions.interest(self.proxy.now(), super::chance::chance);
        if interest.is_none() && !self.listener.debug_headers {
            return;
        }
        let Some(model) = &self.record.model else { return };
        self.record.reasons = Some(Box::new(Reasons {
            interest,
            generation: table.generation,
            route: route.map(RouteUsed::of),
            key: key.map(ToString::to_string),
            point: wish.point,
            pinned: wish.pinned.is_some() || self.wants_one_replica(),
            model: Arc::clone(model),
            picks: Vec::new(),
        }));
    }

    /// Notes the replicas that an attempt had to choose from, before it is counted among their load.
    pub(super) fn note_candidates(&mut self, choice: Choice<'_>, now: Moment) {
        let Some(reasons) = &mut self.record.reasons else { return };
        let telling = Telling {
            tier: if choice.fail_open { Tier::FailOpen } else { Tier::Usable },
            is_call: self.call.is_some(),
            tried: &self.attempts.tried,
            most: TOLD,
            picked: Some(&choice.member.replica),
        };
        let candidates = choice.version.candidates(&reasons.model.plan, telling, now);
        reasons.picks.push(Pick { began: now, candidates });
    }
}

impl Record {
    /// Tells those who want to know. Of a failure that nobody asked about there is still much to tell.
    pub(super) fn tell(&self, took: Duration, now: Moment) {
        let failed = !(self.course.went_well() || self.course.class() == Class::Cancelled);
        let decisions = &self.proxy.logs.decisions;
        let reasons = self.reasons.as_ref();
        let mut interest = reasons.and_then(|reasons| reasons.interest);
        if failed {
            interest = decisions.interest_in_failure(interest, now);
        }
        let Some(interest) = interest else { return };
        let assignment = reasons.map(|reasons| reasons.assignment());
        let last = self.course.last_attempt(self.began + took);
        let told = Told { line: self.line(took, last.as_ref()), assignment };
        // JSON escapes control characters: a client cannot forge a line.
        let Ok(json) = serde_json::to_string(&told) else { return };
        let model = self.model.as_ref().map(|model| Arc::clone(&model.name));
        let request_id = self.request_id.clone();
        decisions.tell(Decision { request_id, model, failed, took, json }, interest);
    }
}
