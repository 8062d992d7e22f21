//! Which call a path asks for.
use super::message::NameAt;
use crate::dialect::facts::PathKind;

/// A call, as far as its path tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub kind: PathKind,
    /// Where each of its messages names a model; `None`: they are not read.
    pub name_at: Option<NameAt>,
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
    const OTHER: Self =
        Self { kind: PathKind::Raw, name_at: None, streams: true, local: None, reflects: false };

    const fn local(local: LocalCall) -> Self {
        Self { streams: false, local: Some(local), ..Self::OTHER }
    }

    /// Is it known that both sides may talk for as long as they like?
    pub const fn converses(&self) -> bool {
        self.streams && self.name_at.is_some()
    }

    /// Is it known that it has one message and one answer?
    pub const fn is_unary(&self) -> bool {
        !self.streams && self.name_at.is_some()
    }

    const fn one(kind: PathKind, at: NameAt) -> Self {
        Self { kind, name_at: Some(at), streams: false, ..Self::OTHER }
    }
}

/// Does this content type say gRPC? `application/grpc-web` is another protocol.
pub fn is_grpc(content_type: &[u8]) -> bool {
    const KIND: &[u8] = b"application/grpc";
    content_type.split_at_checked(KIND.len()).is_some_and(|(kind, rest)| {
        kind.eq_ignore_ascii_case(KIND) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
    })
}

/// Reads the path of a call. It is compared as it was sent: no server of gRPC decodes it.
pub fn read_call(path: &str) -> Call {
    use PathKind::{Predict, Raw};
    let (service, method) =
        path.strip_prefix('/').and_then(|path| path.split_once('/')).unwrap_or_default();
    match (service, method) {
        ("inference.GRPCInferenceService", method) => match method {
            "ModelStreamInfer" => Call { streams: true, ..Call::one(Predict, &[1]) },
            "ModelInfer" | "ModelReady" | "ModelMetadata" | "ModelConfig" | "ModelStatistics" => {
                Call::one(Predict, &[1])
            }
            "RepositoryModelLoad" | "RepositoryModelUnload" | "TraceSetting" => {
                Call::one(Raw, &[2])
            }
            "ServerLive" => Call::local(LocalCall::ServerLive),
            "ServerReady" => Call::local(LocalCall::ServerReady),
            "ServerMetadata" => Call::local(LocalCall::ServerMetadata),
            _ => Call::OTHER,
        },
        ("tensorflow.serving.PredictionService", method) => match method {
            "Predict" | "Classify" | "Regress" | "GetModelMetadata" => Call::one(Predict, &[1, 1]),
            "MultiInference" => Call::one(Predict, &[1, 1, 1]),
            _ => Call::OTHER,
        },
        ("tensorflow.serving.ModelService", "GetModelStatus") => Call::one(Predict, &[1, 1]),
        ("grpc.health.v1.Health", "Check") => Call::local(LocalCall::HealthCheck),
        ("grpc.health.v1.Health", "Watch") => Call::local(LocalCall::HealthWatch),
        ("grpc.reflection.v1.ServerReflection" | "grpc.reflection.v1alpha.ServerReflection", _) => {
            Call { reflects: true, ..Call::OTHER }
        }
        _ => Call::OTHER,
    }
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
