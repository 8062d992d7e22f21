//! What model servers have beside the common APIs: their own ways to ask, their pages, and their operators' levers.
use super::{Duty, Group, Local, Row};
use crate::dialect::Dialect::{Ollama, Plain, Tgi};

/// <https://github.com/ollama/ollama/blob/main/docs/api.md>.
pub(super) const OLLAMA: Group = Group {
    title: "Ollama",
    bases: &["/api"],
    health: "/api/version",
    rows: &[
        Row::llm("/chat", Ollama),
        Row::llm("/generate", Ollama),
        Row::llm("/embed", Ollama),
        Row::llm("/embeddings", Ollama),
        Row { model: super::ModelAt::Body, ..Row::new("/show", Ollama, Duty::Lookup) },
        Row::page("/tags", Ollama),
        Row::page("/ps", Ollama),
        Row::page("/version", Ollama),
        Row::manages("/pull", Ollama),
        Row::manages("/push", Ollama),
        Row::manages("/create", Ollama),
        Row::manages("/copy", Ollama),
        Row::manages("/delete", Ollama),
        Row::manages("/blobs/*", Ollama),
    ],
};

/// <https://huggingface.github.io/text-generation-inference>. SGLang's `/generate` is alike.
pub(super) const TGI: Group = Group {
    title: "Text Generation Inference",
    bases: &[""],
    health: "/health",
    rows: &[
        Row::llm("/generate", Tgi).if_known(),
        Row::llm("/generate_stream", Tgi).if_known().streaming(),
        Row::llm("/chat_tokenize", Tgi).if_known(),
        Row::page("/info", Tgi),
        Row::page("/health", Plain),
    ],
};

/// <https://huggingface.github.io/text-embeddings-inference>. Any server may mean anything by `/predict`, so that one is
/// not repeated.
pub(super) const TEI: Group = Group {
    title: "Text Embeddings Inference",
    bases: &[""],
    health: "/health",
    rows: &[
        Row::llm("/embed", Tgi).if_known(),
        Row::llm("/embed_all", Tgi).if_known(),
        Row::llm("/embed_sparse", Tgi).if_known(),
        Row::llm("/similarity", Tgi).if_known(),
        Row::llm("/decode", Tgi).if_known(),
        Row::predict("/predict", Plain).if_known().once(),
    ],
};

/// <https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html>; the levers are there in development mode.
pub(super) const VLLM: Group = Group {
    title: "vLLM",
    bases: &[""],
    health: "/health",
    rows: &[
        Row::llm("/inference/v1/generate", Plain).if_known(),
        Row::page("/load", Plain),
        Row::page("/is_sleeping", Plain),
        Row::page("/is_paused", Plain),
        Row::page("/is_scaling_elastic_ep", Plain),
        Row::manages("/sleep", Plain),
        Row::manages("/wake_up", Plain),
        Row::manages("/pause", Plain),
        Row::manages("/resume", Plain),
        Row::manages("/scale_elastic_ep", Plain),
        Row::manages("/reset_prefix_cache", Plain),
        Row::manages("/reset_mm_cache", Plain),
        Row::manages("/reset_encoder_cache", Plain),
        Row::manages("/collective_rpc", Plain),
        Row::manages("/server_info", Plain),
        Row::manages("/start_profile", Plain),
        Row::manages("/stop_profile", Plain),
        Row::manages("/update_weights", Plain),
        Row::manages("/init_weight_transfer_engine", Plain),
        Row::manages("/get_world_size", Plain),
    ],
};

/// <https://docs.sglang.ai/basic_usage/native_api.html>.
pub(super) const SGLANG: Group = Group {
    title: "SGLang",
    bases: &[""],
    health: "/health",
    rows: &[
        Row::llm("/encode", Plain).if_known(),
        Row::llm("/vertex_generate", Plain).if_known(),
        Row::page("/model_info", Plain),
        Row::page("/get_model_info", Plain),
        Row::page("/health_generate", Plain),
        Row::page("/get_load", Plain),
        Row::manages("/get_server_info", Plain),
        Row::manages("/get_internal_state", Plain),
        Row::manages("/set_internal_state", Plain),
        Row::manages("/flush_cache", Plain),
        Row::manages("/clear_hicache_storage_backend", Plain),
        Row::manages("/update_weights_from_disk", Plain),
        Row::manages("/update_weights_from_distributed", Plain),
        Row::manages("/update_weights_from_tensor", Plain),
        Row::manages("/update_weights_from_ipc", Plain),
        Row::manages("/update_weight_version", Plain),
        Row::manages("/init_weights_update_group", Plain),
        Row::manages("/destroy_weights_update_group", Plain),
        Row::manages("/init_weights_send_group_for_remote_instance", Plain),
        Row::manages("/send_weights_to_remote_instance", Plain),
        Row::manages("/get_weights_by_name", Plain),
        Row::manages("/weights_checker", Plain),
        Row::manages("/release_memory_occupation", Plain),
        Row::manages("/resume_memory_occupation", Plain),
        Row::manages("/load_lora_adapter", Plain),
        Row::manages("/unload_lora_adapter", Plain),
        Row::manages("/open_session", Plain),
        Row::manages("/close_session", Plain),
        Row::manages("/abort_request", Plain),
        Row::manages("/slow_down", Plain),
        Row::manages("/pause_generation", Plain),
        Row::manages("/continue_generation", Plain),
        Row::manages("/configure_logging", Plain),
        Row::manages("/freeze_gc", Plain),
        Row::manages("/start_expert_distribution_record", Plain),
        Row::manages("/stop_expert_distribution_record", Plain),
        Row::manages("/dump_expert_distribution_record", Plain),
    ],
};

/// <https://github.com/ggml-org/llama.cpp/tree/master/tools/server>.
pub(super) const LLAMA_CPP: Group = Group {
    title: "llama.cpp",
    bases: &[""],
    health: "/health",
    rows: &[
        Row::llm("/completion", Plain).if_known(),
        Row::llm("/infill", Plain).if_known(),
        Row::llm("/embedding", Plain).if_known(),
        Row::llm("/reranking", Plain).if_known(),
        Row::llm("/apply-template", Plain).if_known(),
        Row::page("/props", Plain),
        Row::page("/slots", Plain),
        Row::manages("/slots/*", Plain),
        Row::manages("/lora-adapters", Plain),
    ],
};

/// What any server has, and what Evener answers for all of them.
pub(super) const EVENER: Group = Group {
    title: "Any server",
    bases: &[""],
    health: "",
    rows: &[
        Row::answered("/healthz", Plain, Local::Healthz),
        Row { local: Some(Local::Metrics), ..Row::manages("/metrics", Plain) },
    ],
};
