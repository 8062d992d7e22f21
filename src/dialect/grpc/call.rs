//! Which call a path asks for: the table of the services whose messages are known.
use super::message::NameAt;
use crate::dialect::dialects::PathKind;
use crate::dialect::rows::Purpose;

/// A call, as far as its path tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub kind: PathKind,
    pub purpose: Purpose,
    /// Where each of its messages names a model; `None`: they are not read.
    pub name_at: Option<NameAt>,
    /// Where each of its answers names the model that worked on it.
    pub answers_at: Option<NameAt>,
    /// The client may send further messages when it has read answers.
    pub streams: bool,
    /// Evener answers it itself.
    pub local: Option<LocalCall>,
    /// It asks what services there are, which any replica can tell.
    pub reflects: bool,
}

/// Calls that Evener answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalCall {
    /// `grpc.health.v1.Health/Check`.
    HealthCheck,
    /// `grpc.health.v1.Health/Watch`.
    HealthWatch,
    /// KServe V2: does it run?
    ServerLive,
    /// KServe V2: may it be asked?
    ServerReady,
    /// KServe V2: what is it?
    ServerMetadata,
}

impl Call {
    /// Of a service that is not known here.
    const OTHER: Self = Self {
        kind: PathKind::Raw,
        purpose: Purpose::Unknown,
        name_at: None,
        answers_at: None,
        streams: true,
        local: None,
        reflects: false,
    };

    /// One message names the model, one answer follows.
    const fn asks(at: NameAt) -> Self {
        let (kind, purpose) = (PathKind::Predict, Purpose::Inference);
        Self { kind, purpose, name_at: Some(at), streams: false, ..Self::OTHER }
    }

    /// Facts about the model that the message names.
    const fn looks_up(at: NameAt) -> Self {
        Self { purpose: Purpose::Information, ..Self::asks(at) }
    }

    /// Changes the server. Where no message names a model it is passed on unread.
    const fn manages(name_at: Option<NameAt>) -> Self {
        let streams = name_at.is_none();
        Self { purpose: Purpose::Management, name_at, streams, ..Self::OTHER }
    }

    const fn local(local: LocalCall) -> Self {
        let purpose = Purpose::Information;
        Self { purpose, streams: false, local: Some(local), ..Self::OTHER }
    }

    const fn streaming(self) -> Self {
        Self { streams: true, ..self }
    }

    const fn answers(self, at: NameAt) -> Self {
        Self { answers_at: Some(at), ..self }
    }

    /// Is it known that both sides may talk for as long as they like?
    pub const fn converses(&self) -> bool {
        self.streams && self.name_at.is_some()
    }

    /// Is it known that it has one message and one answer?
    pub const fn is_unary(&self) -> bool {
        !self.streams && self.name_at.is_some()
    }
}

/// Calls by service: each method with what it is; `*` stands for all others.
const CALLS: &[(&str, &[(&str, Call)])] = &[
    // <https://github.com/kserve/open-inference-protocol>, and Triton's extensions.
    (
        "inference.GRPCInferenceService",
        &[
            ("ModelInfer", Call::asks(&[1]).answers(&[1])),
            ("ModelStreamInfer", Call::asks(&[1]).streaming().answers(&[2, 1])),
            ("ModelReady", Call::looks_up(&[1])),
            ("ModelMetadata", Call::looks_up(&[1])),
            ("ModelConfig", Call::looks_up(&[1])),
            ("ModelStatistics", Call::looks_up(&[1])),
            ("ServerLive", Call::local(LocalCall::ServerLive)),
            ("ServerReady", Call::local(LocalCall::ServerReady)),
            ("ServerMetadata", Call::local(LocalCall::ServerMetadata)),
            ("RepositoryModelLoad", Call::manages(Some(&[2]))),
            ("RepositoryModelUnload", Call::manages(Some(&[2]))),
            ("TraceSetting", Call::manages(Some(&[2]))),
            ("*", Call::manages(None)),
        ],
    ),
    // <https://github.com/tensorflow/serving/tree/master/tensorflow_serving/apis>.
    (
        "tensorflow.serving.PredictionService",
        &[
            ("Predict", Call::asks(&[1, 1])),
            ("Classify", Call::asks(&[1, 1])),
            ("Regress", Call::asks(&[1, 1])),
            ("MultiInference", Call::asks(&[1, 1, 1])),
            ("GetModelMetadata", Call::looks_up(&[1, 1])),
        ],
    ),
    (
        "tensorflow.serving.ModelService",
        &[("GetModelStatus", Call::looks_up(&[1, 1])), ("*", Call::manages(None))],
    ),
    ("tensorflow.serving.SessionService", &[("SessionRun", Call::asks(&[1, 1]))]),
    // <https://github.com/pytorch/serve/tree/master/frontend/server/src/main/resources/proto>.
    (
        "org.pytorch.serve.grpc.inference.InferenceAPIsService",
        &[
            ("Predictions", Call::asks(&[1])),
            ("StreamPredictions", Call::asks(&[1])),
            ("StreamPredictions2", Call::asks(&[1]).streaming()),
        ],
    ),
    ("org.pytorch.serve.grpc.management.ManagementAPIsService", &[("*", Call::manages(None))]),
    // <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>.
    (
        "grpc.health.v1.Health",
        &[
            ("Check", Call::local(LocalCall::HealthCheck)),
            ("Watch", Call::local(LocalCall::HealthWatch)),
        ],
    ),
    // <https://github.com/grpc/grpc/blob/master/doc/server-reflection.md>.
    ("grpc.reflection.v1.ServerReflection", &[("*", REFLECTION)]),
    ("grpc.reflection.v1alpha.ServerReflection", &[("*", REFLECTION)]),
];

const REFLECTION: Call = Call { reflects: true, purpose: Purpose::Information, ..Call::OTHER };

/// Does this content type say gRPC? `application/grpc-web` is another protocol.
pub fn is_grpc(content_type: &[u8]) -> bool {
    const KIND: &[u8] = b"application/grpc";
    content_type.split_at_checked(KIND.len()).is_some_and(|(kind, rest)| {
        kind.eq_ignore_ascii_case(KIND) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
    })
}

/// Reads the path of a call. It is compared as it was sent: no server of gRPC decodes it.
pub fn read_call(path: &str) -> Call {
    let (service, method) =
        path.strip_prefix('/').and_then(|path| path.split_once('/')).unwrap_or_default();
    let methods = CALLS.iter().find(|(known, _)| *known == service).map(|(_, methods)| *methods);
    let found = methods.into_iter().flatten().find(|(known, _)| [method, "*"].contains(known));
    found.map_or(Call::OTHER, |(_, call)| *call)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_methods_name_their_model_in_their_messages() {
        for (path, at, streams) in [
            ("/inference.GRPCInferenceService/ModelInfer", Some(&[1][..]), false),
            ("/inference.GRPCInferenceService/ModelReady", Some(&[1]), false),
            ("/inference.GRPCInferenceService/ModelStreamInfer", Some(&[1]), true),
            ("/inference.GRPCInferenceService/RepositoryModelLoad", Some(&[2]), false),
            ("/inference.GRPCInferenceService/RepositoryIndex", None, true),
            ("/tensorflow.serving.PredictionService/Predict", Some(&[1, 1]), false),
            ("/tensorflow.serving.PredictionService/MultiInference", Some(&[1, 1, 1]), false),
            ("/inference.GRPCInferenceService/%4dodelInfer", None, true),
            ("/pkg.Other/Do", None, true),
            ("/", None, true),
            ("*", None, true),
        ] {
            let call = read_call(path);
            assert_eq!((call.name_at, call.streams, call.local), (at, streams, None), "{path}");
        }
        for (path, purpose) in [
            ("/inference.GRPCInferenceService/ModelInfer", Purpose::Inference),
            ("/inference.GRPCInferenceService/ModelReady", Purpose::Information),
            ("/inference.GRPCInferenceService/RepositoryIndex", Purpose::Management),
            ("/inference.GRPCInferenceService/CudaSharedMemoryRegister", Purpose::Management),
            ("/tensorflow.serving.ModelService/HandleReloadConfigRequest", Purpose::Management),
            ("/tensorflow.serving.SessionService/SessionRun", Purpose::Inference),
            (
                "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions",
                Purpose::Inference,
            ),
            ("/org.pytorch.serve.grpc.management.ManagementAPIsService/X", Purpose::Management),
            ("/pkg.Other/Do", Purpose::Unknown),
        ] {
            assert_eq!(read_call(path).purpose, purpose, "{path}");
        }
        let reflects = read_call("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo");
        assert!(reflects.reflects);
    }

    #[test]
    fn a_content_type_says_whether_it_is_grpc() {
        for yes in ["application/grpc", "Application/GRPC+proto", "application/grpc; charset=x"] {
            assert!(is_grpc(yes.as_bytes()), "{yes}");
        }
        for no in ["application/grpc-web", "application/grpc-web+proto", "application/json", ""] {
            assert!(!is_grpc(no.as_bytes()), "{no}");
        }
    }
}
