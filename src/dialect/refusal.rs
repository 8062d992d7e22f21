//! Error bodies in the dialect of the request, for what Evener refuses itself.
use super::dialects::Dialect;
use bytes::Bytes;
use serde::Serialize;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// What an error says, whatever its form.
#[derive(Clone, Copy, Debug)]
pub struct ErrorText<'a> {
    /// The stable name.
    pub code: &'a str,
    /// The HTTP status.
    pub status: u16,
    /// One sentence.
    pub message: &'a str,
    /// The field to blame.
    pub param: Option<&'a str>,
    pub request_id: &'a str,
}

/// An error body, with what its head has to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorBody {
    pub content_type: &'static str,
    pub body: Bytes,
    /// A header by which clients of this dialect tell errors apart.
    pub header: Option<(&'static str, &'static str)>,
}

/// The body of a refusal. A client on a plain path gets OpenAI's form when it `wants_json` (it sent or accepts JSON), else
/// a line of text.
pub fn error_body(dialect: Dialect, wants_json: bool, error: &ErrorText<'_>) -> ErrorBody {
    let body = match dialect {
        Dialect::Plain if !wants_json => {
            let body = Bytes::from(format!("{}\n", error.message));
            return ErrorBody { content_type: TEXT, body, header: None };
        }
        Dialect::OpenAi | Dialect::Grpc | Dialect::Plain => openai_form(error),
        Dialect::Anthropic => anthropic_form(error),
        Dialect::Google => google_form(error),
        Dialect::KServeV1 | Dialect::KServeV2 | Dialect::Ollama => text_form(error),
        Dialect::Tgi => tgi_form(error),
        Dialect::TorchServe => torchserve_form(error),
        Dialect::Cohere | Dialect::Aws => json(&MessageForm { message: error.message }),
    };
    let header = (dialect == Dialect::Aws).then(|| ("x-amzn-errortype", aws_type(error.status)));
    ErrorBody { content_type: JSON, body: Bytes::from(body), header }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("structs of strings are JSON")
}

#[derive(Serialize)]
struct MessageForm<'a> {
    message: &'a str,
}

#[derive(Serialize)]
struct OpenAiForm<'a> {
    error: OpenAiError<'a>,
}

/// What stands in `error` of OpenAI's form.
#[derive(Clone, Copy, Serialize)]
pub(super) struct OpenAiError<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: &'a str,
    request_id: &'a str,
}

impl<'a> OpenAiError<'a> {
    pub(super) fn new(error: &ErrorText<'a>) -> Self {
        let r#type = match error.status {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        let ErrorText { code, message, param, request_id, .. } = *error;
        Self { message, r#type, param, code, request_id }
    }
}

/// <https://platform.openai.com/docs/guides/error-codes>, with the request's id beside.
pub(super) fn openai_form(error: &ErrorText<'_>) -> Vec<u8> {
    json(&OpenAiForm { error: OpenAiError::new(error) })
}

#[derive(Serialize)]
struct AnthropicForm<'a> {
    r#type: &'static str,
    error: AnthropicError<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct AnthropicError<'a> {
    r#type: &'static str,
    message: &'a str,
}

/// <https://docs.anthropic.com/en/api/errors>.
pub(super) fn anthropic_form(error: &ErrorText<'_>) -> Vec<u8> {
    let r#type = match error.status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    let inner = AnthropicError { r#type, message: error.message };
    json(&AnthropicForm { r#type: "error", error: inner, request_id: error.request_id })
}

#[derive(Serialize)]
struct GoogleForm<'a> {
    error: GoogleError<'a>,
}

#[derive(Serialize)]
struct GoogleError<'a> {
    code: u16,
    message: &'a str,
    status: &'static str,
}

/// <https://cloud.google.com/apis/design/errors>.
pub(super) fn google_form(error: &ErrorText<'_>) -> Vec<u8> {
    let status = match error.status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        408 | 504 => "DEADLINE_EXCEEDED",
        429 => "RESOURCE_EXHAUSTED",
        501 => "UNIMPLEMENTED",
        502 | 503 => "UNAVAILABLE",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    };
    json(&GoogleForm { error: GoogleError { code: error.status, message: error.message, status } })
}

#[derive(Serialize)]
struct TextForm<'a> {
    error: &'a str,
}

/// KServe's, Triton's and Ollama's.
pub(super) fn text_form(error: &ErrorText<'_>) -> Vec<u8> {
    json(&TextForm { error: error.message })
}

#[derive(Serialize)]
struct TgiForm<'a> {
    error: &'a str,
    error_type: &'static str,
}

/// <https://huggingface.github.io/text-generation-inference>: `ErrorResponse`.
pub(super) fn tgi_form(error: &ErrorText<'_>) -> Vec<u8> {
    let error_type = match error.status {
        429 | 503 => "overloaded",
        500.. => "generation",
        _ => "validation",
    };
    json(&TgiForm { error: error.message, error_type })
}

#[derive(Serialize)]
struct TorchServeForm<'a> {
    code: u16,
    r#type: &'static str,
    message: &'a str,
}

/// <https://pytorch.org/serve/rest_api.html>.
fn torchserve_form(error: &ErrorText<'_>) -> Vec<u8> {
    let r#type = match error.status {
        404 => "ModelNotFoundException",
        405 => "MethodNotAllowedException",
        429 | 503 => "ServiceUnavailableException",
        500.. => "InternalServerException",
        _ => "BadRequestException",
    };
    json(&TorchServeForm { code: error.status, r#type, message: error.message })
}

/// <https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html>.
const fn aws_type(status: u16) -> &'static str {
    match status {
        401 | 403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        408 | 504 => "ModelTimeoutException",
        429 => "ThrottlingException",
        503 => "ServiceUnavailableException",
        500.. => "InternalServerException",
        _ => "ValidationException",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn error(status: u16) -> ErrorText<'static> {
        ErrorText {
            code: "c",
            status,
            message: "a \"b\"\n",
            param: Some("model"),
            request_id: "r1",
        }
    }

    fn body(dialect: Dialect, wants_json: bool, status: u16) -> Value {
        let said = error_body(dialect, wants_json, &error(status));
        assert_eq!(said.content_type, JSON);
        serde_json::from_slice(&said.body).unwrap()
    }

    #[test]
    fn openai_clients_get_an_error_object() {
        let error = json!({"message": "a \"b\"\n", "type": "invalid_request_error", "param": "model",
            "code": "c", "request_id": "r1"});
        assert_eq!(body(Dialect::OpenAi, false, 404), json!({"error": error}));
        for (status, kind) in [
            (400, "invalid_request_error"),
            (401, "authentication_error"),
            (403, "permission_error"),
            (429, "rate_limit_error"),
            (503, "server_error"),
        ] {
            assert_eq!(body(Dialect::OpenAi, true, status)["error"]["type"], kind);
        }
    }

    #[test]
    fn clients_of_each_dialect_get_its_form() {
        let text = "a \"b\"\n";
        for (dialect, status, form) in [
            (Dialect::KServeV1, 404, json!({"error": text})),
            (Dialect::KServeV2, 503, json!({"error": text})),
            (Dialect::Ollama, 404, json!({"error": text})),
            (
                Dialect::Anthropic,
                404,
                json!({"type": "error", "request_id": "r1",
                    "error": {"type": "not_found_error", "message": text}}),
            ),
            (
                Dialect::Google,
                404,
                json!({"error": {"code": 404, "message": text, "status": "NOT_FOUND"}}),
            ),
            (Dialect::Tgi, 429, json!({"error": text, "error_type": "overloaded"})),
            (
                Dialect::TorchServe,
                404,
                json!({"code": 404, "type": "ModelNotFoundException", "message": text}),
            ),
            (Dialect::Cohere, 400, json!({"message": text})),
            (Dialect::Aws, 400, json!({"message": text})),
        ] {
            assert_eq!(body(dialect, false, status), form, "{dialect:?}");
        }
    }

    #[test]
    fn anthropic_types_follow_the_status() {
        for (status, kind) in [
            (400, "invalid_request_error"),
            (401, "authentication_error"),
            (403, "permission_error"),
            (413, "request_too_large"),
            (429, "rate_limit_error"),
            (502, "api_error"),
            (503, "overloaded_error"),
            (504, "timeout_error"),
        ] {
            assert_eq!(body(Dialect::Anthropic, true, status)["error"]["type"], kind);
        }
    }

    #[test]
    fn aws_clients_tell_errors_apart_by_a_header() {
        let kind = |status| error_body(Dialect::Aws, true, &error(status)).header;
        assert_eq!(kind(404), Some(("x-amzn-errortype", "ResourceNotFoundException")));
        assert_eq!(kind(429), Some(("x-amzn-errortype", "ThrottlingException")));
        assert_eq!(error_body(Dialect::OpenAi, true, &error(404)).header, None);
    }

    #[test]
    fn plain_paths_get_text_unless_they_speak_json() {
        let said = error_body(Dialect::Plain, false, &error(503));
        assert_eq!((said.content_type, &said.body[..]), (TEXT, &b"a \"b\"\n\n"[..]));
        assert_eq!(body(Dialect::Plain, true, 503), body(Dialect::OpenAi, true, 503));
    }
}
