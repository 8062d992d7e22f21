//! Looks through the JSON of a request for fields that name a model to some server, in whatever object they stand.
//!
//! Servers and gateways choose a model not by `model` at the top alone: `extra_body.model`, `session.model`, `requests[].model`,
//! `parameters.adapter_id`, `tools[].model`. So a key that reads as a name is one anywhere but in what users write themselves:
//! messages, prompts, inputs, schemas, metadata.
mod keys;

pub(super) use keys::{holds_content, holds_settings, parts_of_key};

use super::naming::{flat, reads_as_model};
use super::rewrite::Edit;
use keys::{ANYWHERE, CONTENT, OF_TOOLS, REQUESTS, SETTINGS};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// So much of a key is shown.
const SHOWN: usize = 40;

/// A field beside `model` that names a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherName {
    /// Its key.
    pub field: String,
    pub name: String,
    /// Where the JSON string stands in the body, quotes included.
    pub range: Range<usize>,
}

/// What the names of resources begin with at Google's.
pub(super) const RESOURCE: &str = "models/";

impl OtherName {
    /// The name without what Google's clients write in front of it.
    pub fn bare(&self) -> &str {
        self.name.strip_prefix(RESOURCE).unwrap_or(&self.name)
    }

    /// Writes this name there.
    pub fn edit(&self, name: &str) -> Edit {
        let name = if self.name.starts_with(RESOURCE) {
            Cow::Owned(format!("{RESOURCE}{name}"))
        } else {
            Cow::Borrowed(name)
        };
        Edit::json(self.range.clone(), &name)
    }
}

/// Why it cannot be told which model the fields of a body name to every server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldProblem {
    #[error("the body has two fields `model`: send one")]
    Twice,
    #[error("the body has a field `{0}`, which some servers take for `model`: write it as `model`")]
    Alike(String),
    #[error(
        "the body has a field `{0}`, which some servers take for the name of a model: leave it out"
    )]
    Beside(String),
    #[error(
        "the body has a text in the field `{0}`, which some servers read as JSON: write it as an object"
    )]
    Text(String),
}

/// What a body says of models.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    /// The value of `model` at the top.
    pub(super) model: Option<&'a str>,
    /// How many fields there are at the top.
    pub(super) fields: usize,
    pub(super) others: Vec<OtherName>,
}

/// Which fields at the top mean more than elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Top {
    /// `model` names the model.
    Names,
    /// As [`Self::Names`]; `name` is an older spelling of it (Ollama).
    NamesTwice,
    /// The path names the model; `inputs` are tensors (V1 and V2).
    Tensors,
}

/// Reads an object. The inner error is a problem with names, the outer one says that it is not JSON.
pub(super) fn names(
    json: &str,
    top: Top,
) -> Result<Result<Names<'_>, FieldProblem>, serde_json::Error> {
    let (read, walked) = walk(json, Place::Top(top));
    match read.problem {
        Some(problem) => Ok(Err(problem)),
        None => walked.map(|()| Ok(read.names)),
    }
}

/// Does a text of settings name no model? One that begins as JSON does must be JSON.
pub(super) fn is_nameless(text: &str) -> bool {
    let text = text.trim();
    if !text.starts_with(['{', '[']) {
        return true;
    }
    let (read, walked) = walk(text, Place::Settings);
    walked.is_ok() && read.names.others.is_empty()
}

/// Reads a whole text of JSON, or as far as it goes.
fn walk(json: &str, place: Place) -> (Reading<'_>, Result<(), serde_json::Error>) {
    let mut read = Reading { base: json.as_ptr().addr(), ..Reading::default() };
    let mut json = serde_json::Deserializer::from_str(json);
    let walked = Walk { read: &mut read, place }.deserialize(&mut json);
    (read, walked.and_then(|()| json.end()))
}

#[derive(Debug, Default)]
struct Reading<'a> {
    /// Where the text begins in memory.
    base: usize,
    names: Names<'a>,
    /// The keys of the objects that are open.
    path: Vec<String>,
    problem: Option<FieldProblem>,
}

/// Where in a body a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Top(Top),
    /// A request in a list, or in another one.
    Request,
    Tools,
    /// The tensors of V2, where V1 has inputs of any form.
    Tensors,
    /// Anything else.
    Settings,
}

struct Walk<'r, 'a> {
    read: &'r mut Reading<'a>,
    place: Place,
}

impl<'a> Walk<'_, 'a> {
    fn at(&mut self, place: Place) -> Walk<'_, 'a> {
        Walk { read: self.read, place }
    }

    /// Stops at what can be read in two ways.
    fn stop<E: serde::de::Error>(&mut self, problem: FieldProblem) -> E {
        self.read.problem = Some(problem);
        E::custom("it names more than one model")
    }

    /// The key with those of the objects around it.
    fn shown(&self, key: &str) -> String {
        let around = self.read.path.iter().map(|key| format!("{key}."));
        around.chain([shown(key)]).collect()
    }

    /// Reads a value in the object or list under this key.
    fn below<A: MapAccess<'a>>(
        &mut self,
        key: &str,
        place: Place,
        map: &mut A,
    ) -> Result<(), A::Error> {
        self.read.path.push(shown(key));
        map.next_value_seed(self.at(place))?;
        self.read.path.pop();
        Ok(())
    }

    fn field<A: MapAccess<'a>>(
        &mut self,
        key: &str,
        to_the_letter: bool,
        map: &mut A,
    ) -> Result<(), A::Error> {
        let flat = flat(key);
        let within = |list: &[&str]| list.contains(&&*flat);
        let names_here = matches!(self.place, Place::Top(Top::Names | Top::NamesTwice));
        let is_request = matches!(self.place, Place::Top(_) | Place::Request);
        if names_here && flat == "model" {
            if key != "model" || !to_the_letter {
                return Err(self.stop(FieldProblem::Alike(shown(key))));
            }
            let raw: &RawValue = map.next_value()?;
            return match self.read.names.model.replace(raw.get()) {
                Some(_) => Err(self.stop(FieldProblem::Twice)),
                None => Ok(()),
            };
        }
        if self.place == Place::Top(Top::Tensors) && flat == "inputs" {
            return map.next_value_seed(self.at(Place::Tensors));
        }
        let is_content = is_request && within(&CONTENT)
            || within(&ANYWHERE)
            || self.place == Place::Tools && within(&OF_TOOLS);
        if is_content {
            return map.next_value::<IgnoredAny>().map(drop);
        }
        let old = self.place == Place::Top(Top::NamesTwice) && flat == "name";
        if old || reads_as_model(&flat) {
            return self.name(key, map.next_value()?);
        }
        if flat == "tools" {
            return self.below(key, Place::Tools, map);
        }
        if within(&REQUESTS) {
            return self.below(key, Place::Request, map);
        }
        if within(&SETTINGS) {
            let raw: &RawValue = map.next_value()?;
            let Ok(text) = serde_json::from_str::<String>(raw.get()) else {
                self.read.path.push(shown(key));
                let mut json = serde_json::Deserializer::from_str(raw.get());
                self.at(Place::Settings).deserialize(&mut json).map_err(A::Error::custom)?;
                self.read.path.pop();
                return Ok(());
            };
            return if is_nameless(&text) {
                Ok(())
            } else {
                Err(self.stop(FieldProblem::Text(self.shown(key))))
            };
        }
        self.below(key, Place::Settings, map)
    }

    /// The value of a field that names a model.
    fn name<E: serde::de::Error>(&mut self, key: &str, value: &'a RawValue) -> Result<(), E> {
        let raw = value.get();
        let is_absent = match raw.as_bytes() {
            [b'n' | b'f', ..] => true,
            [b'[' | b'{', within @ .., _] => within.trim_ascii().is_empty(),
            _ => false,
        };
        if is_absent {
            return Ok(());
        }
        let Ok(name) = serde_json::from_str::<String>(raw) else {
            return Err(self.stop(FieldProblem::Beside(self.shown(key))));
        };
        if !name.trim().is_empty() {
            let from = raw.as_ptr().addr() - self.read.base;
            let range = from..from + raw.len();
            let field = self.shown(key);
            self.read.names.others.push(OtherName { field, name, range });
        }
        Ok(())
    }

    /// One input of V2. Some backends of Triton read an adapter from an input of its own, or sampling parameters as JSON.
    fn tensor<E: serde::de::Error>(&mut self, raw: &'a RawValue) -> Result<(), E> {
        let Ok(tensor) = serde_json::from_str::<Tensor<'_>>(raw.get()) else { return Ok(()) };
        let name = tensor.name.unwrap_or_default();
        let bare = flat(&name);
        if ["lora", "adapter"].iter().any(|word| bare.starts_with(word)) {
            return Err(self.stop(FieldProblem::Beside(format!("inputs.{}", shown(&name)))));
        }
        let settings =
            tensor.parameters.into_iter().chain(tensor.data.filter(|_| holds_settings(&name)));
        for raw in settings {
            let texts: Vec<String> = serde_json::from_str(raw.get()).unwrap_or_default();
            let nameless = texts.iter().all(|text| is_nameless(text));
            if !nameless || texts.is_empty() && !is_nameless(raw.get()) {
                return Err(self.stop(FieldProblem::Beside(format!("inputs.{}", shown(&name)))));
            }
        }
        Ok(())
    }
}

/// An input of V2.
#[derive(Deserialize)]
struct Tensor<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

fn shown(key: &str) -> String {
    key.chars().take(SHOWN).collect()
}

impl<'a> DeserializeSeed<'a> for Walk<'_, 'a> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'a>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Walk<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<(), A::Error> {
        if self.place == Place::Tensors {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        let is_top = matches!(self.place, Place::Top(_));
        while let Some(Key { text, to_the_letter }) = map.next_key()? {
            self.read.names.fields += usize::from(is_top);
            self.field(&text, to_the_letter, &mut map)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut seq: A) -> Result<(), A::Error> {
        if self.place == Place::Tensors {
            while let Some(raw) = seq.next_element::<&RawValue>()? {
                self.tensor(raw)?;
            }
            return Ok(());
        }
        while seq.next_element_seed(self.at(self.place))?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A key of an object.
struct Key<'a> {
    text: Cow<'a, str>,
    /// It has no escapes.
    to_the_letter: bool,
}

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(key: D) -> Result<Self, D::Error> {
        key.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
        Ok(Key { text: Cow::Borrowed(key), to_the_letter: true })
    }

    fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
        Ok(Key { text: Cow::Owned(key.to_owned()), to_the_letter: false })
    }
}

#[cfg(test)]
mod tests;
