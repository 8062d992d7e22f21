//! What a canary learns of a request: its side, and how its first attempt ended.
use super::exchange::Exchange;
use super::pick::{Choice, Wish};
use crate::canary::{Arm, Ended, Finding, Observation};
use crate::dialect::{Output, OutputProblem};
use crate::health::{Class, Outcome};
use crate::table::Model;

/// A request that a canary learns from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Witness {
    arm: Arm,
    /// Requests that its replica had already; of one that may carry twice what the lightest does, half of them.
    beside: u32,
}

impl Exchange<'_> {
    /// Notes the side of a request that a canary judges. Pinned ones say nothing: their version was chosen for a
    /// reason. One whose version had nothing usable is an error of that version, whoever serves it.
    pub(super) fn assign(&mut self, model: &Model, wish: Wish<'_>, choice: Choice<'_>) {
        if !model.state.seen.is_open() || wish.pinned.is_some() {
            return;
        }
        let Some(plan) = &model.plan.canary else { return };
        let owner = &model.versions[model.segments.version(wish.point)];
        let arm = if *owner.name == *plan.candidate { Arm::Candidate } else { Arm::Stable };
        if owner.index == choice.version.index {
            let member = choice.member;
            let beside = member.replica.in_flight() as f32 * model.lightest / member.weight;
            self.witness = Some(Witness { arm, beside: beside as u32 });
        } else {
            model.state.seen.add(Observation::of(arm, true, self.record.began));
        }
    }

    /// Hands on how the first attempt ended, once. Later ones speak of whoever they were sent to.
    pub(super) fn testify(&mut self, outcome: &Outcome, output: Option<Output>, ended: Ended) {
        let Some(Witness { arm, beside }) = self.witness.take() else { return };
        let Some(model) = self.record.model.as_ref().filter(|_| !outcome.tunnel) else { return };
        let (error, client_error) = match outcome.class {
            Class::Success => (false, false),
            Class::ClientError => (false, true),
            Class::ServerError
            | Class::Overloaded
            | Class::Timeout
            | Class::ConnectFailure
            | Class::Reset => (true, false),
            Class::Cancelled if ended != Ended::Seen => (false, false),
            // Neither side's doing.
            Class::Cancelled | Class::Refused => return,
        };
        let good = !error && !client_error;
        let timed = good && !self.record.converses;
        let output = output.filter(|output| good && output.judged);
        model.state.seen.add(Observation {
            client_error,
            ended,
            beside,
            bad_output: output.map(finding),
            tokens: output.and_then(|output| output.tokens),
            latency: timed.then_some(outcome.latency),
            first_byte: outcome.first_byte.filter(|_| timed),
            ..Observation::of(arm, error, self.record.began)
        });
    }
}

fn finding(output: Output) -> Finding {
    match output.problem {
        None => Finding::Good,
        Some(OutputProblem::Truncated) => Finding::Truncated,
        Some(OutputProblem::Empty) => Finding::Empty,
        Some(OutputProblem::JsonInvalid) => Finding::JsonInvalid,
        Some(OutputProblem::Unexpected) => Finding::Unexpected,
        Some(OutputProblem::Matches) => Finding::Matches,
    }
}
