//! The messages of a stream, which all have to name the same model.
use super::frame::{Frame, frame, next_frame};
use super::message::{NameAt, name_in, renamed};
use super::message_problem::MessageProblem;
use bytes::{Buf as _, Bytes, BytesMut};

/// Reads a stream of messages as it passes. A message is passed on once it is here as a whole; servers cannot begin
/// with less either.
#[derive(Clone, Debug)]
pub struct Messages {
    at: NameAt,
    /// As the first message has it.
    name: String,
    /// The name to send instead.
    new: Option<String>,
    /// The longest message that is kept.
    limit: u64,
    /// A message without a name is refused.
    strict: bool,
    held: BytesMut,
}

impl Messages {
    pub fn new(at: NameAt, name: &str, new: Option<&str>, limit: u64) -> Self {
        let (name, new) = (name.to_owned(), new.map(str::to_owned));
        Self { at, name, new, limit, strict: false, held: BytesMut::new() }
    }

    /// Each message is to name the model.
    #[must_use]
    pub fn strict(self, strict: bool) -> Self {
        Self { strict, ..self }
    }

    /// Takes what the client sent, and gives what the replica gets.
    pub fn take(&mut self, bytes: &Bytes) -> Result<Bytes, MessageProblem> {
        if self.held.is_empty() {
            let (passed, used) = self.pass(bytes)?;
            self.held.extend_from_slice(&bytes[used..]);
            return Ok(passed.unwrap_or_else(|| bytes.slice(..used)));
        }
        self.held.extend_from_slice(bytes);
        let held = std::mem::take(&mut self.held).freeze();
        let (passed, used) = self.pass(&held)?;
        let mut rest = held.clone();
        rest.advance(used);
        let passed = passed.unwrap_or_else(|| held.slice(..used));
        drop(held);
        self.held = BytesMut::from(rest);
        Ok(passed)
    }

    /// How much of a message that is not whole yet is kept.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// The messages that are whole, renamed where that changes them, and how many bytes they took.
    fn pass(&self, body: &[u8]) -> Result<(Option<Bytes>, usize), MessageProblem> {
        let mut out = self.new.is_some().then(Vec::new);
        let mut rest = body;
        loop {
            let (next, after) = next_frame(rest)?;
            let message = match next {
                Frame::Message { compressed: true, .. } => return Err(MessageProblem::Sealed),
                Frame::Message { message, .. } => message,
                Frame::Partial { length } if length > self.limit => {
                    return Err(MessageProblem::TooLong { length, limit: self.limit });
                }
                Frame::Partial { .. } | Frame::Open => break,
            };
            match name_in(message, self.at)? {
                Some(name) if name != self.name => {
                    return Err(MessageProblem::OtherModel(self.name.clone(), name.to_owned()));
                }
                None if self.strict => return Err(MessageProblem::Nameless(self.name.clone())),
                Some(_) | None => {}
            }
            if let (Some(out), Some(new)) = (&mut out, &self.new) {
                out.extend_from_slice(&frame(&renamed(message, self.at, new)));
            }
            rest = after;
        }
        Ok((out.map(Bytes::from), body.len() - rest.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::grpc::field::put_bytes;
    use proptest::prelude::*;

    fn message(name: &str, rest: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, 1, name.as_bytes());
        put_bytes(&mut out, 7, rest);
        frame(&out)
    }

    #[test]
    fn a_stream_is_for_one_model() {
        let mut messages = Messages::new(&[1], "a", None, 1000);
        let first = Bytes::from(message("a", b"x"));
        assert_eq!(messages.take(&first), Ok(first));
        let other = MessageProblem::OtherModel("a".to_owned(), "b".to_owned());
        assert_eq!(messages.take(&message("b", b"x").into()), Err(other));
        let mut messages = Messages::new(&[1], "a", None, 1000);
        assert!(messages.take(&message("", b"goes to the same").into()).is_ok());
        let mut messages = Messages::new(&[1], "a", None, 1000).strict(true);
        let nameless = MessageProblem::Nameless("a".to_owned());
        assert_eq!(messages.take(&message("", b"is refused").into()), Err(nameless));
        let mut messages = Messages::new(&[1], "a", None, 1000);
        let sealed = Bytes::from_static(b"\x01\0\0\0\x01x");
        assert_eq!(messages.take(&sealed), Err(MessageProblem::Sealed));
    }

    #[test]
    fn a_message_longer_than_what_is_kept_is_refused_by_its_prefix() {
        let mut messages = Messages::new(&[1], "a", None, 10);
        let long = MessageProblem::TooLong { length: 70_000 + 5, limit: 10 };
        assert_eq!(messages.take(&Bytes::from_static(b"\0\0\x01\x11\x70")), Err(long));
    }

    proptest! {
        #[test]
        fn however_a_stream_is_cut_the_same_messages_pass(
            bodies in proptest::collection::vec(any::<Vec<u8>>(), 1..5),
            cut in 1_usize..40, rename: bool
        ) {
            let new = rename.then_some("a longer name");
            let stream: Vec<u8> = bodies.iter().flat_map(|body| message("m", body)).collect();
            let name = new.unwrap_or("m");
            let expected: Vec<u8> = bodies.iter().flat_map(|body| message(name, body)).collect();
            let mut messages = Messages::new(&[1], "m", new, 1 << 20);
            let mut passed = Vec::new();
            for chunk in stream.chunks(cut) {
                passed.extend_from_slice(&messages.take(&Bytes::copy_from_slice(chunk)).unwrap());
            }
            prop_assert_eq!(messages.held(), 0);
            prop_assert_eq!(passed, expected);
        }

        #[test]
        fn any_stream_is_read_without_panic(chunks: Vec<Vec<u8>>) {
            let mut messages = Messages::new(&[1, 1], "m", Some("n"), 1000);
            for chunk in chunks {
                if messages.take(&Bytes::from(chunk)).is_err() {
                    break;
                }
            }
        }
    }
}
