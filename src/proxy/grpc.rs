//! gRPC on its way out: refusals as statuses, ends of broken calls, and the calls that Evener answers itself.
use super::body::Need;
use super::exchange::{End, Exchange};
use super::head::Framing;
use super::limits::whole_seconds;
use super::shared::{Phase, draining};
use crate::dialect::RefusalCode;
use crate::dialect::grpc::{
    Frame, GrpcStatus, LocalCall, escape_message, frame, grpc_status_of_http, is_grpc, name_in,
    next_frame, put_bytes, put_varint,
};
use crate::flow::{Happened, Refusal, Stop};
use crate::health::Class;
use crate::table::Table;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::HttpSession as Http2;
use pingora_error::Result;
use pingora_http::ResponseHeader;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// What a health check may send: a name.
const QUESTION: u64 = 4 << 10;
/// How often a watched state is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// `grpc.health.v1.HealthCheckResponse.ServingStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Serving {
    Yes = 1,
    No = 2,
    Unknown = 3,
}

impl Exchange<'_> {
    /// Answers a call with a refusal: a head that ends it.
    pub(super) fn refuse_call(&mut self, refusal: &Refusal) -> End {
        let status = grpc_status_of_http(refusal.code.status());
        self.record.course.note(Happened::Told { code: status.code() });
        let Some(head) = self.refusal_head(refusal, status) else { return End::Cut };
        match self.http2().map(|http2| http2.write_response_header(Box::new(head), true)) {
            Some(Ok(())) => End::Keep,
            Some(Err(_)) | None => End::Cut,
        }
    }

    fn refusal_head(&self, refusal: &Refusal, status: GrpcStatus) -> Option<ResponseHeader> {
        let mut head = grpc_head()?;
        for (name, value) in ending(status, &refusal.message, refusal.code) {
            head.insert_header(name, value).ok()?;
        }
        let usual = refusal.code.retry_after().map(|seconds| Duration::from_secs(seconds.into()));
        if let Some(wait) = refusal.wait.or(usual) {
            head.insert_header("retry-after", whole_seconds(wait).to_string()).ok()?;
            // gRPC's own way to say it (proposal A6).
            let millis = wait.as_nanos().div_ceil(1_000_000).to_string();
            head.insert_header("grpc-retry-pushback-ms", millis).ok()?;
        }
        if !self.record.request_id.is_empty() {
            head.insert_header("x-request-id", &self.record.request_id).ok()?;
        }
        self.add_limits(&mut head).ok()?;
        if self.record.is_test {
            self.add_debug_headers(&mut head).ok()?;
        }
        Some(head)
    }

    /// Ends a call whose answer has begun: by trailers, or else so that the client notices.
    pub(super) fn end_call(&mut self, code: RefusalCode, message: &str) -> End {
        let written = self.session.response_written();
        let kind = written.and_then(|head| head.headers.get(header::CONTENT_TYPE));
        if !(self.is_call() && kind.is_some_and(|kind| is_grpc(kind.as_bytes()))) {
            return End::Cut;
        }
        let status = grpc_status_of_http(code.status());
        let mut trailers = HeaderMap::new();
        for (name, value) in ending(status, message, code) {
            trailers.insert(name, value);
        }
        match self.http2().map(|http2| http2.write_trailers(trailers)) {
            Some(Ok(())) => {
                let status = Some(status.code());
                self.record.course.note(Happened::Broke { error: code, code: status });
                End::Close
            }
            Some(Err(_)) | None => End::Cut,
        }
    }

    /// Answers a call that asks about Evener.
    pub(super) async fn answer_call(
        &mut self,
        local: LocalCall,
        framing: Framing,
        table: &Table,
    ) -> Result<End, Stop> {
        let yes = |yes: bool| number(u64::from(yes));
        let answer = match local {
            LocalCall::ServerLive => yes(true),
            LocalCall::ServerReady => yes(self.proxy.ready()),
            LocalCall::ServerMetadata => {
                self.admit(table)?;
                let mut metadata = Vec::new();
                put_bytes(&mut metadata, 1, b"evener");
                put_bytes(&mut metadata, 2, env!("CARGO_PKG_VERSION").as_bytes());
                metadata
            }
            LocalCall::HealthCheck => {
                let name = self.asked_for(framing, table).await?;
                match self.serving(&name, table) {
                    Serving::Unknown => {
                        let message = format!("there is no model `{name}`");
                        return Err(Refusal::new(RefusalCode::ModelNotFound, message).into());
                    }
                    known @ (Serving::Yes | Serving::No) => number(known as u64),
                }
            }
            LocalCall::HealthWatch => {
                let name = self.asked_for(framing, table).await?;
                return Ok(self.watch(&name).await);
            }
        };
        let (code, class) = (GrpcStatus::OK.code(), Class::Success);
        self.record.course.note(Happened::Answers { code, class });
        let limit = self.listener.client.write_timeout;
        let told = timeout(limit, self.tell(&answer)).await;
        Ok(if matches!(told, Ok(Some(()))) { End::Keep } else { End::Cut })
    }

    /// The name in a health check. Who asks about a model needs a key, as for the model.
    async fn asked_for(&mut self, framing: Framing, table: &Table) -> Result<String, Stop> {
        let body = self.read_body(framing, Need::Whole(QUESTION), table.longest_total).await?;
        let name = match next_frame(body.read_so_far()) {
            Ok((Frame::Message { compressed: false, message }, _)) => name_in(message, &[1]).ok(),
            Ok(_) | Err(_) => None,
        };
        let message = "this is no `grpc.health.v1.HealthCheckRequest`";
        let name = name.ok_or_else(|| Refusal::new(RefusalCode::BadRequest, message))?;
        let name = name.unwrap_or_default().to_owned();
        if !name.is_empty() {
            self.admit(table)?;
        }
        Ok(name)
    }

    /// Is Evener there, or, by its name, a model?
    fn serving(&self, name: &str, table: &Table) -> Serving {
        let up = self.proxy.ready();
        let known = table.model(name);
        let known = known.filter(|model| self.key().is_none_or(|key| key.may_use(&model.name)));
        let serves = match known {
            _ if name.is_empty() => up,
            None => return Serving::Unknown,
            Some(model) => up && model.versions.iter().any(|version| version.any_usable(&[])),
        };
        if serves { Serving::Yes } else { Serving::No }
    }

    /// Tells a client how it stands with a name, and again whenever that changes, until it leaves.
    async fn watch(&mut self, name: &str) -> End {
        let limit = self.listener.client.write_timeout;
        let mut phase = self.proxy.watch_phase();
        let mut told = None;
        loop {
            let table = self.proxy.current.load_full();
            let serving = self.serving(name, &table);
            drop(table);
            if told != Some(serving) {
                let answer = number(serving as u64);
                match timeout(limit, self.say(&answer)).await {
                    Ok(Some(())) => told = Some(serving),
                    Ok(None) | Err(_) => return End::Cut,
                }
            }
            if self.proxy.phase() >= Phase::Draining {
                return self.end_call(RefusalCode::ShuttingDown, "Evener is shutting down");
            }
            tokio::select! { biased;
                _ = self.session.read_body_or_idle(true) => return End::Cut,
                () = draining(&mut phase) => {}
                () = sleep(LOOK) => {}
            }
        }
    }

    /// One answer, and the end of the call.
    async fn tell(&mut self, answer: &[u8]) -> Option<()> {
        self.say(answer).await?;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        self.http2()?.write_trailers(trailers).ok()
    }

    /// One answer of a call, after its head if that is still missing.
    async fn say(&mut self, answer: &[u8]) -> Option<()> {
        if self.session.response_written().is_none() {
            let mut head = grpc_head()?;
            head.insert_header("x-request-id", &self.record.request_id).ok()?;
            self.http2()?.write_response_header(Box::new(head), false).ok()?;
        }
        let framed = Bytes::from(frame(answer));
        self.record.course.note(Happened::Passed(framed.len() as u64));
        self.http2()?.write_body(framed, false).await.ok()
    }

    fn http2(&mut self) -> Option<&mut Http2> {
        match &mut *self.session {
            ServerSession::H2(http2) => Some(http2),
            ServerSession::H1(_) | ServerSession::Subrequest(_) | ServerSession::Custom(_) => None,
        }
    }
}

fn grpc_head() -> Option<ResponseHeader> {
    let mut head = ResponseHeader::build(200, Some(8)).ok()?;
    head.insert_header(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc")).ok()?;
    Some(head)
}

/// How a call ends that Evener refuses.
fn ending(
    status: GrpcStatus,
    message: &str,
    code: RefusalCode,
) -> impl Iterator<Item = (&'static str, HeaderValue)> {
    let message = HeaderValue::try_from(escape_message(message)).ok();
    [
        Some(("grpc-status", HeaderValue::from(status.number()))),
        message.map(|message| ("grpc-message", message)),
        Some(("x-evener-error", HeaderValue::from_static(code.name()))),
    ]
    .into_iter()
    .flatten()
}

/// A message whose field 1 is a number, a flag or one of a few.
fn number(value: u64) -> Vec<u8> {
    let mut message = Vec::new();
    put_varint(&mut message, 1 << 3);
    put_varint(&mut message, value);
    message
}
