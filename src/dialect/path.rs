//! Reads a request's path: the dialect it speaks, the model it names, what Evener answers itself.
//!
//! Segments are split at raw slashes first and decoded afterwards, so that an encoded slash can never
//! move a border; comparison is on the decoded text.
use super::facts::{Dialect, Named, PathKind};
use super::grpc::Call;
use std::borrow::Cow;

/// What a path says.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PathFacts {
    pub dialect: Dialect,
    pub kind: PathKind,
    /// The model, with its byte range in the raw path.
    pub model: Option<Named>,
    /// Evener answers this path itself, when it is asked with GET or HEAD.
    pub local: Option<Local>,
    /// The path alone asks for a stream (V2 `generate_stream`).
    pub streams: bool,
    /// What the path means in gRPC, where the head says that it is.
    pub call: Option<Call>,
}

impl PathFacts {
    /// What the path of a call says.
    pub fn of_call(call: Call) -> Self {
        let (dialect, kind, streams) = (Dialect::Grpc, call.kind, call.converses());
        Self { dialect, kind, streams, call: Some(call), ..Self::default() }
    }
}

/// Paths that Evener answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Local {
    /// `/v1/models`: models and aliases.
    OpenAiModels,
    /// `/v2`: server metadata.
    V2Server,
    /// `/v2/health/live`.
    V2Live,
    /// `/v2/health/ready`.
    V2Ready,
    /// `/healthz`, for load balancers in front.
    Healthz,
}

/// Why a path is refused with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    #[error("the path has a `.` or `..` segment: send it resolved")]
    DotSegment,
    #[error("a segment of the path has an encoded slash (`%2F`), which model paths cannot carry")]
    EncodedSlash,
    #[error("the path has an encoded NUL (`%00`)")]
    EncodedNul,
    #[error("the path has a percent sign that is not the start of an encoded UTF-8 text")]
    BadEscape,
}

/// Reads a raw path (a query after it is ignored).
pub fn read_path(raw_path: &str) -> Result<PathFacts, PathProblem> {
    let path = without_query(raw_path);
    let mut segments = split(path);
    if segments.iter().any(|s| matches!(&*s.text, "." | "..")) {
        return Err(PathProblem::DotSegment);
    }
    if segments.iter().any(|s| s.text.contains('\0')) {
        return Err(PathProblem::EncodedNul);
    }
    if segments.len() > 1 && segments.last().is_some_and(|s| s.raw.is_empty()) {
        segments.pop();
    }
    // KServe's Hugging Face server puts OpenAI's API under `/openai/v1`.
    let skip = usize::from(segments.first().is_some_and(|s| s.text == "openai"));
    let segments = &segments[skip..];
    let texts: Vec<&str> = segments.iter().map(|s| &*s.text).collect();
    let facts = match texts.as_slice() {
        ["v1", "models", ..] => read_v1(path, &segments[2..], &texts[2..])?,
        ["v2", ..] if skip == 0 => read_v2(path, &segments[1..], &texts[1..])?,
        ["v1", rest @ ..] => read_openai(rest),
        ["healthz"] if skip == 0 => local(Dialect::Plain, Local::Healthz),
        ["rerank" | "score" | "tokenize" | "detokenize" | "pooling" | "classify"] if skip == 0 => {
            openai(PathKind::Llm)
        }
        _ => PathFacts::default(),
    };
    let api = texts.first().and_then(|t| t.split("%2F").next());
    let ours = skip == 1 || matches!(api, Some("v1" | "v2" | "openai"));
    if ours && segments.iter().any(|s| s.text.contains("%2F")) {
        return Err(PathProblem::EncodedSlash);
    }
    Ok(facts)
}

/// The path as routes compare it: decoded, but an encoded slash stays `%2F`; without the query.
pub fn decoded_path(raw_path: &str) -> Cow<'_, str> {
    decode(without_query(raw_path)).0
}

fn without_query(raw: &str) -> &str {
    raw.split(['?', '#']).next().unwrap_or_default()
}

fn local(dialect: Dialect, local: Local) -> PathFacts {
    PathFacts { dialect, local: Some(local), ..PathFacts::default() }
}

fn openai(kind: PathKind) -> PathFacts {
    PathFacts { dialect: Dialect::OpenAi, kind, ..PathFacts::default() }
}

fn read_openai(after_v1: &[&str]) -> PathFacts {
    match after_v1 {
        [
            "completions" | "embeddings" | "messages" | "moderations" | "rerank" | "responses"
            | "score",
            ..,
        ]
        | ["chat", "completions", ..] => openai(PathKind::Llm),
        ["audio" | "images", _, ..] => openai(PathKind::Predict),
        _ => PathFacts::default(),
    }
}

/// `/v1/models` and below. OpenAI's `GET /v1/models/{id}` is V1's per-model GET as well; its ids may
/// hold slashes (`meta-llama/Llama-3.1-8B`), so all that remains is the name.
fn read_v1(path: &str, rest: &[Segment<'_>], texts: &[&str]) -> Result<PathFacts, PathProblem> {
    const VERBS: [&str; 4] = [":predict", ":classify", ":regress", ":explain"];
    let Some(last) = texts.last() else {
        return Ok(local(Dialect::OpenAi, Local::OpenAiModels));
    };
    let verb = VERBS.into_iter().find(|verb| last.ends_with(verb));
    let (dialect, named) = match texts {
        [_, "versions" | "labels", _, ..] | [_, "metadata"] => {
            (Dialect::KServeV1, named(path, &rest[..1], 0)?)
        }
        _ => match verb {
            Some(verb) => (Dialect::KServeV1, named(path, rest, verb.len())?),
            None => (Dialect::OpenAi, named(path, rest, 0)?),
        },
    };
    Ok(PathFacts { dialect, kind: PathKind::Predict, model: named, ..PathFacts::default() })
}

/// `/v2` and below. What follows the name (`infer`, `versions/3/infer`, `ready`, `config`) goes to the
/// replica as it is; `versions/{v}` is the model server's business, never our split.
fn read_v2(path: &str, rest: &[Segment<'_>], texts: &[&str]) -> Result<PathFacts, PathProblem> {
    let v2 = Dialect::KServeV2;
    match texts {
        [] => Ok(local(v2, Local::V2Server)),
        ["health", "live"] => Ok(local(v2, Local::V2Live)),
        ["health", "ready"] => Ok(local(v2, Local::V2Ready)),
        ["models", _, after @ ..] => {
            let generates = matches!(after.last(), Some(&("generate" | "generate_stream")));
            Ok(PathFacts {
                dialect: v2,
                kind: if generates { PathKind::Llm } else { PathKind::Predict },
                model: named(path, &rest[1..2], 0)?,
                local: None,
                streams: after.last() == Some(&"generate_stream"),
                call: None,
            })
        }
        ["rerank"] => Ok(openai(PathKind::Llm)),
        _ => Ok(PathFacts { dialect: v2, ..PathFacts::default() }),
    }
}

/// The name that `segments` spell together, without the last `cut` decoded bytes (a `:verb`).
fn named(path: &str, segments: &[Segment<'_>], cut: usize) -> Result<Option<Named>, PathProblem> {
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return Ok(None) };
    if segments.iter().any(|s| s.text.contains("%2F")) {
        return Err(PathProblem::EncodedSlash);
    }
    if !segments.iter().all(|s| s.sound) {
        return Err(PathProblem::BadEscape);
    }
    let end = last.start + raw_len(last.raw, last.text.len() - cut);
    let name = decode(&path[first.start..end]).0.into_owned();
    Ok((!name.is_empty()).then_some(Named { name, range: first.start..end }))
}

struct Segment<'a> {
    /// Where it begins in the raw path.
    start: usize,
    raw: &'a str,
    text: Cow<'a, str>,
    /// Each of its escapes was well-formed and the whole is UTF-8.
    sound: bool,
}

fn split(path: &str) -> Vec<Segment<'_>> {
    let mut start = usize::from(path.starts_with('/'));
    path[start..]
        .split('/')
        .map(|raw| {
            let (text, sound) = decode(raw);
            let segment = Segment { start, raw, text, sound };
            start += raw.len() + 1;
            segment
        })
        .collect()
}

/// Decodes escapes, all but that of the slash, which becomes `%2F`; and whether all were well-formed.
fn decode(raw: &str) -> (Cow<'_, str>, bool) {
    if !raw.contains('%') {
        return (Cow::Borrowed(raw), true);
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut sound = true;
    let mut rest = raw.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, escape(after)) {
            (b'%', Some(b'/')) => {
                bytes.extend_from_slice(b"%2F");
                rest = &after[2..];
            }
            (b'%', Some(value)) => {
                bytes.push(value);
                rest = &after[2..];
            }
            (b'%', None) => {
                sound = false;
                bytes.push(byte);
            }
            _ => bytes.push(byte),
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) => (Cow::Owned(text), sound),
        Err(error) => (Cow::Owned(String::from_utf8_lossy(error.as_bytes()).into_owned()), false),
    }
}

/// The byte that two hexadecimal digits after a `%` stand for.
fn escape(after: &[u8]) -> Option<u8> {
    let digit = |i: usize| after.get(i).and_then(|&b| char::from(b).to_digit(16));
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

/// How many raw bytes spell the first `decoded` bytes of a sound segment without encoded slashes.
fn raw_len(raw: &str, decoded: usize) -> usize {
    let bytes = raw.as_bytes();
    (0..decoded).fold(0, |at, _| if bytes.get(at) == Some(&b'%') { at + 3 } else { at + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn facts(path: &str) -> PathFacts {
        read_path(path).unwrap()
    }

    /// Dialect, name, and the raw bytes of the range.
    fn found(path: &str) -> (Dialect, Option<(String, &str)>) {
        let facts = facts(path);
        (facts.dialect, facts.model.map(|m| (m.name, &path[m.range])))
    }

    #[test]
    fn v2_paths_name_their_model() {
        for rest in ["infer", "generate", "ready", "versions/3/infer", "versions/3/ready", "config"]
        {
            let path = format!("/v2/models/m%201/{rest}?x=/v2/models/q");
            assert_eq!(found(&path), (Dialect::KServeV2, Some(("m 1".to_owned(), "m%201"))));
        }
        assert_eq!(found("/v2/models/m").1, Some(("m".to_owned(), "m")));
        assert_eq!(facts("/v2/models/m/infer").kind, PathKind::Predict);
        assert_eq!(facts("/v2/models/m/versions/1/generate_stream").kind, PathKind::Llm);
    }

    #[test]
    fn v1_verbs_are_cut_from_the_name() {
        let m = Some(("m".to_owned(), "m"));
        for verb in ["predict", "classify", "regress", "explain"] {
            assert_eq!(found(&format!("/v1/models/m:{verb}")), (Dialect::KServeV1, m.clone()));
            assert_eq!(found(&format!("/v1/models/m%3A{verb}")), (Dialect::KServeV1, m.clone()));
        }
        for rest in ["/versions/2:predict", "/labels/stable:predict", "/metadata", "/versions/2"] {
            assert_eq!(found(&format!("/v1/models/m{rest}")), (Dialect::KServeV1, m.clone()));
        }
        let named = found("/v1/models/%6D%C3%A9:predict").1;
        assert_eq!(named, Some(("mé".to_owned(), "%6D%C3%A9")));
    }

    #[test]
    fn a_model_may_be_asked_for_by_a_name_with_slashes_or_colons() {
        for id in ["m", "meta-llama/Llama-3.1-8B", "llama3:8b"] {
            let path = format!("/v1/models/{id}");
            assert_eq!(found(&path), (Dialect::OpenAi, Some((id.to_owned(), id))));
            assert_eq!(facts(&path).local, None);
        }
    }

    #[test]
    fn openai_paths_leave_the_name_to_the_body() {
        let all = "/v1/chat/completions /v1/completions /v1/embeddings /v1/responses /v1/rerank /rerank \
                   /v1/score /v1/moderations /v1/audio/speech /v1/images/edits /tokenize /v1/messages \
                   /openai/v1/chat/completions /v1/chat/completions/ /v1/%63hat/completions";
        for path in all.split_whitespace() {
            assert_eq!(found(path), (Dialect::OpenAi, None), "{path}");
        }
    }

    #[test]
    fn some_paths_are_answered_by_evener() {
        let all = [
            ("/v1/models", Local::OpenAiModels),
            ("/v1/models/?limit=2", Local::OpenAiModels),
            ("/v2", Local::V2Server),
            ("/v2/", Local::V2Server),
            ("/v2/health/live", Local::V2Live),
            ("/v2/health/ready", Local::V2Ready),
            ("/healthz", Local::Healthz),
        ];
        for (path, local) in all {
            assert_eq!(facts(path).local, Some(local), "{path}");
        }
    }

    #[test]
    fn other_paths_are_plain() {
        for path in
            ["", "/", "*", "/predict", "/v1", "/v1//chat/completions", "/v1/chat", "/files/a%2Fb"]
        {
            assert_eq!(facts(path), PathFacts::default(), "{path}");
        }
    }

    #[test]
    fn tricks_are_refused() {
        use PathProblem::{BadEscape, DotSegment, EncodedNul, EncodedSlash};
        let all = [
            ("/v2/models/../secret", DotSegment),
            ("/v2/models/%2e%2E/infer", DotSegment),
            ("/files/./x", DotSegment),
            ("/v2/models/a%2fb/infer", EncodedSlash),
            ("/v1/models/a%2Fb", EncodedSlash),
            ("/v1%2fchat/completions", EncodedSlash),
            ("/v1/chat%2fcompletions", EncodedSlash),
            ("/v2/models/a%00/infer", EncodedNul),
            ("/v2/models/a%zz/infer", BadEscape),
            ("/v2/models/a%ff/infer", BadEscape),
            ("/v2/models/a%", BadEscape),
        ];
        for (path, problem) in all {
            assert_eq!(read_path(path), Err(problem), "{path}");
        }
    }

    #[test]
    fn routes_see_the_path_decoded_but_for_slashes() {
        assert_eq!(decoded_path("/a%20b%2fc?d=%20"), "/a b%2Fc");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(path in ".*") {
            drop(read_path(&path));
            drop(read_path(&format!("/v1/models/{path}:predict")));
            drop(read_path(&format!("/v2/models/{path}/infer")));
        }

        #[test]
        fn a_range_always_spells_its_name(name in "[^/?#%]{0,8}", verb in "(:predict)?") {
            let path = format!("/v1/models/{name}{verb}");
            if let Ok(PathFacts { model: Some(named), .. }) = read_path(&path) {
                prop_assert_eq!(&path[named.range], named.name);
            }
        }
    }
}
