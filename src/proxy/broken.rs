//! Answers that break after they began: their clients are told in their own words, or cut off so that they notice.
use super::exchange::{End, Exchange};
use crate::dialect::{
    Dialect, ErrorText, RefusalCode, StreamError, StreamForm, StreamWatch, broken_stream,
};
use crate::flow::Happened;
use http::header;

impl Exchange<'_> {
    /// Is everything that the client has of an event stream whole events?
    pub(super) fn is_between_events(&self) -> bool {
        self.stream.as_ref().is_none_or(|stream| stream.is_between())
    }

    /// Ends an answer that broke after it began. A stream says so where that can be told from what the model said: between
    /// two of its pieces. No word is added to what is compressed, or has a length.
    pub(super) async fn end_broken_stream(&mut self, code: RefusalCode, what: &str) -> End {
        let message = format!("the model server {what}");
        if self.is_call() {
            return self.end_call(code, &message);
        }
        let error = ErrorText {
            code: code.name(),
            status: code.status(),
            message: &message,
            param: None,
            request_id: &self.record.request_id,
        };
        let row = self.row;
        let last = self.open_stream().and_then(|stream| {
            let shape = match (row.dialect, stream.form()) {
                (Dialect::Plain, StreamForm::Lines) => StreamError::Text,
                _ => row.stream_error,
            };
            broken_stream(shape, stream.form(), &error, stream.pieces())
        });
        let Some(last) = last else { return End::Cut };
        self.session.set_keepalive(None);
        self.record.course.note(Happened::Passed(last.len() as u64));
        match self.downstream().body(last, true).await {
            Ok(()) => End::Close,
            Err(_) => End::Cut,
        }
    }

    /// The stream that the client has begun to read, where something may be added to it now.
    fn open_stream(&self) -> Option<&StreamWatch> {
        let head = self.session.response_written()?;
        let open =
            !self.record.course.tunnels() && !head.headers.contains_key(header::CONTENT_LENGTH);
        self.stream.as_deref().filter(|stream| open && stream.is_between())
    }
}
