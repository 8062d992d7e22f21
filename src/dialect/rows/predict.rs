//! Servers of predictive models: KServe, TF-Serving, Triton, MLServer, TorchServe, containers of SageMaker and MLflow.
use super::{Group, Local, Row};
use crate::dialect::Dialect::{KServeV1, KServeV2, Plain, TorchServe};
use crate::dialect::PathKind;

/// <https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol>,
/// <https://www.tensorflow.org/tfx/serving/api_rest>. A name may hold slashes.
pub(super) const KSERVE_V1: Group = Group {
    title: "KServe V1, TF-Serving",
    bases: &["/v1", "/openai/v1"],
    health: "/v1/models/NAME",
    rows: &[
        v1("/models/{model+}:predict").or_llm(),
        v1("/models/{model+}:classify"),
        v1("/models/{model+}:regress"),
        v1("/models/{model+}:explain"),
        v1("/models/{model}/versions/{}:predict").or_llm(),
        v1("/models/{model}/versions/{}:classify"),
        v1("/models/{model}/versions/{}:regress"),
        v1("/models/{model}/versions/{}:explain"),
        v1("/models/{model}/labels/{}:predict").or_llm(),
        v1("/models/{model}/labels/{}:classify"),
        v1("/models/{model}/labels/{}:regress"),
        v1("/models/{model}/labels/{}:explain"),
        v1_page("/models/{model}/versions/{}/*"),
        v1_page("/models/{model}/labels/{}/*"),
        v1_page("/models/{model}/metadata"),
    ],
};

const fn v1(path: &'static str) -> Row {
    Row::predict(path, KServeV1).in_path()
}

const fn v1_page(path: &'static str) -> Row {
    Row { kind: PathKind::Predict, ..Row::page(path, KServeV1).in_path() }
}

/// <https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol>, with Triton's extensions
/// (<https://github.com/triton-inference-server/server/tree/main/docs/protocol>). `versions/{}` is the model server's
/// business, never a split.
pub(super) const KSERVE_V2: Group = Group {
    title: "KServe V2, Triton, MLServer",
    bases: &["/v2"],
    health: "/v2/health/ready",
    rows: &[
        Row::answered("", KServeV2, Local::V2Server),
        Row::answered("/health/live", KServeV2, Local::V2Live),
        Row::answered("/health/ready", KServeV2, Local::V2Ready),
        infer("/models/{model}/infer"),
        infer("/models/{model}/versions/{}/infer"),
        infer("/models/{model}/explain"),
        infer("/models/{model}/versions/{}/explain"),
        generate("/models/{model}/generate"),
        generate("/models/{model}/versions/{}/generate"),
        generate("/models/{model}/generate_stream").streaming(),
        generate("/models/{model}/versions/{}/generate_stream").streaming(),
        // MLServer's.
        infer("/models/{model}/infer_stream").streaming(),
        infer("/models/{model}/versions/{}/infer_stream").streaming(),
        Row { kind: PathKind::Predict, ..Row::page("/models/{model}/*", KServeV2).in_path() },
        // Triton's statistics of all models.
        Row::page("/models/stats", KServeV2),
        Row::page("/models", KServeV2),
        Row::manages("/repository/models/{model}/load", KServeV2).in_path(),
        Row::manages("/repository/models/{model}/unload", KServeV2).in_path(),
        Row::manages("/repository/*", KServeV2),
        Row::manages("/logging", KServeV2),
        Row::manages("/trace/setting", KServeV2),
        Row::manages("/systemsharedmemory/*", KServeV2),
        Row::manages("/cudasharedmemory/*", KServeV2),
        Row::page("/*", KServeV2),
    ],
};

const fn infer(path: &'static str) -> Row {
    Row::predict(path, KServeV2).in_path()
}

const fn generate(path: &'static str) -> Row {
    Row::llm(path, KServeV2).in_path()
}

/// <https://pytorch.org/serve/inference_api.html>. Its management API is on a port of its own.
pub(super) const TORCHSERVE: Group = Group {
    title: "TorchServe",
    bases: &[""],
    health: "/ping",
    rows: &[
        Row::predict("/predictions/{model}", TorchServe).in_path().or_llm(),
        Row::predict("/predictions/{model}/{}", TorchServe).in_path().or_llm(),
        Row::predict("/explanations/{model}", TorchServe).in_path(),
        Row::predict("/explanations/{model}/{}", TorchServe).in_path(),
        Row::predict("/wfpredict/{model}", TorchServe).in_path(),
        Row::page("/api-description", TorchServe),
        Row::manages("/workflows/*", TorchServe),
    ],
};

/// Containers as SageMaker and MLflow start them
/// (<https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html>,
/// <https://mlflow.org/docs/latest/deployment>); vLLM and SGLang answer these too.
pub(super) const CONTAINERS: Group = Group {
    title: "SageMaker containers, MLflow",
    bases: &[""],
    health: "/ping",
    rows: &[
        Row::predict("/invocations", Plain).if_known().or_llm(),
        Row::predict("/models/{model}/invoke", Plain).in_path().or_llm(),
        Row::page("/ping", Plain),
        Row::page("/version", Plain),
        Row::manages("/models/*", Plain),
    ],
};
