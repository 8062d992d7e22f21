//! The client's half of an answer: the head that is held until something follows it, and the bytes as the client gets
//! them. It knows no replica.
use super::downstream::Downstream;
use crate::dialect::{NameWriter, UsageChunks};
use crate::flow::Trouble;
use bytes::Bytes;
use http::{HeaderMap, header};
use pingora_error::Result;
use pingora_http::ResponseHeader;

/// How an answer is passed on.
#[derive(Default)]
pub(super) struct Reply {
    /// The head, kept back until the first byte.
    held: Option<Box<ResponseHeader>>,
    /// It is an event stream, and its length is told nowhere: comments can be put in between.
    pub(super) takes_comments: bool,
    /// The length of the answer, as the replica tells it.
    pub(super) length: Option<u64>,
    /// Writes the client's name for the model into the answer.
    pub(super) names: Option<Box<NameWriter>>,
    /// Takes usage out of a stream that its client did not ask for.
    pub(super) usage_chunks: Option<UsageChunks>,
}

impl Reply {
    /// Keeps the head back: while it is, a replica that fails can still be told from one that answers.
    pub(super) fn hold(&mut self, head: Box<ResponseHeader>) {
        self.held = Some(head);
    }

    pub(super) fn held(&self) -> Option<&ResponseHeader> {
        self.held.as_deref()
    }

    /// Writes a piece of the answer, behind the head if that was held: both leave in one write. `done`: it is the last.
    pub(super) async fn write(
        &mut self,
        down: &mut Downstream<'_>,
        bytes: Bytes,
        done: bool,
    ) -> Result<(), Trouble> {
        if bytes.is_empty() && !done {
            return Ok(());
        }
        self.release(down).await?;
        down.body(bytes, done).await
    }

    /// Writes the head that was held.
    async fn release(&mut self, down: &mut Downstream<'_>) -> Result<(), Trouble> {
        let Some(head) = self.held.take() else { return Ok(()) };
        // It leaves with the first bytes, in one write.
        down.cork(true);
        let written = down.head(head, false).await;
        down.cork(false);
        written
    }

    /// Writes what is left of the answer, and its end.
    pub(super) async fn end(
        &mut self,
        down: &mut Downstream<'_>,
        rest: Bytes,
        trailers: Option<HeaderMap>,
    ) -> Result<(), Trouble> {
        self.release(down).await?;
        if !rest.is_empty() {
            down.body(rest, false).await?;
        }
        down.end(trailers).await
    }

    /// What the client gets of these bytes of the answer. `done`: they are the last.
    pub(super) fn passed(&mut self, bytes: Bytes, done: bool) -> Result<Bytes> {
        let bytes = self.without_usage(bytes, done);
        self.named(bytes, done)
    }

    /// These bytes without the usage that the client did not ask for.
    fn without_usage(&mut self, bytes: Bytes, done: bool) -> Bytes {
        let Some(chunks) = &mut self.usage_chunks else { return bytes };
        let passed = chunks.take(bytes);
        if !done {
            return passed;
        }
        let rest = chunks.finish();
        if rest.is_empty() { passed } else { [passed, rest].concat().into() }
    }

    /// These bytes with the client's name for the model. An answer that is here as a whole keeps a length.
    fn named(&mut self, bytes: Bytes, done: bool) -> Result<Bytes> {
        let Some(names) = &mut self.names else { return Ok(bytes) };
        let whole = self.length == Some(bytes.len() as u64);
        let mut passed = names.write(bytes);
        if done || whole {
            let rest = names.finish();
            if !rest.is_empty() {
                passed = [passed, rest].concat().into();
            }
        }
        if let Some(head) = self.held.as_mut().filter(|_| whole) {
            head.remove_header(&header::TRANSFER_ENCODING);
            head.insert_header(header::CONTENT_LENGTH, passed.len())?;
        }
        Ok(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::NameIn;
    use crate::table::ClientLimits;
    use pingora_core::protocols::http::ServerSession;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    /// A session whose client has asked, and what that client reads.
    async fn client() -> (ServerSession, DuplexStream) {
        let (near, mut far) = duplex(1 << 16);
        far.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut session = ServerSession::new_http1(Box::new(near));
        assert!(session.read_request().await.unwrap());
        (session, far)
    }

    fn head(length: &'static str) -> Box<ResponseHeader> {
        let mut head = ResponseHeader::build(200, None).unwrap();
        head.insert_header(header::CONTENT_LENGTH, length).unwrap();
        Box::new(head)
    }

    /// All that the client read once its connection is closed.
    async fn read(session: ServerSession, mut far: DuplexStream) -> String {
        drop(session);
        let mut all = String::new();
        far.read_to_string(&mut all).await.unwrap();
        all
    }

    #[tokio::test]
    async fn a_head_is_held_until_something_follows_it() {
        let limits = ClientLimits::default();
        let (mut session, far) = client().await;
        let mut down = Downstream { session: &mut session, reins: None, limits: &limits };
        let mut reply = Reply::default();
        reply.hold(head("2"));
        reply.write(&mut down, Bytes::new(), false).await.unwrap();
        assert!(reply.held().is_some() && down.session.response_written().is_none());
        reply.write(&mut down, "ok".into(), true).await.unwrap();
        assert!(reply.held().is_none());
        let all = read(session, far).await;
        assert!(all.starts_with("HTTP/1.1 200 OK\r\n") && all.ends_with("\r\n\r\nok"), "{all}");
    }

    #[tokio::test]
    async fn an_answer_that_says_nothing_has_its_head_at_its_end() {
        let limits = ClientLimits::default();
        let (mut session, far) = client().await;
        let mut down = Downstream { session: &mut session, reins: None, limits: &limits };
        let mut reply = Reply::default();
        reply.hold(head("0"));
        reply.end(&mut down, Bytes::new(), None).await.unwrap();
        let all = read(session, far).await;
        assert!(all.starts_with("HTTP/1.1 200 OK\r\n") && all.ends_with("\r\n\r\n"), "{all}");
    }

    #[test]
    fn a_name_that_is_written_into_a_whole_answer_changes_its_length() {
        let json = NameIn::Json { top: &["model"], within: None };
        let names = NameWriter::new(json, Some("application/json"), "mine", "mine").map(Box::new);
        let bytes = Bytes::from_static(br#"{"model":"theirs"}"#);
        let mut reply = Reply { names, length: Some(bytes.len() as u64), ..Reply::default() };
        reply.hold(head("18"));
        assert_eq!(reply.passed(bytes, true).unwrap(), &br#"{"model":"mine"}"#[..]);
        assert_eq!(reply.held().unwrap().headers[header::CONTENT_LENGTH], "16");
    }
}
