//! Traces: what became of a request, as spans for a collector that speaks OTLP.
mod context;
mod outlet;
mod request;
mod sender;
mod span;

pub use context::{Parent, Part, SpanId, TraceId, traceparent};
pub use outlet::Traces;
pub use request::{Copied, Settled, Tried, copy_span, request_spans};
pub use span::Span;
