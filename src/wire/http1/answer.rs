//! An answer of HTTP/1 as bytes come in: heads, 1xx before the last of them, then pieces of the body. It has no socket.
use super::body::{BadBody, BodyReader, Piece};
use super::head::{AnswerFraming, AnswerHead, BadAnswer, HeadReader, is_bare};
use bytes::BytesMut;
use http::{HeaderMap, StatusCode};

/// Reads the answer to one request.
#[derive(Debug, Default)]
pub struct AnswerReader {
    buf: BytesMut,
    head: HeadReader,
    /// Once the last head is read.
    body: Option<BodyReader>,
    /// It answers HEAD.
    to_head: bool,
    /// Its end is the end of the connection.
    closes: bool,
}

impl AnswerReader {
    /// `to_head`: the request is HEAD, so that no body follows.
    pub fn new(to_head: bool) -> Self {
        Self { to_head, ..Self::default() }
    }

    /// What is read goes here.
    pub fn buf(&mut self) -> &mut BytesMut {
        &mut self.buf
    }

    /// The next head; `None`: more must be read first.
    pub fn head(&mut self) -> Result<Option<AnswerHead>, BadAnswer> {
        let read = self.head.read(&mut self.buf, self.to_head)?;
        if let Some(AnswerHead { head, framing }) = &read
            && (!head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS)
        {
            self.body = Some(self.body_after(head.status, *framing));
        }
        Ok(read)
    }

    fn body_after(&mut self, status: StatusCode, framing: AnswerFraming) -> BodyReader {
        let body = if status == StatusCode::SWITCHING_PROTOCOLS {
            BodyReader::until_close()
        } else if self.to_head || is_bare(status) {
            BodyReader::of_length(0)
        } else {
            BodyReader::new(framing)
        };
        self.closes = body.ends_by_close();
        body
    }

    /// The next piece of the body.
    pub fn piece(&mut self) -> Result<Piece, BadBody> {
        match &mut self.body {
            Some(body) => body.next(&mut self.buf),
            None => Err(BadBody("a body is read before its head")),
        }
    }

    /// The peer ended its sending.
    pub fn close(&mut self) -> Result<(), BadBody> {
        match &mut self.body {
            Some(body) => body.close(),
            None => Err(BadBody("the connection ended within the head")),
        }
    }

    /// Is all of the body read?
    pub fn is_done(&self) -> bool {
        self.body.as_ref().is_some_and(BodyReader::is_done)
    }

    /// Can another answer follow this one on its connection, as far as its bytes tell?
    pub fn is_in_step(&self) -> bool {
        self.is_done() && !self.closes && self.buf.is_empty()
    }

    /// Fields after the body, once.
    pub fn trailers(&mut self) -> Option<HeaderMap> {
        self.body.as_mut()?.trailers()
    }

    pub fn has_trailers(&self) -> bool {
        self.body.as_ref().is_some_and(BodyReader::has_trailers)
    }

    /// How many bytes of the body are sure to come.
    pub(super) fn ahead(&self) -> usize {
        self.body.as_ref().map_or(0, BodyReader::ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All that can be told of an answer that comes in these pieces, the end of the connection behind them.
    fn told<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, Vec<u8>) {
        let mut answer = AnswerReader::new(false);
        let (mut heads, mut body) = (Vec::new(), Vec::new());
        let mut in_body = false;
        for piece in pieces.into_iter().map(Some).chain([None]) {
            let Some(piece) = piece else {
                let end = answer.close().map(|()| answer.is_in_step());
                heads.push(format!("{end:?} {:?} {:?}", answer.trailers(), answer.buf()));
                return (heads, body);
            };
            answer.buf().extend_from_slice(piece);
            while !in_body {
                match answer.head() {
                    Ok(Some(AnswerHead { head, framing })) => {
                        heads.push(format!("{head:?} {framing:?}"));
                        in_body = !head.status.is_informational();
                    }
                    Ok(None) => break,
                    Err(bad) => {
                        heads.push(bad.0.to_owned());
                        return (heads, body);
                    }
                }
            }
            if in_body {
                loop {
                    match answer.piece() {
                        Ok(Piece::Data(data)) => body.extend_from_slice(&data),
                        Ok(Piece::More | Piece::End) => break,
                        Err(bad) => {
                            heads.push(bad.0.to_owned());
                            return (heads, body);
                        }
                    }
                }
            }
        }
        unreachable!("it ends with the connection")
    }

    const ANSWERS: &[&str] = &[
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nX-A:  b \r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel",
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200\r\n\r\nto the end",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;x\r\nhello\r\n3\r\nyou\r\n0\r\nx-a: 1\r\nx-b: 2\r\n\r\nrest",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n3\nyou\r\n0\r\n\r\n",
        "HTTP/1.1 204 None\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\ncontent-length: 5\n\nhello",
        "HTTP/1.1 200 OK\r\nx-a : 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-a: 1\r\n 2\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH_9.6",
    ];

    #[test]
    fn an_answer_in_single_bytes_is_the_same_answer() {
        for answer in ANSWERS {
            let whole = told([answer.as_bytes()]);
            for size in [1, 2, 3, 7] {
                assert_eq!(told(answer.as_bytes().chunks(size)), whole, "{answer:?} by {size}");
            }
        }
    }

    #[test]
    fn only_an_answer_that_ends_where_it_says_leaves_its_connection_in_step() {
        let in_step = |answer: &str| {
            told([answer.as_bytes()]).0.iter().any(|told| told.starts_with("Ok(true)"))
        };
        let said: Vec<bool> = ANSWERS.iter().map(|answer| in_step(answer)).collect();
        assert_eq!(said.iter().filter(|in_step| **in_step).count(), 1, "{said:?}");
        assert!(said[0]);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_answer(
            which in 0..ANSWERS.len(),
            noise in proptest::collection::vec((0_usize..200, any::<u8>()), 0..3),
            cuts in proptest::collection::vec(0_usize..200, 0..6),
        ) {
            let mut bytes = ANSWERS[which].as_bytes().to_vec();
            for (at, byte) in noise {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % bytes.len()).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]);
            prop_assert_eq!(told(pieces), told([&bytes[..]]));
        }
    }
}
