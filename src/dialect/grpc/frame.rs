//! How messages follow one another in the body of a call: a flag, a length of four bytes, the message.
//!
//! gRPC over HTTP/2, "Length-Prefixed-Message".
use super::message_problem::MessageProblem;

/// Flag and length.
pub const PREFIX: usize = 5;

/// What a body begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    Message {
        /// By what `grpc-encoding` says; it is not opened here.
        compressed: bool,
        message: &'a [u8],
    },
    /// The message takes so many bytes with its prefix, and they are not all here.
    Partial { length: u64 },
    /// Not even the length is here.
    Open,
}

/// Reads the first message of `body`, and what follows it.
pub fn next_frame(body: &[u8]) -> Result<(Frame<'_>, &[u8]), MessageProblem> {
    let Some((prefix, rest)) = body.split_first_chunk::<PREFIX>() else {
        return if body.first().is_some_and(|flag| *flag > 1) {
            Err(MessageProblem::Malformed)
        } else {
            Ok((Frame::Open, body))
        };
    };
    let [flag, length @ ..] = *prefix;
    if flag > 1 {
        return Err(MessageProblem::Malformed);
    }
    let length = u32::from_be_bytes(length);
    match usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length)) {
        Some((message, after)) => Ok((Frame::Message { compressed: flag == 1, message }, after)),
        None => Ok((Frame::Partial { length: u64::from(length) + PREFIX as u64 }, body)),
    }
}

/// A message as it goes on the wire.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(PREFIX + message.len());
    framed.push(0);
    // Lengths are bounded long before by what is kept of a body.
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(message);
    framed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_is_told_from_a_part_of_one() {
        let (message, rest) = next_frame(b"\0\0\0\0\x02abcd").unwrap();
        assert_eq!(message, Frame::Message { compressed: false, message: b"ab" });
        assert_eq!(rest, b"cd");
        let (message, _) = next_frame(b"\x01\0\0\0\0").unwrap();
        assert_eq!(message, Frame::Message { compressed: true, message: b"" });
        assert_eq!(next_frame(b"\0\0\0\x01\0x").unwrap().0, Frame::Partial { length: 261 });
        assert_eq!(next_frame(b"\0\0\0").unwrap().0, Frame::Open);
        assert_eq!(next_frame(b"").unwrap().0, Frame::Open);
        for bad in [&b"\x02"[..], b"{\"a\":1}"] {
            assert_eq!(next_frame(bad), Err(MessageProblem::Malformed));
        }
    }

    proptest! {
        #[test]
        fn what_is_framed_reads_back(message: Vec<u8>, after: Vec<u8>) {
            let body = [frame(&message), after.clone()].concat();
            let (read, rest) = next_frame(&body).unwrap();
            prop_assert_eq!(read, Frame::Message { compressed: false, message: &message });
            prop_assert_eq!(rest, &after);
        }

        #[test]
        fn any_bytes_are_read_without_panic(body: Vec<u8>) {
            drop(next_frame(&body));
        }
    }
}
