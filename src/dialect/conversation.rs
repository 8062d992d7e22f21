//! Which conversation a request belongs to: the turns of one begin alike, and servers keep what they begin with in a
//! prefix cache.
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::fmt;
use xxhash_rust::xxh3::Xxh3;

/// Of a prompt without messages so many bytes are its beginning.
const BEGINNING: usize = 1024;
/// So much of a body is read at most.
const LONGEST: usize = 256 << 10;
/// The fields that hold what a model is asked.
const PROMPTS: [&str; 5] = ["messages", "contents", "input", "prompt", "inputs"];

/// A hash of how the conversation in a JSON body begins: of its messages up to the first of the user, or of the beginning of
/// its prompt. `None`: it has none, or cannot be read. What follows is not read.
pub fn conversation(body: &[u8]) -> Option<u64> {
    let mut found = None;
    let body = &body[..body.len().min(LONGEST)];
    // It stops with an error as soon as it has found something.
    drop(Body(&mut found).deserialize(&mut serde_json::Deserializer::from_slice(body)));
    found
}

/// The end of what need be read.
fn enough<E: Error>() -> E {
    E::custom("the rest is not read")
}

struct Body<'a>(&'a mut Option<u64>);

impl<'de> DeserializeSeed<'de> for Body<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Body<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if PROMPTS.contains(&key.as_str()) {
                return map.next_value_seed(Prompt(self.0));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

struct Prompt<'a>(&'a mut Option<u64>);

impl<'de> DeserializeSeed<'de> for Prompt<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Prompt<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of messages")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let mut hasher = Xxh3::new();
        hasher.update(&text.as_bytes()[..text.len().min(BEGINNING)]);
        *self.0 = Some(hasher.digest());
        Err(enough())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut hasher = Xxh3::new();
        while let Some(message) = list.next_element::<Value>()? {
            // Other lists hold tokens, or prompts that stand side by side.
            if !message.is_object() {
                return Err(enough());
            }
            for part in [&message["role"], &message["content"], &message["parts"]] {
                hasher.update(part.to_string().as_bytes());
            }
            if message["role"].as_str().is_none_or(|role| role == "user") {
                *self.0 = Some(hasher.digest());
                return Err(enough());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_turns_of_a_conversation_begin_alike() {
        let first = br#"{"model":"m","messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"Hi, I am Ana."}]}"#;
        let second = br#"{"model":"m","stream":true,"messages":[{"role":"system","content":"Be kind."},
            {"role":"user","content":"Hi, I am Ana."},{"role":"assistant","content":"Hi!"},{"role":"user","content":"Who am I?"}]}"#;
        let other = br#"{"model":"m","messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"Hi, I am Bob."}]}"#;
        assert!(conversation(first).is_some());
        assert_eq!(conversation(first), conversation(second));
        assert_ne!(conversation(first), conversation(other));
    }

    #[test]
    fn prompts_without_messages_have_a_beginning_too() {
        let gemini = br#"{"contents":[{"role":"user","parts":[{"text":"Hi"}]}]}"#;
        let others: [&[u8]; 3] =
            [br#"{"prompt":"Once"}"#, br#"{"inputs":"Once upon"}"#, br#"{"input":"Twice"}"#];
        let mut all: Vec<u64> = others.iter().filter_map(|body| conversation(body)).collect();
        all.extend(conversation(gemini));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn what_has_no_conversation_has_none() {
        for body in [
            &b""[..],
            b"[1]",
            b"{",
            b"{\"model\":\"m\"}",
            b"{\"prompt\":[1,2,3]}",
            b"{\"inputs\":[{\"name\"",
            b"{\"messages\":[]}",
            "{\"prompt\":7}".as_bytes(),
        ] {
            assert_eq!(conversation(body), None, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn what_follows_the_first_message_is_not_read() {
        let cut = br#"{"messages":[{"role":"user","content":"Hi"}, broken"#;
        assert!(conversation(cut).is_some());
    }
}
