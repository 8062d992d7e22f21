//! The table of dialects: one row for each shape of path that model servers and their clients use.
//!
//! A new server is a row here and a line in its test. Everything else asks the row: routing, retries, error bodies,
//! error events, token counting, keys. Paths are matched by [`tree`]. The facts are from the documentation and source of
//! the servers named at each group.
mod hosted;
mod openai;
mod predict;
mod reference;
mod servers;
mod tree;

pub use reference::paths_reference;
pub(super) use tree::{Captured, Found, find};

use super::dialects::{Dialect, PathKind, StreamError, UsageAt};
use http::Method;

/// One shape of path, and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Row {
    /// Behind a base of its group. Segments are literal, `{model}`, or `{}` for any text; the last one may be `{model+}`
    /// (one or more segments), a capture with a `:verb`, or `*` (anything below, or nothing).
    pub path: &'static str,
    pub dialect: Dialect,
    pub kind: PathKind,
    pub duty: Duty,
    pub model: ModelAt,
    /// The path alone asks for a stream.
    pub streams: bool,
    /// What the error event of a stream looks like.
    pub stream_error: StreamError,
    pub usage: UsageAt,
    /// A POST has no other effect than its answer, so it may be sent twice.
    pub repeats: bool,
    /// Evener answers GET and HEAD itself.
    pub local: Option<Local>,
    /// The model's segment may hold encoded slashes.
    pub slashes: bool,
    /// A language model may serve behind a path of this kind, too: the body tells.
    pub or_llm: bool,
}

/// Rows under each of several bases.
#[derive(Debug)]
pub struct Group {
    /// Whose paths these are, for people.
    pub title: &'static str,
    pub bases: &'static [&'static str],
    /// Where its servers say that they are ready; empty: nowhere.
    pub health: &'static str,
    pub rows: &'static [Row],
}

/// All rows.
pub const GROUPS: &[Group] = &[
    openai::OPENAI,
    openai::BARE,
    hosted::AZURE,
    hosted::ANTHROPIC,
    hosted::COHERE,
    hosted::BEDROCK,
    hosted::SAGEMAKER,
    hosted::GEMINI,
    predict::KSERVE_V1,
    predict::KSERVE_V2,
    predict::TORCHSERVE,
    predict::CONTAINERS,
    servers::OLLAMA,
    servers::TGI,
    servers::TEI,
    servers::VLLM,
    servers::SGLANG,
    servers::LLAMA_CPP,
    servers::EVENER,
];

/// What a row's path is for, by method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// A model works on it.
    Inference,
    /// It asks for facts, whatever the method.
    Lookup,
    /// It shows facts to GET, HEAD and OPTIONS; any other method changes the server.
    Page,
    /// It changes the server or what the server stores, or shows what concerns its operator alone.
    Management,
    /// Nothing is known.
    Unknown,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A model works on it.
    Inference,
    /// It asks for facts: metadata, readiness, statistics.
    Information,
    /// It changes the model server: load, unload, sleep, flush, repositories, files.
    Management,
    /// Nothing is known.
    Unknown,
}

impl Duty {
    pub fn purpose(self, method: &Method) -> Purpose {
        let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
        match self {
            Self::Inference => Purpose::Inference,
            Self::Lookup => Purpose::Information,
            Self::Page if reads => Purpose::Information,
            Self::Page | Self::Management => Purpose::Management,
            Self::Unknown => Purpose::Unknown,
        }
    }
}

/// Where a request names its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelAt {
    /// The captured segment.
    Path,
    /// The field `model` of a JSON body or form, whatever it says.
    Body,
    /// The same field, where it is the name of a model that exists: the format is somebody else's.
    KnownBody,
    /// This parameter of the query, else as [`Self::KnownBody`].
    Query(&'static str),
}

/// Paths that Evener answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Local {
    /// `/v1/models`: models and aliases.
    OpenAiModels,
    /// `/v1/models/{id}` of a name of its own, where the client means Evener.
    OpenAiModel,
    /// `/v2`: server metadata.
    V2Server,
    /// `/v2/health/live`.
    V2Live,
    /// `/v2/health/ready`.
    V2Ready,
    /// `/healthz`, for load balancers in front.
    Healthz,
    /// `/metrics`, which are not here.
    Metrics,
}

impl Row {
    /// The row of a path that no other row has.
    pub const UNKNOWN: Self = Self {
        path: "",
        dialect: Dialect::Plain,
        kind: PathKind::Raw,
        duty: Duty::Unknown,
        model: ModelAt::KnownBody,
        streams: false,
        stream_error: StreamError::OpenAi,
        usage: UsageAt::Nowhere,
        repeats: false,
        local: None,
        slashes: false,
        or_llm: false,
    };

    /// The row of each call of gRPC.
    pub const CALL: Self =
        Self { dialect: Dialect::Grpc, stream_error: StreamError::None, ..Self::UNKNOWN };

    const fn new(path: &'static str, dialect: Dialect, duty: Duty) -> Self {
        let stream_error = dialect.stream_error();
        Self { path, dialect, duty, stream_error, ..Self::UNKNOWN }
    }

    /// A model works on it, and its body names the model.
    const fn llm(path: &'static str, dialect: Dialect) -> Self {
        let row = Self::new(path, dialect, Duty::Inference);
        let usage = dialect.usage();
        Self { kind: PathKind::Llm, model: ModelAt::Body, usage, repeats: true, ..row }
    }

    /// As [`Self::llm`], for tensors and media.
    const fn predict(path: &'static str, dialect: Dialect) -> Self {
        Self { kind: PathKind::Predict, ..Self::llm(path, dialect) }
    }

    const fn page(path: &'static str, dialect: Dialect) -> Self {
        Self::new(path, dialect, Duty::Page)
    }

    const fn manages(path: &'static str, dialect: Dialect) -> Self {
        Self::new(path, dialect, Duty::Management)
    }

    const fn answered(path: &'static str, dialect: Dialect, local: Local) -> Self {
        Self { local: Some(local), ..Self::page(path, dialect) }
    }

    const fn in_path(self) -> Self {
        Self { model: ModelAt::Path, ..self }
    }

    const fn if_known(self) -> Self {
        Self { model: ModelAt::KnownBody, ..self }
    }

    const fn streaming(self) -> Self {
        Self { streams: true, ..self }
    }

    /// A language model may serve behind it, too.
    const fn or_llm(self) -> Self {
        Self { or_llm: true, ..self }
    }

    const fn once(self) -> Self {
        Self { repeats: false, ..self }
    }

    const fn with_slashes(self) -> Self {
        Self { slashes: true, ..self }
    }
}
