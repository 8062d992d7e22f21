//! Headers, fields and parameters by which some servers choose a model, beside `model`.

/// Headers by which some servers choose the model: `SageMaker`'s multi-model endpoints, `ModelMesh`, Ray Serve, Seldon,
/// Azure ML, the Gateway API's inference extension, Envoy AI Gateway; and what people call such a header.
pub const NAMING_HEADERS: [&str; 17] = [
    "x-amzn-sagemaker-target-model",
    "x-amzn-sagemaker-target-variant",
    "x-amzn-sagemaker-target-container-hostname",
    "x-amzn-sagemaker-inference-component",
    "x-amzn-sagemaker-adapter-identifier",
    "mm-model-id",
    "mm-vmodel-id",
    "serve-multiplexed-model-id",
    "seldon-model",
    "seldon-internal-model",
    "azureml-model-deployment",
    "x-gateway-model-name",
    "x-gateway-model-name-rewrite",
    "x-ai-eg-model",
    "x-model",
    "x-model-name",
    "x-model-id",
];

/// Fields beside `model` by which some servers choose one: `OpenRouter`, `LiteLLM`, `SGLang`, TGI, `LoRAX`, llama.cpp, DJL.
pub(super) const NAMING_FIELDS: [&str; 14] = [
    "models",
    "fallbacks",
    "context_window_fallbacks",
    "content_policy_fallbacks",
    "lora",
    "lora_path",
    "lora_id",
    "lora_name",
    "adapter_id",
    "adapters",
    "merged_adapters",
    "model_id",
    "model_name",
    "engine",
];

/// Parameters by which some servers choose the model.
pub(super) const NAMING_PARAMETERS: [&str; 7] =
    ["model", "models", "model_name", "model_id", "deployment", "lora_name", "adapter_id"];
