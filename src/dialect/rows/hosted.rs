//! The APIs of hosted models that gateways and self-hosted servers answer too.
use super::{Duty, Group, ModelAt, Row, StreamError, UsageAt};
use crate::dialect::Dialect::{Anthropic, Aws, Cohere, Google, OpenAi};
use crate::dialect::PathKind;

/// <https://learn.microsoft.com/azure/ai-services/openai/reference>. The version of the API stands in the query.
pub(super) const AZURE: Group = Group {
    title: "Azure OpenAI",
    bases: &["/openai"],
    health: "",
    rows: &[
        Row::llm("/deployments/{model}/chat/completions", OpenAi).in_path(),
        Row::llm("/deployments/{model}/completions", OpenAi).in_path(),
        Row::llm("/deployments/{model}/embeddings", OpenAi).in_path(),
        Row {
            stream_error: StreamError::Responses,
            ..Row::llm("/deployments/{model}/responses", OpenAi).in_path()
        },
        Row::predict("/deployments/{model}/audio/{}", OpenAi).in_path(),
        Row::predict("/deployments/{model}/images/{}", OpenAi).in_path(),
        Row::page("/deployments/{model}/*", OpenAi).in_path(),
        Row::page("/deployments", OpenAi),
        Row::page("/models/*", OpenAi),
        Row {
            model: ModelAt::Query("deployment"),
            kind: PathKind::Llm,
            ..Row::new("/realtime", OpenAi, Duty::Inference)
        },
        Row::manages("/files/*", OpenAi),
        Row::manages("/batches/*", OpenAi),
        Row::manages("/fine_tuning/*", OpenAi),
    ],
};

/// <https://docs.anthropic.com/en/api/messages>; vLLM, SGLang, llama.cpp and Ollama have it too.
pub(super) const ANTHROPIC: Group = Group {
    title: "Anthropic",
    bases: &["/v1", "/openai/v1", "/api/v1", "/v3", "/anthropic/v1"],
    health: "/health",
    rows: &[
        Row::llm("/messages", Anthropic),
        Row::llm("/messages/count_tokens", Anthropic),
        Row::manages("/messages/batches/*", Anthropic),
        Row::llm("/messages/*", Anthropic),
        Row::llm("/complete", Anthropic),
    ],
};

/// <https://docs.cohere.com/reference/chat>, version 2.
pub(super) const COHERE: Group = Group {
    title: "Cohere",
    bases: &["/v2"],
    health: "",
    rows: &[Row::llm("/chat", Cohere), Row::llm("/embed", Cohere), Row::llm("/rerank", Cohere)],
};

/// <https://docs.aws.amazon.com/bedrock/latest/APIReference>. Streams are framed in binary.
pub(super) const BEDROCK: Group = Group {
    title: "Amazon Bedrock",
    bases: &["/model"],
    health: "",
    rows: &[
        Row::llm("/{model}/invoke", Aws).in_path().with_slashes(),
        Row::llm("/{model}/invoke-with-response-stream", Aws).in_path().with_slashes().streaming(),
        converse("/{model}/converse"),
        converse("/{model}/converse-stream").streaming(),
        Row::llm("/{model}/count-tokens", Aws).in_path().with_slashes(),
    ],
};

const fn converse(path: &'static str) -> Row {
    Row { usage: UsageAt::Converse, ..Row::llm(path, Aws).in_path().with_slashes() }
}

/// <https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html>.
pub(super) const SAGEMAKER: Group = Group {
    title: "Amazon SageMaker",
    bases: &["/endpoints"],
    health: "/ping",
    rows: &[
        Row::predict("/{model}/invocations", Aws).in_path().or_llm(),
        Row::predict("/{model}/invocations-response-stream", Aws).in_path().or_llm().streaming(),
        Row::predict("/{model}/async-invocations", Aws).in_path().or_llm().once(),
    ],
};

/// <https://ai.google.dev/api>, and Vertex AI's paths of the same verbs.
pub(super) const GEMINI: Group = Group {
    title: "Google Gemini and Vertex AI",
    bases: &["/v1beta", "/v1", "/v1alpha", "/v1beta1"],
    health: "",
    rows: &[
        asks("/models/{model}:generateContent"),
        asks("/models/{model}:streamGenerateContent").streaming(),
        asks("/models/{model}:embedContent"),
        asks("/models/{model}:batchEmbedContents"),
        asks("/models/{model}:countTokens"),
        Row::manages("/models/{model}:batchGenerateContent", Google).in_path(),
        Row::predict("/models/{model}:predictLongRunning", Google).in_path().once(),
        endpoint("/models/{model}:rawPredict"),
        endpoint("/models/{model}:streamRawPredict").streaming(),
        asks("/publishers/{}/models/{model}:generateContent"),
        asks("/publishers/{}/models/{model}:streamGenerateContent").streaming(),
        asks("/publishers/{}/models/{model}:countTokens"),
        asks("/projects/{}/locations/{}/publishers/{}/models/{model}:generateContent"),
        asks("/projects/{}/locations/{}/publishers/{}/models/{model}:streamGenerateContent")
            .streaming(),
        asks("/projects/{}/locations/{}/publishers/{}/models/{model}:countTokens"),
        asks("/projects/{}/locations/{}/publishers/{}/models/{model}:predict"),
        asks("/projects/{}/locations/{}/publishers/{}/models/{model}:rawPredict"),
        asks("/projects/{}/locations/{}/publishers/{}/models/{model}:streamRawPredict").streaming(),
        endpoint("/projects/{}/locations/{}/endpoints/{model}:predict"),
        endpoint("/projects/{}/locations/{}/endpoints/{model}:explain"),
        endpoint("/projects/{}/locations/{}/endpoints/{model}:rawPredict"),
        endpoint("/projects/{}/locations/{}/endpoints/{model}:streamRawPredict").streaming(),
    ],
};

const fn asks(path: &'static str) -> Row {
    Row::llm(path, Google).in_path()
}

const fn endpoint(path: &'static str) -> Row {
    Row { usage: UsageAt::Nowhere, ..Row::predict(path, Google).in_path().or_llm() }
}
