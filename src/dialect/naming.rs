//! Fields, headers and parameters by which some server chooses a model, an adapter or a deployment: told by how they read, for
//! no list of them is ever complete.
use super::prompt::names::folded;

/// Headers that do so and do not read so: Amazon SageMaker's.
const HEADERS: [&str; 3] = [
    "x-amzn-sagemaker-target-variant",
    "x-amzn-sagemaker-target-container-hostname",
    "x-amzn-sagemaker-inference-component",
];
/// What a name stands for (`model` is looked for anywhere in a key)…
const NOUNS: [&str; 8] = [
    "deployment",
    "deployments",
    "adapter",
    "adapters",
    "fallback",
    "fallbacks",
    "checkpoint",
    "checkpoints",
];
/// … and which of its features is written.
const FEATURES: [&str; 16] = [
    "",
    "id",
    "ids",
    "name",
    "names",
    "path",
    "paths",
    "key",
    "ref",
    "slug",
    "alias",
    "file",
    "dir",
    "repo",
    "source",
    "identifier",
];
/// Keys that are nothing else.
const WHOLE: [&str; 5] = ["engine", "engines", "engineid", "enginename", "ckptname"];
/// The last words of keys that hold settings, not names.
const SETTINGS: [&str; 10] = [
    "args",
    "config",
    "fields",
    "fieldpaths",
    "kwargs",
    "options",
    "params",
    "parameters",
    "settings",
    "scale",
];
/// A version of a model is a matter of the model server, as it is in the paths of V1 and V2.
const VERSION: &str = "modelversion";

/// A key as no two servers tell it apart: without case, punctuation and what cannot be seen.
pub(super) fn flat(key: &str) -> String {
    let mut flat = folded(key).into_owned();
    flat.retain(|letter| letter.is_ascii_alphanumeric());
    flat
}

/// Does a key, as [`flat`] has it, read as one that names a model, an adapter or a deployment? `draftmodel`, `modelid`,
/// `loraname`, `azuredeployment`; not `modelkwargs`.
pub(super) fn reads_as_model(flat: &str) -> bool {
    if flat == VERSION || SETTINGS.iter().any(|last| flat.ends_with(last)) {
        return false;
    }
    let noun = |noun: &str| {
        FEATURES
            .iter()
            .any(|feature| flat.strip_suffix(feature).is_some_and(|before| before.ends_with(noun)))
    };
    flat.contains("model")
        || flat.starts_with("lora")
        || WHOLE.contains(&flat)
        || NOUNS.iter().any(|word| noun(word))
}

/// Does a header of this name choose a model at some server? Gateways of Python's frameworks take `_` and `-` for one.
pub fn header_names_model(header: &str) -> bool {
    let flat = flat(header);
    let bare = flat.strip_prefix('x').unwrap_or(&flat);
    reads_as_model(&flat)
        || reads_as_model(bare)
        || HEADERS.iter().any(|known| header.replace('_', "-").eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_names_a_model_is_told_by_how_it_reads() {
        for key in [
            "model",
            "Model",
            "MODEL_NAME",
            "model-id",
            "modelId",
            "model_path",
            "draft_model",
            "speculativeModel",
            "base_model_name",
            "models",
            "deployment",
            "deploymentId",
            "deployment_name",
            "azureml-model-deployment",
            "engine",
            "engine_id",
            "lora",
            "lora_path",
            "LoraName",
            "loras",
            "adapter_id",
            "adapters",
            "merged_adapters",
            "adapter_source",
            "fallbacks",
            "context_window_fallbacks",
            "mode\u{200b}l",
            "mod el",
            "sd_model_checkpoint",
            "checkpoint",
            "ckpt_name",
            "model\0",
        ] {
            assert!(reads_as_model(&flat(key)), "{key}");
        }
        for key in [
            "modalities",
            "mode",
            "model_kwargs",
            "additionalModelRequestFields",
            "model_version",
            "adapter_parameters",
            "search_engine",
            "exploration",
            "name",
            "id",
            "temperature",
            "lora_scale",
            "encoding_format",
            "user",
            "",
        ] {
            assert!(!reads_as_model(&flat(key)), "{key}");
        }
    }

    #[test]
    fn a_header_that_names_a_model_is_known() {
        for header in [
            "x-amzn-sagemaker-target-model",
            "x_amzn_sagemaker_inference_component",
            "mm-vmodel-id",
            "serve_multiplexed_model_id",
            "seldon-model",
            "x-gateway-model-name",
            "x-ai-eg-model",
            "x-model",
            "model",
            "openai-model",
            "x-amzn-sagemaker-adapter-identifier",
            "x-lora-id",
            "x-engine",
            "azureml-model-deployment",
        ] {
            assert!(header_names_model(header), "{header}");
        }
        for header in [
            "x-api-key",
            "content-type",
            "user-agent",
            "x-stainless-lang",
            "anthropic-version",
            "openai-organization",
            "x-request-id",
            "x-evener-version",
            "mode",
        ] {
            assert!(!header_names_model(header), "{header}");
        }
    }
}
