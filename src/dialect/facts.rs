//! What routing may know of a request, and in which order its model's name is looked for.
use super::RefusalCode;
use super::body::{BodyFacts, BodyProblem, begins_object, peek};
use super::dialects::{Dialect, PathKind};
use super::grpc::NameAt;
use super::media::is_coded;
use super::multipart::peek_multipart;
use super::name::Named;
use super::path::{PathFacts, PathProblem};
use super::prefix::peek_prefix;
use super::query::TwoInQuery;
use super::rows::ModelAt;
use std::ops::Range;

/// What was read of a request before it is routed.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Facts {
    pub dialect: Dialect,
    pub kind: PathKind,
    /// A POST has no other effect than its answer.
    pub repeats: bool,
    /// The model as the client named it.
    pub model: Option<String>,
    /// Where `model` was found, for rewriting.
    pub found_in: Option<FoundIn>,
    /// The client asked for a stream (`"stream": true`, or V2 `generate_stream`).
    pub streaming: bool,
    /// The wanted top-level fields of a JSON body that were there, as text.
    pub fields: Vec<(String, String)>,
}

impl Facts {
    /// What the path alone says, without a model.
    pub fn of_path(path: &PathFacts) -> Self {
        Self {
            dialect: path.dialect(),
            kind: path.kind(),
            repeats: path.repeats(),
            streaming: path.streams(),
            ..Self::default()
        }
    }

    /// The value of a wanted top-level field of the body.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Where a model's name stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundIn {
    /// Byte range of the name (percent-encoded, as sent) in the path.
    Path(Range<usize>),
    /// Byte range of the JSON string, quotes included, in the body.
    Body(Range<usize>),
    /// Byte range of the bare value of a form's field `model` in a multipart body.
    Form(Range<usize>),
    /// The messages of a call.
    Messages(NameAt),
    /// The value of this header.
    Header(String),
    /// Byte range of the value (percent-encoded, as sent) of this parameter in the path and query.
    Query { parameter: String, range: Range<usize> },
}

/// One place to look for a model's name: an entry of `model_from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    Path,
    Body,
    Header {
        name: &'a str,
        value: Option<&'a str>,
    },
    Query {
        parameter: &'a str,
        found: Result<Option<Named>, TwoInQuery>,
        /// It counts only where it is the name of a model that exists.
        if_known: bool,
    },
    /// A segment that a route captures.
    Captured(Option<Named>),
}

impl Source<'_> {
    /// Without `model_from`: a path that names a model wins, then the body.
    pub const DEFAULT: [Source<'static>; 2] = [Source::Path, Source::Body];
}

/// What is known of a request's body when its model is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyRead {
    /// There is none, or nobody looked.
    Absent,
    Json(BodyFacts),
    /// A multipart form, and its field `model`.
    Form(Option<Named>),
    /// The messages of a call, and the name in the first.
    Messages(Option<String>, NameAt),
    /// The beginning of something that is neither JSON object nor form.
    Nameless,
    /// Compressed: it is not opened.
    Sealed,
    /// Not readable as JSON or messages. An error only where the body has to name the model.
    Broken(BodyProblem),
}

impl BodyRead {
    /// Reads a complete body; `wanted` are the top-level JSON fields to keep (sticky keys).
    pub fn whole(
        content_type: Option<&str>,
        content_encoding: Option<&str>,
        body: &[u8],
        wanted: &[impl AsRef<str>],
    ) -> Self {
        Self::read(content_type, content_encoding, body, |body| peek(body, wanted))
    }

    /// Reads the first bytes of a body that is too long to keep.
    pub fn prefix(
        content_type: Option<&str>,
        content_encoding: Option<&str>,
        first: &[u8],
        wanted: &[impl AsRef<str>],
    ) -> Self {
        let read =
            Self::read(content_type, content_encoding, first, |first| peek_prefix(first, wanted));
        // Only an object names a model.
        let never = matches!(read, Self::Json(_)) && !begins_object(first);
        if never { Self::Nameless } else { read }
    }

    /// Does it name a model?
    pub fn names_model(&self) -> bool {
        match self {
            Self::Json(facts) => facts.model.is_some(),
            Self::Form(named) => named.is_some(),
            Self::Messages(name, _) => name.is_some(),
            Self::Absent | Self::Nameless | Self::Sealed | Self::Broken(_) => false,
        }
    }

    /// The beginning of a body names no model. May what follows still do?
    pub fn may_go_on(&self) -> bool {
        matches!(self, Self::Json(_) | Self::Form(_)) && !self.names_model()
    }

    fn read(
        content_type: Option<&str>,
        content_encoding: Option<&str>,
        body: &[u8],
        peek: impl FnOnce(&[u8]) -> Result<BodyFacts, BodyProblem>,
    ) -> Self {
        if body.is_empty() {
            return Self::Absent;
        }
        if is_coded(content_encoding) {
            return Self::Sealed;
        }
        match content_type {
            Some(kind) if is_form(kind) => Self::Form(peek_multipart(kind, body)),
            _ => peek(body).map_or_else(Self::Broken, Self::Json),
        }
    }
}

fn is_form(content_type: &str) -> bool {
    const FORM: &str = "multipart/form-data";
    content_type.trim_start().get(..FORM.len()).is_some_and(|t| t.eq_ignore_ascii_case(FORM))
}

/// Why no model could be read where one had to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unidentified {
    #[error(transparent)]
    Body(#[from] BodyProblem),
    #[error(transparent)]
    Query(#[from] TwoInQuery),
    #[error(transparent)]
    Path(#[from] PathProblem),
    #[error(
        "the body is compressed and is not opened: name the model in the path or a header, or send it uncompressed"
    )]
    Sealed,
}

impl Unidentified {
    /// The code of the refusal.
    pub fn code(&self) -> RefusalCode {
        match self {
            Self::Body(problem) => problem.code(),
            Self::Query(_) | Self::Path(_) => RefusalCode::BadRequest,
            Self::Sealed => RefusalCode::ModelUnreadable,
        }
    }

    /// The field to blame.
    pub fn param(&self) -> Option<&'static str> {
        match self {
            Self::Body(problem) => problem.param(),
            Self::Path(_) => None,
            Self::Query(_) | Self::Sealed => Some("model"),
        }
    }
}

/// Looks for the model's name in `sources`, in their order; the first that names one wins.
///
/// A body's `model` counts as it stands where the row of the path says that the body names the model. Elsewhere a body
/// belongs to somebody else's format, so there `model` counts only when it is `known`, and a body that is not JSON is no
/// error.
/// No name at all is not an error here: the caller has a `default_model`, or refuses.
pub fn identify(
    path: &PathFacts,
    body: BodyRead,
    sources: &[Source<'_>],
    known: impl Fn(&str) -> bool,
) -> Result<Facts, Unidentified> {
    let mut found = None;
    for source in sources {
        found = match source {
            Source::Path => {
                path.model.as_ref().map(|m| (m.name.clone(), FoundIn::Path(m.range.clone())))
            }
            Source::Body => named_in_body(path, &body, &known)?,
            Source::Header { name, value } => value
                .map(str::trim)
                .filter(|value| !value.is_empty())
                .map(|value| (value.to_owned(), FoundIn::Header((*name).to_owned()))),
            Source::Query { parameter, found, if_known } => {
                let named = found.clone()?.filter(|named| !if_known || known(&named.name));
                let parameter = (*parameter).to_owned();
                named.map(|Named { name, range }| (name, FoundIn::Query { parameter, range }))
            }
            Source::Captured(named) => {
                named.clone().map(|Named { name, range }| (name, FoundIn::Path(range)))
            }
        };
        if found.is_some() {
            break;
        }
    }
    let must_read = path.row.model == ModelAt::Body && sources.contains(&Source::Body);
    if found.is_none() && must_read && body == BodyRead::Sealed {
        return Err(Unidentified::Sealed);
    }
    let (model, found_in) = found.unzip();
    let (stream, fields) = match body {
        BodyRead::Json(facts) => (facts.stream, facts.fields),
        BodyRead::Absent
        | BodyRead::Form(_)
        | BodyRead::Messages(..)
        | BodyRead::Nameless
        | BodyRead::Sealed
        | BodyRead::Broken(_) => (false, Vec::new()),
    };
    let streaming = path.streams() || stream;
    Ok(Facts { model, found_in, streaming, fields, ..Facts::of_path(path) })
}

fn named_in_body(
    path: &PathFacts,
    body: &BodyRead,
    known: &impl Fn(&str) -> bool,
) -> Result<Option<(String, FoundIn)>, BodyProblem> {
    let ours = path.row.model == ModelAt::Body || path.call.is_some();
    let (named, place): (_, fn(Range<usize>) -> FoundIn) = match body {
        BodyRead::Json(facts) => (facts.model.as_ref(), FoundIn::Body),
        BodyRead::Form(named) => (named.as_ref(), FoundIn::Form),
        BodyRead::Messages(name, at) => {
            return Ok(name.clone().map(|name| (name, FoundIn::Messages(at))));
        }
        BodyRead::Broken(problem) if ours || *problem == BodyProblem::TwoModels => {
            return Err(problem.clone());
        }
        BodyRead::Broken(_) | BodyRead::Absent | BodyRead::Nameless | BodyRead::Sealed => {
            return Ok(None);
        }
    };
    Ok(named
        .filter(|named| ours || known(&named.name))
        .map(|named| (named.name.clone(), place(named.range.clone()))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::read_path;

    fn known(name: &str) -> bool {
        name == "chat"
    }

    fn ask(path: &str, body: &str, sources: &[Source<'_>]) -> Result<Facts, Unidentified> {
        let body = BodyRead::whole(Some("application/json"), None, body.as_bytes(), &["user"]);
        identify(&read_path(path).unwrap(), body, sources, known)
    }

    fn model(path: &str, body: &str, sources: &[Source<'_>]) -> Option<String> {
        ask(path, body, sources).unwrap().model
    }

    #[test]
    fn a_path_that_names_a_model_wins_over_the_body() {
        let found = model("/v2/models/a/infer", r#"{"model":"chat"}"#, &Source::DEFAULT);
        assert_eq!(found.as_deref(), Some("a"));
    }

    #[test]
    fn the_order_of_sources_is_kept() {
        let sources = [Source::Body, Source::Path];
        let found = model("/v2/models/a/infer", r#"{"model":"chat"}"#, &sources);
        assert_eq!(found.as_deref(), Some("chat"));
        let header = Source::Header { name: "x-model", value: Some("h") };
        let found = model("/v1/chat/completions", r#"{"model":"b"}"#, &[header, Source::Body]);
        assert_eq!(found.as_deref(), Some("h"));
        let absent = Source::Header { name: "x-model", value: None };
        let found = model("/v1/chat/completions", r#"{"model":"b"}"#, &[absent, Source::Body]);
        assert_eq!(found.as_deref(), Some("b"));
    }

    #[test]
    fn on_other_paths_only_a_known_model_counts() {
        assert_eq!(model("/score-me", r#"{"model":"tesla-3"}"#, &Source::DEFAULT), None);
        let found = model("/score-me", r#"{"model":"chat"}"#, &Source::DEFAULT);
        assert_eq!(found.as_deref(), Some("chat"));
        assert_eq!(model("/upload", "\u{1}\u{2} not json", &Source::DEFAULT), None);
        assert_eq!(model("/car", r#"{"model":3}"#, &Source::DEFAULT), None);
    }

    #[test]
    fn a_broken_body_is_an_error_where_it_has_to_name_the_model() {
        let problem = ask("/v1/chat/completions", "{", &Source::DEFAULT).unwrap_err();
        assert_eq!(problem.code(), RefusalCode::InvalidJson);
        assert!(ask("/v2/models/a/infer", "{", &Source::DEFAULT).is_ok());
    }

    #[test]
    fn two_models_are_refused_on_every_path_that_reads_the_body() {
        let twice = r#"{"model":"chat","mod\u0065l":"other"}"#;
        for path in ["/v1/chat/completions", "/score-me"] {
            let problem = ask(path, twice, &Source::DEFAULT).unwrap_err();
            assert_eq!(problem, Unidentified::Body(BodyProblem::TwoModels));
        }
    }

    #[test]
    fn a_compressed_body_needs_a_path_or_header() {
        let sealed = || BodyRead::whole(None, Some("gzip"), b"\x1f\x8b", &["user"; 0]);
        let chat = read_path("/v1/chat/completions").unwrap();
        let problem = identify(&chat, sealed(), &Source::DEFAULT, known).unwrap_err();
        assert_eq!(problem.code(), RefusalCode::ModelUnreadable);
        let header = Source::Header { name: "x-model", value: Some("chat") };
        let facts = identify(&chat, sealed(), &[Source::Body, header], known).unwrap();
        assert_eq!(facts.found_in, Some(FoundIn::Header("x-model".to_owned())));
    }

    #[test]
    fn streaming_and_wanted_fields_are_reported() {
        let facts = ask(
            "/v1/chat/completions",
            r#"{"model":"chat","stream":true,"user":"u1"}"#,
            &Source::DEFAULT,
        )
        .unwrap();
        assert!(facts.streaming);
        assert_eq!(facts.field("user"), Some("u1"));
        assert!(ask("/v2/models/a/generate_stream", "{}", &Source::DEFAULT).unwrap().streaming);
    }
}
