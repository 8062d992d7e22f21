//! A request's place in its trace, and the span of a copy.
use super::shared::Proxy;
use crate::fleet::{Mirrored, Replica};
use crate::observe::otlp::{Copied, Parent, SpanId, copy_span};
use crate::stats::Moment;
use std::sync::Arc;

/// A request's place in its trace.
#[derive(Debug)]
pub(super) struct Trace {
    /// The client's span, where it named one.
    pub(super) parent: Option<SpanId>,
    /// What is asked on behalf of the request, if no attempt of its own asks.
    pub(super) own: Parent,
    /// What only spans need, and only where they are sent.
    pub(super) told: Option<Box<Told>>,
}

#[derive(Debug)]
pub(super) struct Told {
    pub(super) state: String,
    pub(super) host: String,
    pub(super) route: Option<String>,
}

/// The span of a copy on its way.
#[derive(Debug)]
pub(super) struct CopyTrace {
    pub(super) of: Parent,
    pub(super) method: String,
    pub(super) model: Arc<str>,
    pub(super) version: Arc<str>,
    pub(super) replica: Arc<Replica>,
    pub(super) began: Moment,
}

impl CopyTrace {
    /// Hands over the copy's span.
    pub(super) fn ended(&self, proxy: &Proxy, answer: Result<u16, Mirrored>) {
        let now = proxy.now();
        let copied = Copied {
            of: self.of,
            method: &self.method,
            model: &self.model,
            version: &self.version,
            replica: &self.replica.id.url,
            status: answer.ok(),
            failure: answer.err().map(Mirrored::name),
            began: self.began,
            ended: now,
        };
        proxy.traces.offer(vec![copy_span(&copied, wall_clock(now))], &proxy.meters);
    }
}

/// Nanoseconds since 1970 at moments that are past.
pub(super) fn wall_clock(now: Moment) -> impl Fn(Moment) -> u64 {
    let unix = u64::try_from(crate::observe::stamp().as_nanosecond()).unwrap_or(0);
    move |moment| unix.saturating_sub(now.as_nanos().saturating_sub(moment.as_nanos()))
}
