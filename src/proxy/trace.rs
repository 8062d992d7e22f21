//! The trace that a request belongs to: continued or begun, told to replicas, and handed over when the record settles.
use super::exchange::Exchange;
use super::record::Record;
use super::request::host_of;
use super::span::{CopyTrace, Told, Trace, wall_clock};
use crate::dialect::{UsageScan, masked_query};
use crate::flow::PastAttempt;
use crate::observe::otlp::{
    Parent, Part, Settled, SpanId, TraceId, Tried, request_spans, traceparent,
};
use crate::stats::Moment;
use crate::table::Choice;
use http::{HeaderMap, HeaderValue};
use pingora_error::Result;
use pingora_http::RequestHeader;
use std::sync::Arc;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
/// What the specification asks everybody to pass on; longer ones pass, and are not told to the collector.
const LONGEST_STATE: usize = 512;

impl Exchange<'_> {
    /// Continues the client's trace, or begins one.
    pub(super) fn begin_trace(&mut self) {
        let Some(sample) = self.proxy.traces.sample() else { return };
        let head = self.session.req_header();
        let sent = parent(&head.headers);
        let draw = super::chance::draw;
        let span = SpanId::new(draw());
        let begin = || {
            let trace = TraceId::new((u128::from(draw()) << 64) | u128::from(draw()));
            Parent { trace, span, sampled: trace.is_among(sample), random: true }
        };
        let own = sent.map_or_else(begin, |sent| Parent { span, ..sent });
        let told = own.sampled.then(|| {
            let state = if sent.is_some() { state(&head.headers) } else { String::new() };
            Box::new(Told { state, host: host_of(head).to_owned(), route: None })
        });
        self.record.trace = Some(Trace { parent: sent.map(|sent| sent.span), own, told });
    }

    /// Notes the path of the route that took the request.
    pub(super) fn trace_route(&mut self, path: Option<&impl ToString>) {
        if let Some(told) = self.record.trace.as_mut().and_then(|trace| trace.told.as_mut()) {
            told.route = path.map(ToString::to_string);
        }
    }

    /// Names the span of the attempt under way as the parent of what the replica does.
    pub(super) fn set_trace(&self, head: &mut RequestHeader) -> Result<()> {
        let (Some(trace), Some(began)) = (&self.record.trace, self.record.course.asked_at()) else {
            return Ok(());
        };
        let attempt = Parent { span: trace.own.span.of(Part::Attempt(began)), ..trace.own };
        if trace.parent.is_none() {
            // It belonged to a trace that cannot be continued.
            head.remove_header(TRACESTATE);
        }
        head.insert_header(TRACEPARENT, traceparent(&attempt))
    }

    /// Names a span of its own for a copy, which is no attempt.
    pub(super) fn set_trace_of_copy(&self, head: &mut RequestHeader) -> Result<()> {
        // What a version's `headers` took out stays out.
        let Some(trace) = &self.record.trace else { return Ok(()) };
        if !head.headers.contains_key(TRACEPARENT) {
            return Ok(());
        }
        let copy = Parent { span: trace.own.span.of(Part::Copy), ..trace.own };
        head.insert_header(TRACEPARENT, traceparent(&copy))
    }

    /// What the span of a copy that is now sent will tell, where spans are sent.
    pub(super) fn trace_of_copy(&self, choice: Choice<'_>) -> Option<CopyTrace> {
        let of = self.record.trace.as_ref()?.own;
        let model = self.record.model.as_ref().filter(|_| of.sampled)?;
        Some(CopyTrace {
            of,
            method: self.record.method.clone(),
            model: Arc::clone(&model.name),
            version: Arc::clone(&choice.version.name),
            replica: Arc::clone(&choice.member.replica),
            began: self.proxy.now(),
        })
    }
}

impl Record {
    /// Hands over the spans of a request that is settled.
    pub(super) fn hand_over_spans(&self, now: Moment) {
        let record = self;
        let Some(Trace { parent, own, told: Some(told) }) = &record.trace else { return };
        // Health checks and the like, which Evener answers itself, begin no traces.
        if parent.is_none() && record.model.is_none() && record.course.error().is_none() {
            return;
        }
        let course = &record.course;
        let last = course.last_attempt(now);
        let attempts = course.past().iter().chain(&last).map(tried).collect();
        let query = record.query.as_deref().map(masked_query);
        let settled = Settled {
            trace: own.trace,
            parent: *parent,
            span: own.span,
            random: own.random,
            trace_state: &told.state,
            method: &record.method,
            path: &record.path,
            query: query.as_deref(),
            protocol: record.protocol,
            secure: record.secure,
            host: &told.host,
            client: record.client,
            route: told.route.as_deref(),
            model: record.model.as_ref().map(|model| &*model.name),
            version: course.version().map(|(name, _)| &**name),
            request_id: &record.request_id,
            status: course.code(),
            class: course.class(),
            error: course.error().map(crate::dialect::RefusalCode::name),
            streaming: course.streams(),
            fail_open: course.fail_open(),
            usage: record.usage.as_ref().map(UsageScan::usage).unwrap_or_default(),
            began: record.began,
            ended: now,
            first_byte: course.first_byte(),
            attempts,
        };
        let proxy = &record.proxy;
        proxy.traces.offer(request_spans(&settled, wall_clock(now)), &proxy.meters);
    }
}

fn tried(attempt: &PastAttempt) -> Tried<'_> {
    Tried {
        version: &attempt.version,
        replica: &attempt.replica.id.url,
        status: attempt.code,
        class: attempt.class,
        began: attempt.began,
        ended: attempt.began + attempt.took,
    }
}

/// Whom the client names. Two headers contradict each other: then nobody.
fn parent(headers: &HeaderMap) -> Option<Parent> {
    let mut all = headers.get_all(TRACEPARENT).iter();
    let only = all.next().filter(|_| all.next().is_none())?;
    Parent::read(only.to_str().ok()?)
}

/// All lines of `tracestate` in one.
fn state(headers: &HeaderMap) -> String {
    let lines =
        headers.get_all(TRACESTATE).iter().filter_map(|line: &HeaderValue| line.to_str().ok());
    let state = lines.collect::<Vec<_>>().join(",");
    if state.len() > LONGEST_STATE { String::new() } else { state }
}
