//! The model that a message names, and another name in its stead.
use super::field::{Fields, Value, put_bytes};
use super::frame::{Frame, frame, next_frame};
use super::message_problem::MessageProblem;
use bytes::Bytes;

/// Where a message names its model: the numbers of the fields that lead there.
pub type NameAt = &'static [u64];

/// The name at this place, where there is one. Twice the same is one; two different ones would be a way around whoever
/// looked at the first.
pub fn name_in(message: &[u8], at: NameAt) -> Result<Option<&str>, MessageProblem> {
    let mut found = None;
    gather(message, at, &mut found)?;
    Ok(found)
}

fn gather<'a>(
    message: &'a [u8],
    at: &[u64],
    found: &mut Option<&'a str>,
) -> Result<(), MessageProblem> {
    let Some((number, inner)) = at.split_first() else { return Ok(()) };
    for field in Fields::of(message) {
        let field = field?;
        let Value::Bytes(bytes) = field.value else { continue };
        if field.number != *number {
            continue;
        }
        if !inner.is_empty() {
            gather(bytes, inner, found)?;
            continue;
        }
        let name = std::str::from_utf8(bytes).map_err(|_| MessageProblem::Malformed)?;
        match *found {
            // An empty one is as good as none.
            _ if name.is_empty() => {}
            Some(first) if first != name => {
                return Err(MessageProblem::TwoModels(first.to_owned(), name.to_owned()));
            }
            _ => *found = Some(name),
        }
    }
    Ok(())
}

/// The same message with `new` at each place that names a model; lengths around it follow. For messages that
/// [`name_in`] has read.
pub(super) fn renamed(message: &[u8], at: &[u64], new: &str) -> Vec<u8> {
    let Some((number, inner)) = at.split_first() else { return message.to_vec() };
    let mut out = Vec::with_capacity(message.len() + new.len());
    let mut end = 0;
    for field in Fields::of(message).map_while(Result::ok) {
        match field.value {
            Value::Bytes(bytes) if field.number == *number && inner.is_empty() => {
                let name = if bytes.is_empty() { bytes } else { new.as_bytes() };
                put_bytes(&mut out, *number, name);
            }
            Value::Bytes(bytes) if field.number == *number => {
                put_bytes(&mut out, *number, &renamed(bytes, inner, new));
            }
            Value::Varint(_) | Value::Fixed | Value::Bytes(_) => {
                out.extend_from_slice(&message[field.range.clone()]);
            }
        }
        end = field.range.end;
    }
    out.extend_from_slice(&message[end..]);
    out
}

/// The model that the messages of a whole or beginning body name. `Ok(None)`: none is named; the first is compressed:
/// [`MessageProblem::Sealed`].
pub fn first_name(
    body: &[u8],
    at: NameAt,
    streams: bool,
    limit: u64,
) -> Result<Option<String>, MessageProblem> {
    let (first, rest) = next_frame(body)?;
    let name = match first {
        Frame::Message { compressed: true, .. } => return Err(MessageProblem::Sealed),
        Frame::Message { message, .. } => name_in(message, at)?,
        Frame::Partial { length } if length > limit => {
            return Err(MessageProblem::TooLong { length, limit });
        }
        Frame::Open if body.is_empty() => None,
        // It ended before its message did.
        Frame::Partial { .. } | Frame::Open => return Err(MessageProblem::Malformed),
    };
    if !streams && !rest.is_empty() {
        return Err(MessageProblem::SeveralMessages);
    }
    Ok(name.map(str::to_owned))
}

/// A body of whole messages with `new` for the model's name in each; a compressed one stays as it is.
pub fn rename_in_messages(body: &Bytes, at: NameAt, new: &str) -> Bytes {
    let mut out = Vec::with_capacity(body.len() + new.len());
    let mut rest: &[u8] = body;
    while let Ok((Frame::Message { compressed, message }, after)) = next_frame(rest) {
        if compressed {
            out.extend_from_slice(&rest[..rest.len() - after.len()]);
        } else {
            out.extend_from_slice(&frame(&renamed(message, at, new)));
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V2: NameAt = &[1];
    const TF: NameAt = &[1, 1];
    const MULTI: NameAt = &[1, 1, 1];

    fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, number, bytes);
        out
    }

    /// A message that names a model this deep, with another field on each level.
    fn naming(name: &str, at: NameAt) -> Vec<u8> {
        let inner = if at.len() > 1 { naming(name, &at[1..]) } else { name.as_bytes().to_vec() };
        [field(7, b"before"), field(at[0], &inner), field(3, b"after")].concat()
    }

    #[test]
    fn a_name_is_found_at_each_depth_and_wherever_it_stands() {
        for at in [V2, TF, MULTI] {
            assert_eq!(name_in(&naming("resnet", at), at), Ok(Some("resnet")));
        }
        assert_eq!(name_in(&field(2, b"7"), V2), Ok(None));
        assert_eq!(name_in(&field(1, b""), V2), Ok(None));
        // Of another type it is an unknown field to every parser.
        assert_eq!(name_in(b"\x08\x01", V2), Ok(None));
    }

    #[test]
    fn two_names_in_a_message_are_refused_unless_they_are_one() {
        let twice = |a, b, at| name_in(&[naming(a, at), naming(b, at)].concat(), at).map(drop);
        for at in [V2, TF, MULTI] {
            assert_eq!(twice("a", "a", at), Ok(()));
            let two = MessageProblem::TwoModels("a".to_owned(), "b".to_owned());
            assert_eq!(twice("a", "b", at), Err(two));
        }
    }

    #[test]
    fn the_first_message_of_a_call_names_its_model() {
        let ask = |body: &[u8], streams| first_name(body, V2, streams, 64);
        let one = frame(&naming("m", V2));
        assert_eq!(ask(&one, false), Ok(Some("m".to_owned())));
        assert_eq!(ask(&[one.clone(), one.clone()].concat(), true), Ok(Some("m".to_owned())));
        let several = ask(&[one.clone(), one.clone()].concat(), false);
        assert_eq!(several, Err(MessageProblem::SeveralMessages));
        assert_eq!(ask(b"\x01\0\0\0\x02\x1f\x8b", false), Err(MessageProblem::Sealed));
        assert_eq!(ask(b"", true), Ok(None));
        assert_eq!(ask(&one[..9], false), Err(MessageProblem::Malformed));
        let long = MessageProblem::TooLong { length: 261, limit: 64 };
        assert_eq!(ask(b"\0\0\0\x01\0", true), Err(long));
    }

    proptest! {
        #[test]
        fn a_renamed_message_says_the_new_name_and_all_else_as_before(
            old in ".{1,9}", new in ".{0,300}", levels in 1_usize..4
        ) {
            let at = &MULTI[..levels];
            let renamed = renamed(&naming(&old, at), at, &new);
            prop_assert_eq!(&renamed, &naming(&new, at));
        }

        #[test]
        fn any_body_is_read_and_renamed_without_panic(body: Vec<u8>, levels in 1_usize..4) {
            let at = &MULTI[..levels];
            drop(first_name(&body, at, true, 1024));
            drop(name_in(&body, at));
            let body = Bytes::from(body);
            drop(rename_in_messages(&body, at, "new"));
        }

        #[test]
        fn what_is_no_name_is_kept_to_the_byte(message: Vec<u8>) {
            // Field 4 names nothing in what follows.
            if !Fields::of(&message).any(|field| field.is_ok_and(|field| field.number == 4)) {
                prop_assert_eq!(renamed(&message, &[4], "new"), message);
            }
        }
    }
}
