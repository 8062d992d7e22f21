//! What a document says of a failure, wherever it is cut.
use super::*;
use Failure::{Client, Overloaded, Server};
use proptest::prelude::*;
use serde_json::{Value, json};

fn said(text: &str, piece: usize) -> Option<Failure> {
    let mut reader = ErrorReader::default();
    text.as_bytes().chunks(piece.max(1)).for_each(|piece| reader.take(piece));
    reader.finish(false)
}

#[test]
fn what_a_document_says_is_found_wherever_it_is_cut() {
    let long = "x".repeat(100_000);
    for (document, failure) in [
        (r#"{"id":"c","choices":[{"delta":{"content":"{\"error\":1}"}}]}"#.to_owned(), None),
        (r#"{"error":null,"type":"response.created","response":{"error":null}}"#.to_owned(), None),
        (r#"{"error":"","a":{"error":"x"},"b":[{"error":{"code":1}}]}"#.to_owned(), None),
        (r#"{"error":false}"#.to_owned(), None),
        (r#"{"error":{}}"#.to_owned(), None),
        (r#""error""#.to_owned(), None),
        ("[DONE]".to_owned(), None),
        (r#"{"error":{"message":"worker died","type":"x","code":null}}"#.to_owned(), Some(Server)),
        (r#"{ "choices" : [] , "error" : { "message" : "full" , "code" : 429 } }"#.to_owned(), Some(Overloaded)),
        (r#"{"error":{"code":400,"message":"no"},"choices":[]}"#.to_owned(), Some(Client)),
        (r#"{"error":{"code":"400"}}"#.to_owned(), Some(Client)),
        (r#"{"error":{"message":"x","status_code":429}}"#.to_owned(), Some(Overloaded)),
        (r#"{"error":{"message":"x","http_code":"422"}}"#.to_owned(), Some(Client)),
        (r#"{"status_code":429,"choices":[]}"#.to_owned(), None),
        (r#"{"error":"CUDA error"}"#.to_owned(), Some(Server)),
        (r#"{"error":"too long","error_type":"validation"}"#.to_owned(), Some(Client)),
        (r#"{"error":"busy","error_type":"overloaded"}"#.to_owned(), Some(Overloaded)),
        (r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#.to_owned(), Some(Overloaded)),
        (r#"{"type":"error","code":"server_error","message":"x"}"#.to_owned(), Some(Server)),
        (r#"{"type":"error","code":"rate_limit_exceeded"}"#.to_owned(), Some(Overloaded)),
        (r#"{"object":"error","message":"x","type":"BadRequestError","code":400}"#.to_owned(), Some(Client)),
        (r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"invalid_prompt"}}}"#.to_owned(), Some(Client)),
        (r#"{"response":{"status":"failed"}}"#.to_owned(), Some(Server)),
        (r#"{"type":"response.incomplete","response":{"status":"incomplete","error":null}}"#.to_owned(), None),
        (r#"{"error":{"code":503,"message":"x","status":"UNAVAILABLE"}}"#.to_owned(), Some(Overloaded)),
        (format!(r#"{{"text":"{long}","error":{{"message":"{long}","code":"{long}","type":"NotFoundError"}}}}"#), Some(Client)),
    ] {
        for piece in [1, 2, 3, 7, document.len()] {
            assert_eq!(said(&document, piece), failure, "{document:.200} by {piece}");
        }
    }
}

#[test]
fn a_reader_is_as_new_after_a_document() {
    let mut reader = ErrorReader::default();
    reader.take(br#"{"error":{"code":429,"x":[{"#);
    assert_eq!(reader.finish(false), Some(Overloaded));
    assert!(reader.is_empty());
    reader.take(br#"{"a":1}"#);
    assert_eq!(reader.finish(false), None);
    assert_eq!(reader.finish(true), Some(Server));
}

/// The same by a parser of whole documents.
fn expected(value: &Value) -> bool {
    let said = |error: Option<&Value>| match error {
        None | Some(Value::Null | Value::Bool(false) | Value::Array(_)) => false,
        Some(Value::Number(number)) => number.to_string() != "0",
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
        Some(Value::Bool(true)) => true,
    };
    let response = value.get("response").filter(|response| response.is_object());
    said(value.get("error"))
        || said(response.and_then(|response| response.get("error")))
        || response.is_some_and(|response| response["status"] == "failed")
        || matches!(value["type"].as_str(), Some("error" | "response.failed"))
        || value["object"] == "error"
}

fn any_json() -> impl Strategy<Value = Value> {
    let key = || {
        prop::sample::select(vec![
            "error", "type", "response", "status", "code", "object", "x", "\"{",
        ])
    };
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..9_u8).prop_map(Value::from),
        prop::sample::select(vec!["error", "failed", "", "}\\\"", "response.failed"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #[test]
    fn it_finds_what_a_parser_of_whole_documents_finds(value in any_json(), pretty: bool, piece in 1..20_usize) {
        let text = if pretty { format!("{value:#}") } else { value.to_string() };
        prop_assert_eq!(said(&text, piece).is_some(), expected(&value), "{}", text);
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes: Vec<u8>, json in "[{}\\[\\]\",:a1\\\\errotyp ]*") {
        let mut reader = ErrorReader::default();
        reader.take(&bytes);
        reader.finish(false);
        reader.take(json.as_bytes());
        reader.finish(true);
    }
}
