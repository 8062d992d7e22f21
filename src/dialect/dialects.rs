//! The dialects that clients and model servers speak, and what is the same on all paths of each.

/// How a client speaks to a model. What each means for a path stands in the table of [`Row`](super::Row)s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Dialect {
    /// `/v1/chat/completions` and its siblings.
    OpenAi,
    /// `/v1/messages`.
    Anthropic,
    /// `/v1beta/models/{m}:generateContent`: Gemini and Vertex AI.
    Google,
    /// `/v2/chat`.
    Cohere,
    /// `/model/{m}/converse`, `/endpoints/{m}/invocations`: Bedrock and SageMaker.
    Aws,
    /// `/api/chat`.
    Ollama,
    /// `/generate`, `/embed`: Text Generation Inference and Text Embeddings Inference.
    Tgi,
    /// `/predictions/{m}`.
    TorchServe,
    /// `/v1/models/{m}:predict` (KServe V1, TF-Serving).
    KServeV1,
    /// `/v2/models/{m}/infer`.
    KServeV2,
    /// Any service of gRPC.
    Grpc,
    /// Any other path.
    #[default]
    Plain,
}

/// How an answer's content is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerFormat {
    /// Choices, messages, responses, embeddings.
    OpenAi,
    /// Predictions and tensors.
    KServe,
    /// Any JSON.
    Unknown,
}

/// The shape of an error inside a stream that began well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamError {
    /// `{"error": {"message", "type", "param", "code", "request_id"}}`.
    OpenAi,
    /// OpenAI's Responses: an event `error`, then `response.failed`.
    Responses,
    /// An event `error` with `{"type": "error", "error": {"type", "message"}}`.
    Anthropic,
    /// `{"error": {"code", "message", "status"}}`.
    Google,
    /// `{"error": "text"}`.
    Text,
    /// `{"error": "text", "error_type": "…"}`.
    Tgi,
    /// There is none that clients raise for: the stream is cut.
    None,
}

/// Where an answer says how many tokens it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageAt {
    /// It does not.
    Nowhere,
    /// `usage` at the end of the body or in the last events.
    OpenAi,
    /// `usage` in pieces: `message_start` has the prompt, `message_delta` the answer.
    Anthropic,
    /// `prompt_eval_count` and `eval_count` in the last line.
    Ollama,
    /// `usageMetadata`.
    Google,
    /// `usage` with `inputTokens` and `outputTokens`.
    Converse,
    /// `details` of the last event.
    Tgi,
}

impl Dialect {
    pub const fn answer_format(self) -> AnswerFormat {
        match self {
            // Its messages are read beside those of OpenAI.
            Self::OpenAi | Self::Anthropic => AnswerFormat::OpenAi,
            Self::KServeV1 | Self::KServeV2 => AnswerFormat::KServe,
            Self::Google
            | Self::Cohere
            | Self::Aws
            | Self::Ollama
            | Self::Tgi
            | Self::TorchServe
            | Self::Grpc
            | Self::Plain => AnswerFormat::Unknown,
        }
    }
}

impl Dialect {
    /// Is it known what its answers look like? Elsewhere a page or a field `error` may be what was asked for.
    pub const fn has_known_answers(self) -> bool {
        match self {
            Self::OpenAi
            | Self::Anthropic
            | Self::Google
            | Self::Cohere
            | Self::Ollama
            | Self::Tgi
            | Self::KServeV1
            | Self::KServeV2 => true,
            Self::Aws | Self::TorchServe | Self::Grpc | Self::Plain => false,
        }
    }
}

/// What kind of work a path asks for; `kind: auto` of a model follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum PathKind {
    /// Text in, tokens out: chat, completions, embeddings, V2 `generate`.
    Llm,
    /// Tensors or media in, an answer out: V1, V2 `infer`, audio, images.
    Predict,
    /// Nothing is known.
    #[default]
    Raw,
}

impl Dialect {
    pub(super) const fn stream_error(self) -> StreamError {
        match self {
            Self::OpenAi | Self::Plain => StreamError::OpenAi,
            Self::Anthropic => StreamError::Anthropic,
            Self::Google => StreamError::Google,
            Self::KServeV1 | Self::KServeV2 | Self::Ollama => StreamError::Text,
            Self::Tgi => StreamError::Tgi,
            Self::Cohere | Self::Aws | Self::TorchServe | Self::Grpc => StreamError::None,
        }
    }

    pub(super) const fn usage(self) -> UsageAt {
        match self {
            Self::OpenAi | Self::Cohere => UsageAt::OpenAi,
            Self::Anthropic => UsageAt::Anthropic,
            Self::Google => UsageAt::Google,
            Self::Ollama => UsageAt::Ollama,
            Self::Tgi => UsageAt::Tgi,
            Self::KServeV1
            | Self::KServeV2
            | Self::Aws
            | Self::TorchServe
            | Self::Grpc
            | Self::Plain => UsageAt::Nowhere,
        }
    }
}
