//! Answers that Evener gives itself: refusals in the dialect of the request, and a few pages of its own.
use super::exchange::{End, Exchange};
use super::head::METHODS;
use super::limits::whole_seconds;
use crate::dialect::{
    Dialect, ErrorBody, ErrorText, LIVE_BODY, Local, READY_BODY, RefusalCode, SERVER_BODY,
    UNREADY_BODY, error_body,
};
use crate::flow::{Happened, Refusal};
use crate::health::Class;
use crate::table::Table;
use crate::wire::Conn;
use bytes::Bytes;
use http::{Method, header};
use pingora_http::ResponseHeader;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

impl Exchange<'_> {
    /// Answers with a refusal.
    pub(super) async fn refuse(&mut self, refusal: Refusal) -> End {
        let (error, class) = (refusal.code, refusal.class);
        self.record.course.note(Happened::Refused { error, class });
        // So that the client is told what it has left.
        self.record.settle_limits(self.proxy.now());
        if self.is_call() {
            return self.refuse_call(&refusal);
        }
        let error = ErrorText {
            code: refusal.code.name(),
            status: refusal.code.status(),
            message: &refusal.message,
            param: refusal.param,
            request_id: &self.record.request_id,
        };
        let ErrorBody { content_type, body, header } =
            error_body(self.error_dialect(), self.wants_json, &error);
        let mut extra = vec![("x-evener-error", refusal.code.name().to_owned())];
        extra.extend(header.map(|(name, value)| (name, value.to_owned())));
        let after = refusal.code.retry_after().map(u64::from);
        if let Some(seconds) = refusal.wait.map(whole_seconds).or(after) {
            extra.push(("retry-after", seconds.to_string()));
        }
        if refusal.code == RefusalCode::InvalidApiKey {
            extra.push(("www-authenticate", "Bearer".to_owned()));
        }
        if refusal.code == RefusalCode::MethodNotAllowed {
            extra.push(("allow", METHODS.join(", ")));
        }
        let confused = is_confused(refusal.code);
        if confused {
            self.session.set_keepalive(None);
        }
        let end = self.send(refusal.code.status(), content_type, body, &extra).await;
        if confused && end == End::Keep { End::Linger } else { end }
    }

    /// Answers what the data port answers itself.
    pub(super) async fn answer_local(&mut self, local: Local, table: &Table) -> End {
        let serving = self.proxy.ready();
        let (status, body) = match local {
            Local::OpenAiModels | Local::OpenAiModel => (200, self.list_models(table)),
            Local::Metrics => return self.refuse(Self::no_metrics()).await,
            Local::V2Server => (200, Bytes::from_static(SERVER_BODY.as_bytes())),
            Local::V2Live => (200, Bytes::from_static(LIVE_BODY.as_bytes())),
            Local::V2Ready if serving => (200, Bytes::from_static(READY_BODY.as_bytes())),
            Local::V2Ready => (503, Bytes::from_static(UNREADY_BODY.as_bytes())),
            Local::Healthz if serving => (200, Bytes::from_static(b"ok\n")),
            Local::Healthz => (503, Bytes::from_static(b"draining\n")),
        };
        let kind = if local == Local::Healthz { "text/plain" } else { "application/json" };
        let class = Class::of_status(status, false);
        self.record.course.note(Happened::Answers { code: status, class });
        self.send(status, kind, body, &[]).await
    }

    pub(super) async fn send(
        &mut self,
        status: u16,
        kind: &'static str,
        body: Bytes,
        extra: &[(&'static str, String)],
    ) -> End {
        let unread = !self.session.is_body_done();
        if unread {
            self.session.set_keepalive(None);
        }
        let limit = self.listener.client.write_timeout;
        match timeout(limit, self.write(status, kind, body, extra)).await {
            Ok(Err(_)) | Err(_) => End::Cut,
            Ok(Ok(())) if unread => End::Linger,
            Ok(Ok(())) => End::Keep,
        }
    }

    async fn write(
        &mut self,
        status: u16,
        kind: &'static str,
        body: Bytes,
        extra: &[(&'static str, String)],
    ) -> pingora_error::Result<()> {
        let mut head = ResponseHeader::build(status, Some(8))?;
        head.insert_header(header::CONTENT_TYPE, kind)?;
        head.insert_header(header::CONTENT_LENGTH, body.len())?;
        for (name, value) in extra {
            head.insert_header(*name, value)?;
        }
        if !self.record.request_id.is_empty() {
            head.insert_header("x-request-id", &self.record.request_id)?;
        }
        self.add_limits(&mut head)?;
        if self.record.is_test {
            self.add_debug_headers(&mut head)?;
        }
        let bare = self.session.req_header().method == Method::HEAD;
        self.record.course.note(Happened::Passed(if bare { 0 } else { body.len() as u64 }));
        self.session.write_response_header(Box::new(head)).await?;
        let body = if bare { Bytes::new() } else { body };
        self.session.write_response_body(body, true).await
    }
}

/// Whoever sent this may mean the next bytes otherwise than we would read them: the connection must end.
fn is_confused(code: RefusalCode) -> bool {
    use RefusalCode::{BadRequest, BodyTooLarge, HeadTooLarge, MethodNotAllowed};
    use RefusalCode::{RequestTimeout, UnsupportedEncoding};
    [BadRequest, BodyTooLarge, HeadTooLarge, MethodNotAllowed, RequestTimeout, UnsupportedEncoding]
        .contains(&code)
}

/// Answers a client whose head could not be read. Returns the connection for a lingering close.
pub(super) async fn refuse_raw(
    mut conn: Box<Conn>,
    code: RefusalCode,
    message: &str,
) -> Option<Box<Conn>> {
    let (status, name) = (code.status(), code.name());
    let reason = http::StatusCode::from_u16(status).ok()?.canonical_reason().unwrap_or("Error");
    let error = ErrorText { code: name, status, message, param: None, request_id: "" };
    let ErrorBody { content_type, body, .. } = error_body(Dialect::Plain, false, &error);
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\
         x-evener-error: {name}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    conn.write_all(head.as_bytes()).await.ok()?;
    conn.write_all(&body).await.ok()?;
    conn.flush().await.ok()?;
    Some(conn)
}
