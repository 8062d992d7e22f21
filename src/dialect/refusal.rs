//! Error bodies in the dialect of the request, for what Evener refuses itself.
use super::facts::Dialect;
use bytes::Bytes;
use serde::Serialize;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// The content type and body of a refusal. A client on a plain path gets OpenAI's form when it
/// `wants_json` (it sent or accepts JSON), else a line of text.
pub fn error_body(
    dialect: Dialect,
    wants_json: bool,
    code: &str,
    status: u16,
    message: &str,
    param: Option<&str>,
    request_id: &str,
) -> (&'static str, Bytes) {
    match dialect {
        Dialect::KServeV1 | Dialect::KServeV2 => (JSON, json(&KServeError { error: message })),
        Dialect::Plain if !wants_json => (TEXT, Bytes::from(format!("{message}\n"))),
        Dialect::OpenAi | Dialect::Grpc | Dialect::Plain => {
            (JSON, json(&OpenAiError::new(code, status, message, param, request_id)))
        }
    }
}

/// The last event of a stream that broke after it began; no `[DONE]` follows it.
pub fn sse_error_event(code: &str, status: u16, message: &str, request_id: &str) -> Bytes {
    let error = json(&OpenAiError::new(code, status, message, None, request_id));
    Bytes::from([b"data: ".as_slice(), &error, b"\n\n"].concat())
}

fn json(value: &impl Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec(value).expect("structs of strings are JSON"))
}

#[derive(Serialize)]
struct KServeError<'a> {
    error: &'a str,
}

#[derive(Serialize)]
struct OpenAiError<'a> {
    error: OpenAiErrorFields<'a>,
}

#[derive(Serialize)]
struct OpenAiErrorFields<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: &'a str,
    request_id: &'a str,
}

impl<'a> OpenAiError<'a> {
    fn new(
        code: &'a str,
        status: u16,
        message: &'a str,
        param: Option<&'a str>,
        request_id: &'a str,
    ) -> Self {
        let r#type = match status {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        Self { error: OpenAiErrorFields { message, r#type, param, code, request_id } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn body(dialect: Dialect, wants_json: bool, status: u16) -> (&'static str, Bytes) {
        error_body(dialect, wants_json, "c", status, "a \"b\"\n", Some("model"), "r1")
    }

    #[test]
    fn openai_clients_get_an_error_object() {
        let (kind, bytes) = body(Dialect::OpenAi, false, 404);
        let seen: Value = serde_json::from_slice(&bytes).unwrap();
        let error = json!({"message": "a \"b\"\n", "type": "invalid_request_error", "param": "model",
            "code": "c", "request_id": "r1"});
        assert_eq!((kind, seen), ("application/json", json!({"error": error})));
    }

    #[test]
    fn the_type_follows_the_status() {
        for (status, kind) in [
            (400, "invalid_request_error"),
            (401, "authentication_error"),
            (403, "permission_error"),
            (429, "rate_limit_error"),
            (503, "server_error"),
        ] {
            let seen: Value =
                serde_json::from_slice(&body(Dialect::OpenAi, true, status).1).unwrap();
            assert_eq!(seen["error"]["type"], kind);
        }
    }

    #[test]
    fn kserve_clients_get_a_string() {
        for dialect in [Dialect::KServeV1, Dialect::KServeV2] {
            assert_eq!(body(dialect, true, 404).1, r#"{"error":"a \"b\"\n"}"#);
        }
    }

    #[test]
    fn plain_paths_get_text_unless_they_speak_json() {
        let (kind, text) = error_body(Dialect::Plain, false, "c", 503, "busy", None, "r");
        assert_eq!((kind, &text[..]), (TEXT, &b"busy\n"[..]));
        assert_eq!(body(Dialect::Plain, true, 503), body(Dialect::OpenAi, true, 503));
    }

    #[test]
    fn a_broken_stream_ends_with_one_event() {
        let event = sse_error_event("stream_stalled", 504, "line\nline", "r1");
        let text = std::str::from_utf8(&event).unwrap();
        let data = text.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap();
        assert!(!data.contains('\n'));
        let seen: Value = serde_json::from_str(data).unwrap();
        assert_eq!(seen["error"]["code"], "stream_stalled");
    }
}
