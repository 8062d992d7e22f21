//! What a canary learns of a request: its side, and how its first attempt went.
use super::body::Body;
use super::exchange::Exchange;
use super::placed::Placed;
use super::request::text;
use super::witness::Witness;
use crate::balance::hash_point;
use crate::canary::{Arm, Ended, Finding, Observation, Open, client_of_address, client_of_key};
use crate::dialect::{Output, OutputProblem, PathKind, conversation, prompt};
use crate::fleet::Ticket;
use crate::health::{Class, Outcome};
use crate::table::{Choice, Model, Wish};
use http::Method;
use std::net::IpAddr;
use std::sync::Arc;

/// A stream of fewer tokens says nothing of their speed.
const FEW_TOKENS: u64 = 10;

impl Exchange<'_> {
    /// Notes the side of a request that a canary judges. Pinned ones say nothing: their version was chosen for a
    /// reason. One whose version had nothing usable is an error of that version, whoever serves it.
    pub(super) fn note_side(&mut self, placed: &Placed<'_>, wish: Wish<'_>, choice: Choice<'_>) {
        let model = placed.model;
        if !model.state.seen.is_open() || wish.pinned.is_some() {
            return;
        }
        let Some(plan) = &model.plan.canary else { return };
        let owner = &model.versions[model.segments.version(wish.point)];
        let arm = if *owner.name == *plan.candidate { Arm::Candidate } else { Arm::Stable };
        let served = owner.index == choice.version.index;
        let member = choice.member;
        let beside = member.replica.in_flight() as f32 * model.lightest / member.weight;
        let body = placed.body.read_so_far();
        let open = Open {
            id: 0,
            arm,
            // What its client took to send it is nobody's time.
            began: self.proxy.now(),
            key: wish.key,
            client: Some(self.client_tag()),
            // Its place in memory is its own.
            replica: Arc::as_ptr(&member.replica).addr() as u64,
            beside: beside as u32,
            prefix: (plan.reads_prompts() && self.row.kind == PathKind::Llm && self.generates())
                .then(|| conversation(body))
                .flatten(),
            first_byte: None,
            silent: None,
        };
        if served {
            // One that its client still sends may wait for that.
            let waits = matches!(placed.body, Body::Whole(..)) && !self.record.course.converses();
            let ticket = waits.then(|| model.state.under_way.begin(&open));
            let open = Open { id: ticket.as_ref().map_or(0, Ticket::id), ..open };
            let (answered, silent_since, gap, body) = (false, None, None, body.clone());
            self.witness = Some(Witness { open, ticket, answered, silent_since, gap, body });
        } else {
            self.failed_side = Some(arm);
            let missed = Observation::of(arm, true, open.began);
            model.state.seen.add(Observation { key: open.key, client: open.client, ..missed });
        }
    }

    /// Whose request it is: of an API key, else of an address. Whoever has one address of IPv6 has its whole /64.
    fn client_tag(&self) -> u64 {
        match (self.key(), self.client_ip) {
            (Some(key), _) => client_of_key(hash_point("key", key.name.as_bytes())),
            (None, IpAddr::V4(ip)) => client_of_address(hash_point("address", &ip.octets())),
            (None, IpAddr::V6(ip)) => client_of_address(hash_point("address", &ip.octets()[..8])),
        }
    }

    /// Hands on how the first attempt ended, once. Later ones speak of whoever they were sent to.
    pub(super) fn testify(&mut self, outcome: &Outcome, output: Option<Output>, ended: Ended) {
        let Some(witness) = self.witness.take() else { return };
        let Some(model) = self.record.model.as_ref().filter(|_| !outcome.tunnel) else { return };
        let (error, client_error) = match outcome.class {
            // A client that posts wants an answer, and no other address.
            Class::Success => (false, self.is_redirected()),
            Class::ClientError => (false, true),
            _ if ended != Ended::Seen => (false, false),
            Class::ServerError
            | Class::Overloaded
            | Class::Timeout
            | Class::ConnectFailure
            | Class::Reset => (true, false),
            // Neither side's doing.
            Class::Cancelled | Class::Refused => return,
        };
        let open = witness.open;
        self.failed_side = error.then_some(open.arm);
        let good = !error && !client_error;
        let timed = good && !self.record.course.converses();
        let output = output.filter(|output| good && output.judged);
        let streams = timed && self.stream.is_some();
        let whole = streams && ended == Ended::Seen;
        let silence = witness.silent_since.map(|since| self.proxy.now().since(since));
        // Of one that its client left, the last silence lasts.
        let gap = if ended == Ended::Seen { witness.gap } else { witness.gap.max(silence) };
        model.state.seen.add(Observation {
            ended,
            id: open.id,
            key: open.key,
            client: open.client,
            replica: open.replica,
            beside: open.beside,
            client_error,
            bad_output: output.and_then(|output| self.finding(output, &witness.body)),
            latency: timed.then_some(outcome.latency),
            first_byte: outcome.first_byte.filter(|_| timed),
            chunk_gap: gap.filter(|_| streams),
            tokens_per_second: if whole { self.pace_of(outcome) } else { None },
            tokens: output.and_then(|output| output.tokens),
            prefix: open.prefix,
            cached: output.and_then(|output| output.cached),
            ..Observation::of(open.arm, error, open.began)
        });
    }

    /// Did it end well for its client, although the first attempt failed?
    pub(super) fn note_rescue(&mut self, model: &Model) {
        let hidden = self.record.course.went_well();
        if let Some(arm) = self.failed_side.take().filter(|_| hidden) {
            model.state.note_rescued(arm);
        }
    }

    fn is_redirected(&self) -> bool {
        let code = self.record.course.code();
        (300..400).contains(&code)
            && code != 304
            && self.session.req_header().method == Method::POST
    }

    /// Tokens a second after the first byte, of a stream that has ended.
    fn pace_of(&self, outcome: &Outcome) -> Option<f32> {
        let told = self.record.usage.as_ref().and_then(|scan| scan.usage().completion);
        let tokens = told.or_else(|| self.stream.as_ref().map(|stream| stream.pieces()))?;
        let took = outcome.latency.saturating_sub(outcome.first_byte?).as_secs_f64();
        (tokens >= FEW_TOKENS && took > 0.0).then(|| ((tokens - 1) as f64 / took) as f32)
    }

    /// What was wrong with an answer. `None`: nobody can tell, because the request itself set a limit at which it ended.
    fn finding(&self, output: Output, body: &[u8]) -> Option<Finding> {
        Some(match output.problem {
            None => Finding::Good,
            Some(OutputProblem::Truncated) if output.limited && self.asked_for_a_limit(body) => {
                return None;
            }
            Some(OutputProblem::Truncated) => Finding::Truncated,
            Some(OutputProblem::Reported) => Finding::Reported,
            Some(OutputProblem::Shapeless) => Finding::Shapeless,
            Some(OutputProblem::Empty) => Finding::Empty,
            Some(OutputProblem::JsonInvalid) => Finding::JsonInvalid,
            Some(OutputProblem::Unexpected) => Finding::Unexpected,
            Some(OutputProblem::Matches) => Finding::Matches,
        })
    }

    fn asked_for_a_limit(&self, body: &[u8]) -> bool {
        let headers = &self.session.req_header().headers;
        let (kind, encoding) = (text(headers, "content-type"), text(headers, "content-encoding"));
        prompt(kind, encoding, body, 0).is_ok_and(|prompt| prompt.bounded > 0)
    }
}
