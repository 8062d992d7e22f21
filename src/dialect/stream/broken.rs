//! The last words of a stream that broke after it began, in the form that clients of its dialect raise for.
use super::StreamForm;
use crate::dialect::dialects::StreamError;
use crate::dialect::refusal::{
    ErrorText, OpenAiError, anthropic_form, google_form, openai_form, text_form, tgi_form,
};
use bytes::Bytes;
use serde::Serialize;

/// What is sent between two pieces, and then the end; no `[DONE]` follows. `pieces`: how many passed before. `None`: no
/// word of this dialect would be heard, and the stream is to be cut.
pub fn broken_stream(
    shape: StreamError,
    form: StreamForm,
    error: &ErrorText<'_>,
    pieces: u64,
) -> Option<Bytes> {
    let (name, data) = match shape {
        StreamError::Responses if form == StreamForm::Events => {
            return Some(responses(error, pieces).into());
        }
        StreamError::OpenAi | StreamError::Responses => ("", openai_form(error)),
        StreamError::Anthropic => ("error", anthropic_form(error)),
        StreamError::Google => ("", google_form(error)),
        StreamError::Text => ("", text_form(error)),
        StreamError::Tgi => ("", tgi_form(error)),
        StreamError::None => return None,
    };
    Some(Bytes::from(match form {
        StreamForm::Events => event(name, &data),
        StreamForm::Lines => [data.as_slice(), b"\n"].concat(),
    }))
}

fn event(name: &str, data: &[u8]) -> Vec<u8> {
    let name = if name.is_empty() { String::new() } else { format!("event: {name}\n") };
    [name.as_bytes(), b"data: ", data, b"\n\n"].concat()
}

/// OpenAI's libraries raise for any event that has `error`; others wait for `response.failed`
/// (<https://platform.openai.com/docs/api-reference/responses-streaming>). The events of a response are numbered from 0.
fn responses(error: &ErrorText<'_>, pieces: u64) -> Vec<u8> {
    let ErrorText { code, message, param, .. } = *error;
    let said = Said {
        r#type: "error",
        sequence_number: pieces,
        code,
        message,
        param,
        error: OpenAiError::new(error),
    };
    let response = Response {
        object: "response",
        status: "failed",
        error: ResponseError { code: "server_error", message },
        output: [],
    };
    let failed = Failed { r#type: "response.failed", sequence_number: pieces + 1, response };
    let json = |json: Result<Vec<u8>, _>| json.expect("structs of strings are JSON");
    let said = event("error", &json(serde_json::to_vec(&said)));
    [said, event("response.failed", &json(serde_json::to_vec(&failed)))].concat()
}

#[derive(Serialize)]
struct Said<'a> {
    r#type: &'static str,
    sequence_number: u64,
    code: &'a str,
    message: &'a str,
    param: Option<&'a str>,
    error: OpenAiError<'a>,
}

#[derive(Serialize)]
struct Failed<'a> {
    r#type: &'static str,
    sequence_number: u64,
    response: Response<'a>,
}

#[derive(Serialize)]
struct Response<'a> {
    object: &'static str,
    status: &'static str,
    error: ResponseError<'a>,
    output: [(); 0],
}

#[derive(Serialize)]
struct ResponseError<'a> {
    code: &'static str,
    message: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Failure, StreamWatch};
    use serde_json::{Value, json};

    const ERROR: ErrorText<'static> = ErrorText {
        code: "stream_stalled",
        status: 504,
        message: "line\nline",
        param: None,
        request_id: "r1",
    };

    fn said(shape: StreamError, form: StreamForm) -> String {
        String::from_utf8(broken_stream(shape, form, &ERROR, 3).unwrap().to_vec()).unwrap()
    }

    /// Names and data of the events.
    fn events(text: &str) -> Vec<(&str, Value)> {
        let each = text.trim_end().split("\n\n").map(|event| {
            let (name, data) = event.split_once("data: ").unwrap();
            let name = name.trim().strip_prefix("event: ").unwrap_or_default();
            (name, serde_json::from_str(data).unwrap())
        });
        each.collect()
    }

    #[test]
    fn each_dialect_has_its_last_words() {
        let openai = json!({"error": {"message": "line\nline", "type": "server_error", "param": null,
            "code": "stream_stalled", "request_id": "r1"}});
        let anthropic = json!({"type": "error", "request_id": "r1",
            "error": {"type": "timeout_error", "message": "line\nline"}});
        let google =
            json!({"error": {"code": 504, "message": "line\nline", "status": "DEADLINE_EXCEEDED"}});
        let text = json!({"error": "line\nline"});
        let tgi = json!({"error": "line\nline", "error_type": "generation"});
        for (shape, name, data) in [
            (StreamError::OpenAi, "", &openai),
            (StreamError::Anthropic, "error", &anthropic),
            (StreamError::Google, "", &google),
            (StreamError::Text, "", &text),
            (StreamError::Tgi, "", &tgi),
        ] {
            assert_eq!(events(&said(shape, StreamForm::Events)), [(name, data.clone())]);
            let line = said(shape, StreamForm::Lines);
            assert_eq!(serde_json::from_str::<Value>(line.trim_end()).unwrap(), *data);
            assert!(line.ends_with('\n') && line.lines().count() == 1);
        }
        assert_eq!(broken_stream(StreamError::None, StreamForm::Events, &ERROR, 0), None);
    }

    #[test]
    fn a_response_is_said_to_have_failed_in_two_ways() {
        let text = said(StreamError::Responses, StreamForm::Events);
        let [(first, error), (second, failed)] = events(&text).try_into().unwrap();
        assert_eq!((first, second), ("error", "response.failed"));
        assert_eq!((&error["type"], &error["sequence_number"]), (&"error".into(), &3.into()));
        assert_eq!(error["error"]["code"], "stream_stalled");
        assert_eq!((&failed["type"], &failed["sequence_number"]), (&second.into(), &4.into()));
        assert_eq!(failed["response"]["status"], "failed");
    }

    #[test]
    fn another_evener_in_front_takes_it_for_a_failure_of_the_server() {
        for shape in [
            StreamError::OpenAi,
            StreamError::Responses,
            StreamError::Anthropic,
            StreamError::Google,
            StreamError::Text,
            StreamError::Tgi,
        ] {
            for form in [StreamForm::Events, StreamForm::Lines] {
                let mut watch = StreamWatch::new(form);
                let failure = watch.take(said(shape, form).as_bytes());
                assert_eq!(failure, Some(Failure::Server), "{shape:?} {form:?}");
                assert!(watch.is_between());
            }
        }
    }
}
