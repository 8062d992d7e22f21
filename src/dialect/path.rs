//! Reads a request's path: the row of the table that it belongs to, and the model it names.
//!
//! Segments are split at raw slashes first and decoded afterwards, so that an encoded slash can never
//! move a border; comparison is on the decoded text.
use super::dialects::{Dialect, PathKind};
use super::escape::{Slash, decode, raw_len};
use super::grpc::Call;
use super::name::Named;
use super::rows::{Captured, Found, Local, Purpose, Row, find};
use http::Method;
use std::borrow::Cow;

/// What a path says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathFacts {
    /// What is known of its shape.
    pub row: &'static Row,
    /// The model, with its byte range in the raw path.
    pub model: Option<Named>,
    /// What the path means in gRPC, where the head says that it is.
    pub call: Option<Call>,
}

impl Default for PathFacts {
    fn default() -> Self {
        Self { row: &Row::UNKNOWN, model: None, call: None }
    }
}

impl PathFacts {
    /// What the path of a call says.
    pub fn of_call(call: Call) -> Self {
        Self { row: &Row::CALL, model: None, call: Some(call) }
    }

    pub fn dialect(&self) -> Dialect {
        self.row.dialect
    }

    pub fn kind(&self) -> PathKind {
        self.call.map_or(self.row.kind, |call| call.kind)
    }

    /// What a request of this path is for.
    pub fn purpose(&self, method: &Method) -> Purpose {
        self.call.map_or_else(|| self.row.duty.purpose(method), |call| call.purpose)
    }

    /// The path alone asks for a stream.
    pub fn streams(&self) -> bool {
        self.call.map_or(self.row.streams, |call| call.converses())
    }

    /// A POST has no other effect than its answer.
    pub fn repeats(&self) -> bool {
        match self.call {
            Some(call) => call.name_at.is_some() && call.purpose != Purpose::Management,
            None => self.row.repeats,
        }
    }

    /// Evener answers this path itself.
    pub fn local(&self, method: &Method) -> Option<Local> {
        self.row.local.filter(|_| [Method::GET, Method::HEAD].contains(method))
    }
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
    let raw = without_query(raw_path);
    let start = usize::from(raw.starts_with('/'));
    let raw = &raw[start..];
    let (text, _) = decode(raw, Slash::Kept);
    if has_dot_segment(&text) {
        return Err(PathProblem::DotSegment);
    }
    let escaped = matches!(text, Cow::Owned(_));
    if escaped && text.contains('\0') {
        return Err(PathProblem::EncodedNul);
    }
    // One slash at the end means the same to all servers of the table.
    let path = text.strip_suffix('/').unwrap_or(&text);
    let found = find(path);
    if escaped && text.contains("%2F") {
        refuse_slashes(path, found)?;
    }
    let Some(Found { row, model }) = found else { return Ok(PathFacts::default()) };
    let model = model.map(|model| named(raw, start, model, row.slashes)).transpose()?;
    Ok(PathFacts { row, model: model.flatten(), call: None })
}

/// The segment of this number in a raw path, as a name; nothing when it is empty or there are fewer.
pub fn segment_of(raw_path: &str, number: usize) -> Result<Option<Named>, PathProblem> {
    let raw = without_query(raw_path);
    let start = usize::from(raw.starts_with('/'));
    let captured = Captured { segment: number, to_end: false, verb: 0 };
    let named = named(&raw[start..], start, captured, false)?;
    match named {
        Some(named) if named.name.contains("%2F") => Err(PathProblem::EncodedSlash),
        named => Ok(named),
    }
}

/// The path as routes compare it: decoded, but an encoded slash stays `%2F`; without the query.
pub fn decoded_path(raw_path: &str) -> Cow<'_, str> {
    decode(without_query(raw_path), Slash::Kept).0
}

pub(super) fn without_query(raw: &str) -> &str {
    match memchr::memchr2(b'?', b'#', raw.as_bytes()) {
        Some(end) => &raw[..end],
        None => raw,
    }
}

fn has_dot_segment(path: &str) -> bool {
    let dotted = memchr::memchr(b'.', path.as_bytes()).is_some();
    dotted && path.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// An encoded slash may stand in a name that can hold one, and in paths that no server of the table has. Anywhere else a
/// server that takes it for a slash would read another path than Evener did.
fn refuse_slashes(path: &str, found: Option<Found>) -> Result<(), PathProblem> {
    if let Some(Found { row: Row { slashes: true, .. }, model: Some(model) }) = found {
        let mut segments = path.split('/').enumerate();
        let within = |number| number == model.segment || model.to_end && number > model.segment;
        let misplaced =
            |(number, segment): (usize, &str)| segment.contains("%2F") && !within(number);
        return if segments.any(misplaced) { Err(PathProblem::EncodedSlash) } else { Ok(()) };
    }
    let ours = |path: &str| {
        let api = path.split('/').next().and_then(|first| first.split("%2F").next());
        matches!(api, Some("v1" | "v2" | "openai"))
    };
    let meant = || find(path.replace("%2F", "/").trim_end_matches('/')).is_some();
    if found.is_some() || ours(path) || meant() { Err(PathProblem::EncodedSlash) } else { Ok(()) }
}

/// The name in a raw path that begins at `start`; nothing when it is empty.
fn named(
    raw: &str,
    start: usize,
    model: Captured,
    slashes: bool,
) -> Result<Option<Named>, PathProblem> {
    let raw = raw.strip_suffix('/').unwrap_or(raw);
    let skipped =
        raw.split('/').take(model.segment).map(|segment| segment.len() + 1).sum::<usize>();
    let rest = raw.get(skipped..).unwrap_or_default();
    let spelled = if model.to_end { rest } else { rest.split('/').next().unwrap_or_default() };
    let (text, sound) = decode(spelled, if slashes { Slash::Decoded } else { Slash::Kept });
    if !sound {
        return Err(PathProblem::BadEscape);
    }
    let decoded = text.len() - model.verb;
    let name = text[..decoded].to_owned();
    let end = if model.verb == 0 { spelled.len() } else { raw_len(spelled, decoded) };
    let range = start + skipped..start + skipped + end;
    Ok((!name.is_empty()).then_some(Named { name, range }))
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
        (facts.dialect(), facts.model.map(|m| (m.name, &path[m.range])))
    }

    #[test]
    fn v2_paths_name_their_model() {
        for rest in ["infer", "generate", "ready", "versions/3/infer", "versions/3/ready", "config"]
        {
            let path = format!("/v2/models/m%201/{rest}?x=/v2/models/q");
            assert_eq!(found(&path), (Dialect::KServeV2, Some(("m 1".to_owned(), "m%201"))));
        }
        assert_eq!(found("/v2/models/m").1, Some(("m".to_owned(), "m")));
        assert_eq!(facts("/v2/models/m/infer").kind(), PathKind::Predict);
        assert_eq!(facts("/v2/models/m/versions/1/generate_stream").kind(), PathKind::Llm);
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
            assert_eq!(facts(&path).local(&Method::GET), Some(Local::OpenAiModel));
        }
    }

    #[test]
    fn an_id_may_hold_encoded_slashes_where_its_row_says_so() {
        let llama = Some(("meta-llama/Llama-3.1".to_owned(), "meta-llama%2FLlama-3.1"));
        assert_eq!(found("/v1/models/meta-llama%2FLlama-3.1"), (Dialect::OpenAi, llama));
        let arn = Some(("arn:aws:x/y".to_owned(), "arn%3Aaws%3Ax%2fy"));
        assert_eq!(found("/model/arn%3Aaws%3Ax%2fy/converse"), (Dialect::Aws, arn));
        let twice = Some(("a%2Fb".to_owned(), "a%252Fb"));
        assert_eq!(found("/v1/models/a%252Fb").1, twice);
    }

    #[test]
    fn a_name_in_the_path_is_found_in_each_dialect() {
        let m = Some(("m".to_owned(), "m"));
        for (path, dialect, kind, streams) in [
            (
                "/openai/deployments/m/chat/completions?api-version=1",
                Dialect::OpenAi,
                PathKind::Llm,
                false,
            ),
            ("/v1beta/models/m:generateContent", Dialect::Google, PathKind::Llm, false),
            ("/v1/models/m:streamGenerateContent?alt=sse", Dialect::Google, PathKind::Llm, true),
            (
                "/v1/projects/p/locations/l/endpoints/m:predict",
                Dialect::Google,
                PathKind::Predict,
                false,
            ),
            ("/model/m/converse-stream", Dialect::Aws, PathKind::Llm, true),
            ("/endpoints/m/invocations", Dialect::Aws, PathKind::Predict, false),
            ("/predictions/m/1.0", Dialect::TorchServe, PathKind::Predict, false),
            ("/v2/models/m/generate_stream", Dialect::KServeV2, PathKind::Llm, true),
            ("/v2/repository/models/m/load", Dialect::KServeV2, PathKind::Raw, false),
        ] {
            assert_eq!(found(path), (dialect, m.clone()), "{path}");
            assert_eq!((facts(path).kind(), facts(path).streams()), (kind, streams), "{path}");
        }
    }

    #[test]
    fn what_a_path_is_for_depends_on_its_row_and_method() {
        use Purpose::{Inference, Information, Management, Unknown};
        let (get, post) = (&Method::GET, &Method::POST);
        for (path, asked, posted) in [
            ("/v1/chat/completions", Inference, Inference),
            ("/v2/models/m/ready", Information, Management),
            ("/v2/models/m/trace/setting", Information, Management),
            ("/v2/repository/index", Management, Management),
            ("/v1/load_lora_adapter", Management, Management),
            ("/v1/models", Information, Management),
            ("/api/show", Information, Information),
            ("/api/delete", Management, Management),
            ("/flush_cache", Management, Management),
            ("/metrics", Management, Management),
            ("/nobody/knows", Unknown, Unknown),
        ] {
            let facts = facts(path);
            assert_eq!((facts.purpose(get), facts.purpose(post)), (asked, posted), "{path}");
        }
    }

    #[test]
    fn openai_paths_leave_the_name_to_the_body() {
        let all = "/v1/chat/completions /v1/completions /v1/embeddings /v1/responses /v1/rerank /rerank \
                   /v1/score /v1/moderations /v1/audio/speech /v1/images/edits /tokenize /chat/completions \
                   /openai/v1/chat/completions /v1/chat/completions/ /v1/%63hat/completions \
                   /api/v1/chat/completions /v3/embeddings /v1/responses/r1/cancel";
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
            assert_eq!(facts(path).local(&Method::GET), Some(local), "{path}");
            assert_eq!(facts(path).local(&Method::POST), None, "{path}");
        }
    }

    #[test]
    fn other_paths_are_plain() {
        for path in
            ["", "/", "*", "/score-me", "/v1", "/v1//chat/completions", "/v1/chat", "/files/a%2Fb"]
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
            ("/v1/models/a%2Fb:predict", EncodedSlash),
            ("/v2%2Frepository/index", EncodedSlash),
            ("/api%2Fdelete", EncodedSlash),
            ("/model%2Fm/converse", EncodedSlash),
            ("/model/m/converse%2F", EncodedSlash),
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

        #[test]
        fn an_escaped_name_is_read_as_the_plain_one(name in "[a-z :é]{1,8}", each: bool) {
            let hex = |byte: u8| format!("%{byte:02x}");
            let plain = |byte: u8| byte.is_ascii_lowercase() && !each;
            let spell = |byte| if plain(byte) { char::from(byte).to_string() } else { hex(byte) };
            let spelled: String = name.bytes().map(spell).collect();
            for (before, after) in [("/v2/models/", "/infer"), ("/predictions/", ""), ("/model/", "/invoke")] {
                let path = format!("{before}{spelled}{after}");
                let named = read_path(&path).unwrap().model.unwrap();
                prop_assert_eq!((&named.name, &path[named.range]), (&name, &*spelled));
            }
        }
    }
}
