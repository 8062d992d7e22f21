//! The replica's half of an exchange: the answer that comes of an attempt. It knows no client: whoever reads an answer
//! settles its attempt, or drops it, which frees its slot.
use super::asking::{Begun, First};
use super::heard::Attempt;
use super::hops::strip_trailers;
use super::meaning::{Framed, Meaning};
use crate::flow::Trouble;
use crate::stats::Moment;
use crate::wire::{Checkout, Reins, ReplicaSession};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use pingora_http::ResponseHeader;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// What a refused answer may still send before its connection is closed instead of kept.
const DRAIN: u64 = 64 << 10;
const DRAIN_TIME: Duration = Duration::from_millis(20);

/// The answer of a replica, over the connection on which it comes.
pub(super) struct Answer {
    pub(super) session: ReplicaSession,
    /// HTTP/1 only.
    pub(super) reins: Option<Arc<Reins>>,
    pub(super) attempt: Attempt,
    /// Informational answers that came before its head, where that is read already.
    pub(super) hints: Vec<ResponseHeader>,
    /// What of its body is read already.
    first: First,
    part: Part,
    bare: bool,
    /// The connection is in step with the next answer once this one is read.
    keep: bool,
    /// And it is read: the connection can serve again.
    reusable: bool,
}

/// What is read of an answer at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Head,
    Body,
    /// Bytes of any kind: both sides left HTTP.
    Tunnel,
}

/// What came of an answer.
pub(super) enum Read {
    Head(pingora_error::Result<()>),
    Chunk(pingora_error::Result<Option<Bytes>>),
}

/// What a head says.
pub(super) enum Told {
    /// `100 Continue`, which concerns this side alone.
    GoOn,
    Hint(ResponseHeader),
    Head(ResponseHeader, Framed, Meaning),
}

impl Answer {
    /// To a request that is about to be sent.
    pub(super) fn over(checkout: Checkout, attempt: Attempt) -> Self {
        Self::new(checkout.session, attempt)
    }

    /// One whose head is read, as far as its first byte.
    pub(super) fn begun(begun: Begun, attempt: Attempt) -> Self {
        let Begun { session, hints, first, .. } = begun;
        Self { hints, first, ..Self::new(session, attempt) }
    }

    fn new(session: ReplicaSession, attempt: Attempt) -> Self {
        Self {
            reins: session.reins(),
            session,
            attempt,
            hints: Vec::new(),
            first: First::Nothing,
            part: Part::Head,
            bare: false,
            keep: true,
            reusable: false,
        }
    }

    /// Does the replica take less than is written?
    pub(super) fn is_full(&self) -> bool {
        self.reins.as_ref().is_some_and(|reins| reins.full())
    }

    /// Both sides left HTTP.
    pub(super) fn is_upgraded(&self) -> bool {
        self.part == Part::Tunnel
    }

    /// Listens for the head, then for pieces of the body; beside that, the reins of its connection.
    pub(super) fn listen(&mut self) -> (Option<&Arc<Reins>>, impl Future<Output = Read>) {
        let Self { session, reins, part, .. } = self;
        let headed = *part != Part::Head;
        let reading = async move {
            if headed {
                Read::Chunk(session.read_body().await)
            } else {
                Read::Head(session.read_head().await)
            }
        };
        (reins.as_ref(), reading)
    }

    /// No head could be read. One that is malformed was heard all the same.
    pub(super) fn broken(&mut self, error: Box<pingora_error::Error>) -> Trouble {
        let trouble = Trouble::from(error);
        self.attempt.seen |= matches!(trouble, Trouble::Malformed(_));
        trouble
    }

    /// The head that was read. `asked`: by this method; `call`: the request is gRPC.
    pub(super) fn head(&mut self, asked: &Method, call: bool) -> Result<Told, Trouble> {
        self.attempt.seen = true;
        let framed = Framed::of(&self.session, asked)?;
        let from = self.session.head().expect("a head was read").clone();
        let switches = from.status == StatusCode::SWITCHING_PROTOCOLS;
        if from.status == StatusCode::CONTINUE {
            return Ok(Told::GoOn);
        }
        if from.status.is_informational() && !switches {
            return Ok(Told::Hint(from));
        }
        self.part = if switches { Part::Tunnel } else { Part::Body };
        (self.bare, self.keep) = (framed.bare, framed.keep);
        let meaning = Meaning::of(&from, call);
        self.attempt.told(meaning);
        Ok(Told::Head(from, framed, meaning))
    }

    /// Does nothing follow its head?
    pub(super) fn is_bare(&mut self) -> bool {
        let unread = !matches!(self.first, First::Nothing);
        (self.session.is_done() || self.bare) && !self.is_upgraded() && !unread
    }

    /// Was the piece that was read last the last of the answer? HTTP/2 says so later, by its trailers.
    pub(super) fn is_whole(&mut self) -> bool {
        let ReplicaSession::Http1(http1) = &self.session else { return false };
        http1.is_done() && !http1.has_trailers() && !self.is_upgraded()
    }

    /// What of the body was read with the head.
    pub(super) fn first(&mut self) -> First {
        std::mem::replace(&mut self.first, First::Nothing)
    }

    /// What follows the end of the body.
    pub(super) async fn trailers(&mut self) -> Result<Option<HeaderMap>, Trouble> {
        let mut trailers = self.session.trailers().await?;
        if !self.session.is_http2()
            && let Some(trailers) = &mut trailers
        {
            strip_trailers(trailers);
        }
        Ok(trailers.filter(|trailers| !trailers.is_empty()))
    }

    /// From here on bytes of any kind follow.
    pub(super) fn begin_tunnel(&mut self) {
        if let ReplicaSession::Http1(http1) = &mut self.session {
            http1.begin_tunnel();
        }
    }

    /// Can its connection be kept once an answer that is not wanted is read? `sent`: it has the whole request.
    pub(super) fn may_be_drained(&self, sent: bool) -> bool {
        sent && self.keep
    }

    /// It was read to its end. `sent`: its replica has the whole request.
    pub(super) fn ends(&mut self, sent: bool) {
        self.reusable = sent && self.keep;
    }

    /// Closes the connection, for another one.
    pub(super) fn give_up(self) -> Attempt {
        self.attempt
    }

    /// Keeps the connection for the next attempt, if it can serve once more; else closes it. `trouble`: what broke.
    pub(super) async fn hand_back(
        self,
        trouble: Option<&Trouble>,
        now: impl Fn() -> Moment,
    ) -> Attempt {
        let Self { mut session, attempt, reusable, .. } = self;
        let keep = match trouble {
            None => reusable,
            Some(Trouble::Answered { sent: true, .. }) => drained(&mut session).await,
            Some(_) => false,
        };
        if keep {
            attempt.in_flight.replica().upstream.park(session, now()).await;
        }
        attempt
    }
}

/// Reads an answer that is not wanted to its end, if that is short: its connection can then be kept.
async fn drained(session: &mut ReplicaSession) -> bool {
    let reading = async {
        let mut read = 0;
        while let Ok(Some(chunk)) = session.read_body().await {
            read += chunk.len() as u64;
            if read > DRAIN {
                return false;
            }
        }
        session.is_done()
    };
    timeout(DRAIN_TIME, reading).await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::heard::tests::attempt;
    use crate::wire::{Conn, Raw};
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::UnixStream;

    /// An answer that comes over a connection whose other end says this.
    async fn answer(attempt: Attempt, says: &str) -> (Answer, UnixStream) {
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(says.as_bytes()).await.unwrap();
        let checkout = Checkout::over(Box::new(Conn::http1(Raw::Unix(near))), false);
        (Answer::over(checkout, attempt), far)
    }

    async fn head(answer: &mut Answer, asked: &Method) -> Result<Told, Trouble> {
        let Read::Head(read) = answer.listen().1.await else { panic!("no head") };
        read.map_err(|error| answer.broken(error))?;
        answer.head(asked, false)
    }

    async fn chunk(answer: &mut Answer) -> Bytes {
        let Read::Chunk(Ok(Some(bytes))) = answer.listen().1.await else { panic!("no chunk") };
        bytes
    }

    #[tokio::test]
    async fn an_answer_is_read_part_by_part_and_leaves_its_connection_for_the_next() {
        let (_replica, attempt) = attempt();
        let says = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
                    HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let (mut answer, _far) = answer(attempt, says).await;
        let hint = head(&mut answer, &Method::POST).await;
        assert!(matches!(hint, Ok(Told::Hint(hint)) if hint.status == 103));
        assert!(answer.attempt.seen);
        let Ok(Told::Head(_, framed, meaning)) = head(&mut answer, &Method::POST).await else {
            panic!("no head")
        };
        assert_eq!((framed.length, meaning.code), (Some(2), 200));
        assert!(!answer.is_bare() && answer.may_be_drained(true) && !answer.may_be_drained(false));
        assert_eq!(chunk(&mut answer).await, "ok");
        assert!(answer.is_whole());
        answer.ends(true);
        assert!(answer.reusable);
        // While the client still sends its request, the connection is in the middle of one.
        answer.ends(false);
        assert!(!answer.reusable);
    }

    #[tokio::test]
    async fn what_has_no_body_is_whole_with_its_head() {
        for (asked, says, bare, keep) in [
            (Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", true, true),
            (Method::GET, "HTTP/1.1 304 Not Modified\r\n\r\n", true, true),
            (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", true, true),
            // It may send what it must not, into the next answer.
            (Method::GET, "HTTP/1.1 204 None\r\ncontent-length: 3\r\n\r\n", true, false),
            (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", false, true),
        ] {
            let (mut answer, _far) = answer(attempt().1, says).await;
            head(&mut answer, &asked).await.unwrap();
            assert_eq!((answer.is_bare(), answer.may_be_drained(true)), (bare, keep), "{says}");
        }
    }

    #[tokio::test]
    async fn a_head_with_two_meanings_is_the_replicas_fault() {
        let says = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\nok";
        let (mut answer, _far) = answer(attempt().1, says).await;
        let told = head(&mut answer, &Method::GET).await;
        assert!(matches!(told, Err(Trouble::Malformed(_))));
        assert!(answer.attempt.seen, "and it is not asked the same once more");
    }

    #[tokio::test]
    async fn trailers_of_http_1_come_after_the_body_without_what_frames_a_message() {
        let says = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n\
                    0\r\nx-cost: 7\r\ncontent-length: 9\r\nx-evener-a: 1\r\n\r\n";
        let (mut answer, _far) = answer(attempt().1, says).await;
        head(&mut answer, &Method::GET).await.unwrap();
        assert_eq!(chunk(&mut answer).await, "ok");
        assert!(!answer.is_whole(), "its trailers are still to be passed");
        assert!(matches!(answer.listen().1.await, Read::Chunk(Ok(None))));
        let trailers = answer.trailers().await.unwrap().unwrap();
        assert_eq!((trailers.len(), trailers["x-cost"].as_bytes()), (1, &b"7"[..]));
    }

    #[tokio::test]
    async fn whoever_drops_an_answer_frees_its_slot() {
        let (replica, attempt) = attempt();
        let (answer, _far) = answer(attempt, "").await;
        assert_eq!(replica.in_flight(), 1);
        drop(answer);
        assert_eq!(replica.in_flight(), 0);
    }
}
