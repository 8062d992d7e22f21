//! A span, and how OTLP writes it in JSON: ids in hexadecimal, 64-bit numbers as text.
use super::context::{SpanId, TraceId};
use serde::{Serialize, Serializer};
use std::borrow::Cow;

/// One thing that was done within a trace. Times are nanoseconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    pub(super) trace_id: TraceId,
    #[serde(rename = "spanId")]
    pub(super) id: SpanId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parent_span_id: Option<SpanId>,
    /// What `tracestate` said.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) trace_state: String,
    pub(super) flags: u32,
    pub(super) name: String,
    pub(super) kind: SpanKind,
    #[serde(serialize_with = "as_text")]
    pub(super) start_time_unix_nano: u64,
    #[serde(serialize_with = "as_text")]
    pub(super) end_time_unix_nano: u64,
    pub(super) attributes: Vec<Attribute>,
    pub(super) status: Status,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpanKind {
    /// Evener's own doing.
    Internal = 1,
    /// A client is answered.
    Server = 2,
    /// A replica is asked.
    Client = 3,
}

/// `None`: no error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status(pub(super) Option<String>);

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Attribute {
    pub(super) key: Cow<'static, str>,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) enum Value {
    #[serde(rename = "stringValue")]
    Text(String),
    #[serde(rename = "intValue", serialize_with = "as_text")]
    Whole(u64),
    #[serde(rename = "boolValue")]
    Flag(bool),
}

impl Attribute {
    pub(super) fn text(key: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        Self { key: key.into(), value: Value::Text(value.into()) }
    }

    pub(super) fn whole(key: &'static str, value: impl Into<u64>) -> Self {
        Self { key: key.into(), value: Value::Whole(value.into()) }
    }

    pub(super) fn flag(key: &'static str, value: bool) -> Self {
        Self { key: key.into(), value: Value::Flag(value) }
    }
}

/// The body of a request to a collector (`ExportTraceServiceRequest`).
pub(super) fn export_body(resource: &[Attribute], spans: &[Span]) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Export<'a> {
        resource_spans: [OfResource<'a>; 1],
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct OfResource<'a> {
        resource: Resource<'a>,
        scope_spans: [OfScope<'a>; 1],
    }
    #[derive(Serialize)]
    struct Resource<'a> {
        attributes: &'a [Attribute],
    }
    #[derive(Serialize)]
    struct OfScope<'a> {
        scope: Scope,
        spans: &'a [Span],
    }
    #[derive(Serialize)]
    struct Scope {
        name: &'static str,
        version: &'static str,
    }
    let scope = Scope { name: "evener", version: env!("CARGO_PKG_VERSION") };
    let scope_spans = [OfScope { scope, spans }];
    let of_resource = OfResource { resource: Resource { attributes: resource }, scope_spans };
    let export = Export { resource_spans: [of_resource] };
    serde_json::to_string(&export).expect("text and numbers are JSON")
}

impl Serialize for SpanKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*self as u8)
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Written<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            code: Option<u8>,
            #[serde(skip_serializing_if = "Option::is_none")]
            message: Option<&'a str>,
        }
        const ERROR: u8 = 2;
        let message = self.0.as_deref();
        Written { code: message.map(|_| ERROR), message }.serialize(serializer)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn as_text<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value as Json, json};

    #[test]
    fn a_span_is_written_as_the_specification_of_otlp_shows_it() {
        let span = Span {
            trace_id: TraceId::new(0x5b8e_fff7_9803_8103_d269_b633_813f_c60c),
            id: SpanId::new(0xeee1_9b7e_c3c1_b174),
            parent_span_id: Some(SpanId::new(0xeee1_9b7e_c3c1_b173)),
            trace_state: String::new(),
            flags: 257,
            name: "I'm a server span".to_owned(),
            kind: SpanKind::Server,
            start_time_unix_nano: 1_544_712_660_000_000_000,
            end_time_unix_nano: 1_544_712_661_000_000_000,
            attributes: vec![
                Attribute::text("my.span.attr", "some value"),
                Attribute::whole("n", 5_u64),
                Attribute::flag("yes", true),
            ],
            status: Status(Some("502".to_owned())),
        };
        let body = export_body(&[Attribute::text("service.name", "my.service")], &[span]);
        let body: Json = serde_json::from_str(&body).unwrap();
        let resource = &body["resourceSpans"][0];
        let named = json!([{"key": "service.name", "value": {"stringValue": "my.service"}}]);
        assert_eq!(resource["resource"]["attributes"], named);
        assert_eq!(
            resource["scopeSpans"][0]["spans"][0],
            json!({
                "traceId": "5b8efff798038103d269b633813fc60c",
                "spanId": "eee19b7ec3c1b174",
                "parentSpanId": "eee19b7ec3c1b173",
                "flags": 257,
                "name": "I'm a server span",
                "kind": 2,
                "startTimeUnixNano": "1544712660000000000",
                "endTimeUnixNano": "1544712661000000000",
                "attributes": [
                    {"key": "my.span.attr", "value": {"stringValue": "some value"}},
                    {"key": "n", "value": {"intValue": "5"}},
                    {"key": "yes", "value": {"boolValue": true}},
                ],
                "status": {"code": 2, "message": "502"},
            })
        );
    }
}
