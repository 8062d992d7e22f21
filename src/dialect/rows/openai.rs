//! OpenAI's API, as OpenAI and the servers that follow it have it (vLLM, SGLang, llama.cpp, LiteLLM, OVMS, NIM).
//!
//! <https://platform.openai.com/docs/api-reference>.
use super::{Group, Local, ModelAt, Row, StreamError};
use crate::dialect::Dialect::OpenAi;
use crate::dialect::PathKind;

/// Where it lies: at OpenAI's; at KServe's Hugging Face server, Azure's and Groq's; at OpenRouter's and Open WebUI's; at
/// OVMS's.
const BASES: &[&str] = &["/v1", "/openai/v1", "/api/v1", "/v3"];

pub(super) const OPENAI: Group = Group {
    title: "OpenAI",
    bases: BASES,
    health: "/health",
    rows: &[
        Row::llm("/chat/completions/*", OpenAi),
        Row::llm("/completions/*", OpenAi),
        Row { stream_error: StreamError::Responses, ..Row::llm("/responses/*", OpenAi) },
        Row::llm("/embeddings/*", OpenAi),
        Row::llm("/moderations/*", OpenAi),
        // Cohere's and Jina's, as vLLM has them.
        Row::llm("/rerank/*", OpenAi),
        Row::llm("/score/*", OpenAi),
        Row::llm("/pooling", OpenAi),
        Row::llm("/classify", OpenAi),
        Row::llm("/tokenize", OpenAi),
        Row::llm("/detokenize", OpenAi),
        // Mistral's.
        Row::llm("/fim/completions", OpenAi),
        Row::predict("/ocr", OpenAi),
        Row::predict("/audio/{}/*", OpenAi),
        Row::predict("/images/{}/*", OpenAi),
        // These begin a job, and name its model.
        Row::predict("/videos", OpenAi).once(),
        Row::predict("/videos/*", OpenAi).if_known().once(),
        Row {
            model: ModelAt::Query("model"),
            kind: PathKind::Llm,
            ..Row::new("/realtime", OpenAi, super::Duty::Inference)
        },
        Row { kind: PathKind::Llm, ..Row::new("/realtime/*", OpenAi, super::Duty::Inference) },
        Row::answered("/models", OpenAi, Local::OpenAiModels),
        Row {
            kind: PathKind::Predict,
            ..Row::answered("/models/{model+}", OpenAi, Local::OpenAiModel).in_path().with_slashes()
        },
        Row::manages("/files/*", OpenAi),
        Row::manages("/uploads/*", OpenAi),
        Row::manages("/batches/*", OpenAi),
        Row::manages("/fine_tuning/*", OpenAi),
        Row::manages("/vector_stores/*", OpenAi),
        Row::manages("/assistants/*", OpenAi),
        Row::manages("/threads/*", OpenAi),
        Row::manages("/conversations/*", OpenAi),
        Row::manages("/containers/*", OpenAi),
        Row::manages("/evals/*", OpenAi),
        Row::manages("/organization/*", OpenAi),
        // vLLM's and SGLang's adapters.
        Row::manages("/load_lora_adapter", OpenAi),
        Row::manages("/unload_lora_adapter", OpenAi),
        // NIM's pages.
        Row::page("/health/*", OpenAi),
        Row::page("/metadata", OpenAi),
        Row::page("/manifest", OpenAi),
        Row::page("/version", OpenAi),
        Row::page("/license", OpenAi),
        Row::manages("/metrics", OpenAi),
    ],
};

/// Clients whose base URL lacks its `/v1`, and vLLM's and llama.cpp's own spellings.
pub(super) const BARE: Group = Group {
    title: "OpenAI, without `/v1`",
    bases: &[""],
    health: "/health",
    rows: &[
        Row::llm("/chat/completions", OpenAi),
        Row::llm("/completions", OpenAi),
        Row::llm("/embeddings", OpenAi),
        Row { stream_error: StreamError::Responses, ..Row::llm("/responses", OpenAi) },
        Row::llm("/rerank", OpenAi),
        Row::llm("/score", OpenAi),
        Row::llm("/tokenize", OpenAi),
        Row::llm("/detokenize", OpenAi),
        Row::llm("/pooling", OpenAi),
        Row::llm("/classify", OpenAi),
    ],
};
