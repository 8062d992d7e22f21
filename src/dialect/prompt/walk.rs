//! Walks through the JSON of a request, and adds up what it asks for.
use super::names::{Field, field};
use super::{BYTES, LONGEST_WORD, MEDIUM, Prompt, PromptProblem};
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// What is read of one request, or of one in a list of them.
#[derive(Clone, Copy, Debug, Default)]
struct Scope {
    most: Option<u64>,
    /// It asks for answers without an end, whatever else it says: of two fields, servers differ in which one counts.
    endless: bool,
    answers: u64,
    prompts: u64,
}

#[derive(Debug, Default)]
struct Reading {
    bytes: u64,
    tokens: u64,
    scope: Scope,
    bounded: u64,
    unbounded: u64,
    /// It is a list of requests.
    listed: bool,
    background: bool,
    problem: Option<PromptProblem>,
}

/// Reads the JSON of a request.
pub(super) fn walk(body: &str) -> Result<Prompt, PromptProblem> {
    let mut read = Reading::default();
    let mut json = serde_json::Deserializer::from_str(body);
    let root =
        if body.trim_ascii_start().starts_with('[') { Place::Requests } else { Place::Fields };
    let walked = Walk { read: &mut read, place: root }.deserialize(&mut json);
    if let Err(error) = walked.and_then(|_| json.end()) {
        let broken = || PromptProblem::Broken(error.to_string());
        return Err(read.problem.take().unwrap_or_else(broken));
    }
    // A list of requests asks for nothing beside them.
    let asks = read.scope.most.is_some() || read.scope.endless || read.scope.prompts > 0;
    if asks || !read.listed {
        read.close_scope(Scope::default());
    }
    let tokens = read.tokens.saturating_add(read.bytes.div_ceil(BYTES));
    let Reading { bounded, unbounded, background, .. } = read;
    Ok(Prompt { tokens, bounded, unbounded, background })
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

    /// One request is read to its end; the next one begins with `next`.
    fn close_scope(&mut self, next: Scope) {
        let Scope { most, endless, answers, prompts } = std::mem::replace(&mut self.scope, next);
        let all = prompts.max(1).saturating_mul(answers.max(1));
        match most.filter(|_| !endless) {
            Some(most) => self.bounded = self.bounded.saturating_add(most.saturating_mul(all)),
            None => self.unbounded = self.unbounded.saturating_add(all),
        }
    }
}

/// Where in a body a value stands.
#[derive(Clone, Copy)]
enum Place {
    /// A request, or options of one: its fields may say how much is asked for.
    Fields,
    /// Options, or a list of them: one for each prompt.
    Options,
    /// The prompts of a request. `objects`: each object is one.
    Prompts { objects: bool },
    /// A list of requests.
    Requests,
    /// Anywhere else: texts count.
    Within,
    /// In a list, where numbers are tokens already.
    List,
}

/// What a value was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    List,
    Object,
    Other,
}

struct Walk<'r> {
    read: &'r mut Reading,
    place: Place,
}

impl Walk<'_> {
    fn at(&mut self, place: Place) -> Walk<'_> {
        Walk { read: self.read, place }
    }

    fn number(self) -> Kind {
        if let Place::List = self.place {
            self.read.tokens = self.read.tokens.saturating_add(1);
        }
        Kind::Other
    }

    /// Stops at what cannot be counted.
    fn stop<E: serde::de::Error>(&mut self, problem: PromptProblem) -> E {
        self.read.problem = Some(problem);
        E::custom("it cannot be counted")
    }

    fn fields<'de, A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        let mut seen: Vec<&'static str> = Vec::new();
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            match field(&key) {
                Field::Most(name)
                | Field::MostOrNone(name)
                | Field::MostOrZero(name)
                | Field::Answers(name)
                    if seen.contains(&name) =>
                {
                    return Err(self.stop(PromptProblem::Twice(name)));
                }
                Field::Most(name) => {
                    seen.push(name);
                    let most = self.count(name, map.next_value()?)?;
                    // Of two names for it, servers differ in which one counts.
                    self.read.scope.most = self.read.scope.most.max(most);
                }
                bound @ (Field::MostOrNone(name) | Field::MostOrZero(name)) => {
                    seen.push(name);
                    let value: &RawValue = map.next_value()?;
                    let most = if value.get().starts_with('-') {
                        None
                    } else {
                        let bounds =
                            |most: &u64| *most > 0 || matches!(bound, Field::MostOrNone(_));
                        self.count(name, value)?.filter(bounds)
                    };
                    self.read.scope.endless |= most.is_none() && value.get() != "null";
                    self.read.scope.most = self.read.scope.most.max(most);
                }
                Field::Answers(name) => {
                    seen.push(name);
                    let answers = self.count(name, map.next_value()?)?.unwrap_or(1);
                    self.read.scope.answers = self.read.scope.answers.max(answers);
                }
                Field::Prompts => drop(map.next_value_seed(self.at(PROMPTS))?),
                Field::Instances => {
                    map.next_value_seed(self.at(Place::Prompts { objects: true }))?;
                }
                Field::Background => {
                    let value: &RawValue = map.next_value()?;
                    self.read.background |= value.get() == "true";
                }
                Field::Options => drop(map.next_value_seed(self.at(Place::Options))?),
                Field::Requests => drop(map.next_value_seed(self.at(Place::Requests))?),
                Field::Name => drop(map.next_value::<IgnoredAny>()?),
                Field::Other => drop(map.next_value_seed(self.at(Place::Within))?),
            }
        }
        Ok(())
    }

    fn count<E: serde::de::Error>(
        &mut self,
        name: &'static str,
        value: &RawValue,
    ) -> Result<Option<u64>, E> {
        count(value.get()).map_err(|found| self.stop(PromptProblem::NotACount { name, found }))
    }
}

const PROMPTS: Place = Place::Prompts { objects: false };

/// A number of tokens or answers; `None` for `null`. An error says what it is instead.
fn count(raw: &str) -> Result<Option<u64>, &'static str> {
    match raw.as_bytes().first() {
        Some(b'n') => return Ok(None),
        Some(b'"') => return Err("a text"),
        Some(b't' | b'f') => return Err("a boolean"),
        Some(b'[') => return Err("a list"),
        Some(b'{') => return Err("an object"),
        _ => {}
    }
    if let Ok(number) = raw.parse::<u64>() {
        return Ok(Some(number));
    }
    // Whole numbers may be written as `1e3` or `1000.0`.
    match raw.parse::<f64>() {
        Ok(number) if number < 0.0 => Err("less than nothing"),
        Ok(number) if number > 1e15 => Err("too large a number"),
        Ok(number) if number.fract() != 0.0 => Err("a fraction"),
        Ok(number) => Ok(Some(number as u64)),
        Err(_) => Err("no number"),
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Kind;

    fn deserialize<D: serde::Deserializer<'de>>(self, value: D) -> Result<Kind, D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Kind, A::Error> {
        match self.place {
            Place::Fields | Place::Options => self.fields(map)?,
            Place::Prompts { .. } | Place::Requests | Place::Within | Place::List => {
                while map.next_key::<IgnoredAny>()?.is_some() {
                    map.next_value_seed(self.at(Place::Within))?;
                }
            }
        }
        Ok(Kind::Object)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Kind, A::Error> {
        match self.place {
            Place::Requests => {
                self.read.listed = true;
                loop {
                    let outer = std::mem::take(&mut self.read.scope);
                    let item = seq.next_element_seed(self.at(Place::Fields))?;
                    if item.is_none() {
                        self.read.scope = outer;
                        break;
                    }
                    self.read.close_scope(outer);
                }
            }
            Place::Prompts { objects } => {
                let mut prompts = 0;
                while let Some(kind) = seq.next_element_seed(self.at(Place::List))? {
                    let is_one = match kind {
                        Kind::Text | Kind::List => true,
                        Kind::Object => objects,
                        Kind::Other => false,
                    };
                    prompts += u64::from(is_one);
                }
                self.read.scope.prompts = self.read.scope.prompts.max(prompts.max(1));
            }
            Place::Options => while seq.next_element_seed(self.at(Place::Options))?.is_some() {},
            Place::Fields | Place::Within | Place::List => {
                while seq.next_element_seed(self.at(Place::List))?.is_some() {}
            }
        }
        Ok(Kind::List)
    }

    fn visit_str<E>(self, text: &str) -> Result<Kind, E> {
        self.read.text(text);
        if let Place::Prompts { .. } = self.place {
            self.read.scope.prompts = self.read.scope.prompts.max(1);
        }
        Ok(Kind::Text)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Kind, E> {
        Ok(self.number())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Kind, E> {
        Ok(self.number())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Kind, E> {
        Ok(self.number())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Kind, E> {
        Ok(Kind::Other)
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Other)
    }
}
