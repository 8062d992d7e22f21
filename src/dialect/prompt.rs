//! How many tokens a request to a model will take, before it is asked: an estimate that the answer corrects.
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Bytes of text to a token, by rule of thumb; in bytes rather than letters, it holds for Chinese too.
const BYTES: u64 = 4;
/// What an image or a recording is taken for, however many bytes it has.
const MEDIUM: u64 = 1000;
/// A longer text of nothing but base64 is a medium.
const LONGEST_WORD: usize = 2048;

/// What a body says of the tokens that its answer may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// Its own, estimated.
    pub tokens: u64,
    /// What it lets the answer take at most, all choices together; `None`: it does not say.
    pub most: Option<u64>,
    /// Answers that it wants.
    pub choices: u64,
}

/// Reads the tokens of a JSON body. Of what is not JSON all bytes count as text, as far as they are here.
pub fn prompt(body: &[u8]) -> Prompt {
    let mut read = Reading { choices: 1, ..Reading::default() };
    let mut json = serde_json::Deserializer::from_slice(body);
    let walk = Walk { read: &mut read, place: Place::Fields };
    if walk.deserialize(&mut json).and_then(|()| json.end()).is_err() {
        read.bytes = read.bytes.max(body.len() as u64);
    }
    let Reading { bytes, tokens, most, choices } = read;
    let most = most.map(|most| most.saturating_mul(choices));
    Prompt { tokens: tokens.saturating_add(bytes.div_ceil(BYTES)), most, choices }
}

/// Does this path ask for a text to be made? The others only read theirs.
pub fn generates(path: &str) -> bool {
    const READERS: [&str; 9] = [
        "classify",
        "detokenize",
        "embeddings",
        "moderations",
        "pooling",
        "rerank",
        "score",
        "tokenize",
        "count_tokens",
    ];
    let path = path.split('?').next().unwrap_or_default().trim_end_matches('/');
    path.rsplit('/').next().is_none_or(|last| !READERS.contains(&last))
}

#[derive(Default)]
struct Reading {
    bytes: u64,
    tokens: u64,
    most: Option<u64>,
    choices: u64,
}

impl Reading {
    fn text(&mut self, text: &str) {
        let base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/=-_\r\n".contains(&b);
        let data = text.split_once(";base64,").map_or(text, |(_, data)| data);
        if data.len() > LONGEST_WORD && data.bytes().all(base64) {
            self.tokens = self.tokens.saturating_add(MEDIUM);
        } else {
            self.bytes += text.len() as u64;
        }
    }
}

/// Where in a body a value stands.
#[derive(Clone, Copy)]
enum Place {
    /// A mapping whose fields may say how long the answer may be: the body, and `parameters` of V2 `generate` and TGI.
    Fields,
    /// Anywhere else: texts count.
    Within,
    /// In a list, where numbers are tokens already.
    List,
}

struct Walk<'r> {
    read: &'r mut Reading,
    place: Place,
}

impl Walk<'_> {
    fn at(&mut self, place: Place) -> Walk<'_> {
        Walk { read: self.read, place }
    }

    fn number(self) {
        if let Place::List = self.place {
            self.read.tokens = self.read.tokens.saturating_add(1);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let Place::Fields = self.place else {
            while map.next_key::<IgnoredAny>()?.is_some() {
                map.next_value_seed(self.at(Place::Within))?;
            }
            return Ok(());
        };
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            match &*key {
                // OpenAI's names, Anthropic's and TGI's. Of two, servers differ in which one counts.
                "max_tokens" | "max_completion_tokens" | "max_output_tokens" | "max_new_tokens" => {
                    self.read.most = self.read.most.max(count(map.next_value()?));
                }
                "n" | "best_of" => {
                    let wanted = count(map.next_value()?).unwrap_or(1);
                    self.read.choices = self.read.choices.max(wanted);
                }
                "parameters" => map.next_value_seed(self.at(Place::Fields))?,
                "model" | "user" => drop(map.next_value::<IgnoredAny>()?),
                _ => map.next_value_seed(self.at(Place::Within))?,
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while let Some(()) = seq.next_element_seed(self.at(Place::List))? {}
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.read.text(text);
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.number();
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.number();
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.number();
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A number of tokens or choices; `None` for `null` and what is none.
fn count(raw: &RawValue) -> Option<u64> {
    let number = raw.get().parse::<f64>().ok().filter(|number| *number >= 0.0)?;
    Some(number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(body: &str) -> (u64, Option<u64>) {
        let read = prompt(body.as_bytes());
        (read.tokens, read.most)
    }

    #[test]
    fn texts_are_counted_by_four_bytes_and_names_are_not() {
        let chat = r#"{"model":"a-long-name-of-a-model","messages":[{"role":"user","content":"12345678"}],"temperature":0.5}"#;
        assert_eq!(tokens(chat), (3, None));
        assert_eq!(tokens(r#"{"prompt":["abcd","efgh"]}"#).0, 2);
        assert_eq!(tokens(r#"{"prompt":[[1,2,3],[4]]}"#).0, 4);
        assert_eq!(tokens(r#"{"input":"\u4f60\u597d"}"#).0, 2);
        assert_eq!(tokens("\"abcdefgh\"").0, 2);
    }

    #[test]
    fn the_longest_answer_is_what_the_body_lets_it_be() {
        for (body, most) in [
            (r#"{"max_tokens":16}"#, Some(16)),
            (r#"{"max_tokens":16,"max_completion_tokens":40}"#, Some(40)),
            (r#"{"max_output_tokens":7,"n":3}"#, Some(21)),
            (r#"{"n":3,"max_tokens":null}"#, None),
            (r#"{"text_input":"a","parameters":{"max_new_tokens":9,"best_of":2}}"#, Some(18)),
            (r#"{"max_tokens":"many"}"#, None),
            (r#"{"max_tokens":-1}"#, None),
            (r#"{"max_tokens":1e30,"n":9}"#, Some(u64::MAX)),
            (r#"{"messages":[{"max_tokens":5}]}"#, None),
        ] {
            assert_eq!(tokens(body).1, most, "{body}");
        }
        assert_eq!(prompt(br#"{"n":4}"#).choices, 4);
    }

    #[test]
    fn an_image_is_no_megabyte_of_text() {
        let image = format!(r#"{{"url":"data:image/png;base64,{}"}}"#, "iVBO/+A=".repeat(100_000));
        assert_eq!(tokens(&image).0, 1000);
        let text = format!(r#"{{"content":"{}"}}"#, "word ".repeat(1000));
        assert_eq!(tokens(&text).0, 1250);
    }

    #[test]
    fn what_is_no_json_counts_as_text() {
        assert_eq!(tokens("12345678 and no json").0, 5);
        assert_eq!(tokens("").0, 0);
        assert_eq!(tokens(r#"{"messages":[{"content":"cut o"#).0, 8);
    }

    #[test]
    fn paths_that_only_read_are_known() {
        for reads in
            ["/v1/embeddings", "/v1/embeddings/", "/rerank?x=/y", "/v1/messages/count_tokens"]
        {
            assert!(!generates(reads), "{reads}");
        }
        for writes in ["/v1/chat/completions", "/v1/responses", "/", "/v2/models/m/generate"] {
            assert!(generates(writes), "{writes}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(body: Vec<u8>, json in "[{}\\[\\]\",:a1n max_tokens]*") {
            prompt(&body);
            prompt(json.as_bytes());
        }
    }
}
