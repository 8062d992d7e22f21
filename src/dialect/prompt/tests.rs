//! What bodies of many servers' dialects are estimated to take.
use super::*;
use proptest::prelude::*;

fn read(body: &str) -> Prompt {
    prompt(Some("application/json"), None, body.as_bytes(), 0).unwrap()
}

fn asks(body: &str) -> (u64, u64) {
    let Prompt { bounded, unbounded, .. } = read(body);
    (bounded, unbounded)
}

fn problem(body: &str) -> PromptProblem {
    prompt(None, None, body.as_bytes(), 0).unwrap_err()
}

#[test]
fn texts_are_counted_by_four_bytes_and_names_are_not() {
    let chat = r#"{"model":"a-long-name-of-a-model","messages":[{"role":"user","content":"12345678"}],"temperature":0.5}"#;
    assert_eq!(read(chat), Prompt { tokens: 3, unbounded: 1, ..Prompt::default() });
    assert!(read(r#"{"input":"a","background":true}"#).background);
    assert!(!read(r#"{"input":"a","background":false}"#).background);
    assert_eq!(read(r#"{"prompt":["abcd","efgh"]}"#).tokens, 2);
    assert_eq!(read(r#"{"prompt":[[1,2,3],[4]]}"#).tokens, 4);
    assert_eq!(read(r#"{"input":"\u4f60\u597d"}"#).tokens, 2);
    assert_eq!(read("\"abcdefgh\"").tokens, 2);
    assert_eq!(read("\u{feff}{\"prompt\":\"abcd\"}").tokens, 1);
}

#[test]
fn the_longest_answer_is_what_the_body_lets_it_be() {
    for (body, bounded, unbounded) in [
        (r#"{"max_tokens":16}"#, 16, 0),
        (r#"{"max_tokens":16,"max_completion_tokens":40}"#, 40, 0),
        (r#"{"max_output_tokens":7,"n":3}"#, 21, 0),
        (r#"{"n":3,"max_tokens":null}"#, 0, 3),
        (r#"{"text_input":"a","parameters":{"max_new_tokens":9,"best_of":2}}"#, 18, 0),
        (r#"{"max_tokens":1e3}"#, 1000, 0),
        (r#"{"max_tokens":10.0,"n":0}"#, 10, 0),
        (r#"{"max_tokens":18446744073709551615,"n":9}"#, u64::MAX, 0),
        (r#"{"messages":[{"max_tokens":5}]}"#, 0, 1),
        (r#"{"Max_Tokens":50,"N":2}"#, 100, 0),
        // Ollama, where -1 is no bound; Gemini; Bedrock.
        (r#"{"model":"m","prompt":"a","options":{"num_predict":64}}"#, 64, 0),
        (r#"{"options":{"num_predict":-1}}"#, 0, 1),
        (r#"{"options":{"num_predict":-3}}"#, 0, 1),
        (r#"{"options":{"num_predict":0}}"#, 0, 1),
        (r#"{"max_tokens":1,"options":{"num_predict":-1}}"#, 0, 1),
        (r#"{"max_tokens":7,"num_predict":null}"#, 7, 0),
        (r#"{"prompt":"a","n_predict":-2}"#, 0, 1),
        (r#"{"prompt":"a","n_predict":0}"#, 0, 0),
        (r#"{"contents":[],"generationConfig":{"maxOutputTokens":8,"candidateCount":4}}"#, 32, 0),
        (r#"{"inferenceConfig":{"maxTokens":6}}"#, 6, 0),
        // SGLang.
        (
            r#"{"text":["a","b"],"sampling_params":[{"max_new_tokens":4},{"max_new_tokens":9}]}"#,
            18,
            0,
        ),
    ] {
        assert_eq!(asks(body), (bounded, unbounded), "{body}");
    }
}

#[test]
fn each_prompt_of_a_list_is_answered() {
    for (body, bounded, unbounded) in [
        (r#"{"prompt":["a","b","c"],"max_tokens":10,"n":2}"#, 60, 0),
        (r#"{"prompt":[1,2,3],"max_tokens":10}"#, 10, 0),
        (r#"{"prompt":[[1,2],[3]],"max_tokens":10}"#, 20, 0),
        (r#"{"max_tokens":10,"prompt":[]}"#, 10, 0),
        (r#"{"prompt":["a","b"]}"#, 0, 2),
        (r#"{"input":[{"role":"user","content":"a"},{"role":"user","content":"b"}]}"#, 0, 1),
        (r#"{"messages":[[{"content":"a"}],[{"content":"b"}]],"max_tokens":5}"#, 10, 0),
        (
            r#"{"instances":[{"prompt":"a"},{"prompt":"b"}],"parameters":{"max_new_tokens":5}}"#,
            10,
            0,
        ),
        (r#"{"inputs":["a","b","c","d"],"parameters":{"max_new_tokens":5}}"#, 20, 0),
        (r#"{"requests":[{"params":{"max_tokens":5,"n":2}},{"params":{"messages":[]}}]}"#, 10, 1),
        (r#"[{"prompt":"a","max_tokens":5},{"prompt":["b","c"],"max_tokens":7}]"#, 19, 0),
    ] {
        assert_eq!(asks(body), (bounded, unbounded), "{body}");
    }
}

#[test]
fn what_is_no_whole_number_is_a_problem() {
    for (value, found) in [
        (r#""1000""#, "a text"),
        ("true", "a boolean"),
        ("-5", "less than nothing"),
        ("-1e400", "less than nothing"),
        ("1e400", "too large a number"),
        ("1.5", "a fraction"),
        ("[1]", "a list"),
        (r#"{"a":1}"#, "an object"),
    ] {
        for name in ["max_tokens", "n"] {
            let body = format!(r#"{{"prompt":"a","{name}":{value}}}"#);
            assert_eq!(problem(&body), PromptProblem::NotACount { name, found }, "{body}");
            let inner = format!(r#"{{"prompt":"a","parameters":{{"{name}":{value}}}}}"#);
            assert_eq!(problem(&inner), PromptProblem::NotACount { name, found }, "{inner}");
        }
    }
    let text = problem(r#"{"options":{"num_predict":"9"}}"#);
    assert_eq!((text.code(), text.param()), (RefusalCode::BadRequest, Some("num_predict")));
}

#[test]
fn two_fields_of_one_name_are_a_problem_however_they_are_spelled() {
    for body in [
        r#"{"max_tokens":5,"max_tokens":5}"#,
        r#"{"max_tokens":5,"max_tok\u0065ns":9}"#,
        r#"{"max_tokens":5,"MAX_TOKENS":9}"#,
        r#"{"parameters":{"max_tokens":5,"Max_tokens":null}}"#,
    ] {
        assert_eq!(problem(body), PromptProblem::Twice("max_tokens"), "{body}");
    }
    assert_eq!(asks(r#"{"max_tokens":5,"parameters":{"max_tokens":9}}"#), (9, 0));
}

#[test]
fn an_image_is_no_megabyte_of_text() {
    let image = format!(r#"{{"url":"data:image/png;base64,{}"}}"#, "iVBO/+A=".repeat(100_000));
    assert_eq!(read(&image).tokens, 1000);
    let text = format!(r#"{{"content":"{}"}}"#, "word ".repeat(1000));
    assert_eq!(read(&text).tokens, 1250);
}

#[test]
fn what_is_no_json_counts_by_its_kind_and_length() {
    let tokens = |kind, body: &[u8], rest| prompt(kind, None, body, rest).unwrap().tokens;
    assert_eq!(tokens(None, b"12345678 and no json", 0), 5);
    assert_eq!(tokens(Some("text/plain"), b"1234", 400), 101);
    assert_eq!(tokens(Some("audio/wav"), b"RIFF", 1 << 20), 1000);
    assert_eq!(tokens(None, b"", 0), 0);
}

#[test]
fn what_cannot_be_counted_is_a_problem() {
    let json = Some("application/json");
    let read = |kind, encoding, body: &[u8], rest| prompt(kind, encoding, body, rest).unwrap_err();
    assert_eq!(read(json, Some("gzip"), b"\x1f\x8b", 0), PromptProblem::Sealed);
    assert_eq!(read(json, None, b"{\"prompt\":\"a", 99), PromptProblem::TooLong);
    assert_eq!(read(None, None, b"{\"prompt\":\"a", 99), PromptProblem::TooLong);
    let deep = format!("{{\"a\":{}{},\"n\":9}}", "[".repeat(300), "]".repeat(300));
    for body in [&deep, "{\"max_tokens\":9,\"temperature\":NaN}", "{\"a\":1}{\"n\":9}", "{"] {
        assert!(matches!(problem(body), PromptProblem::Broken(_)), "{body}");
    }
    assert!(matches!(read(None, None, b"{\0\"\0n\0", 0), PromptProblem::Encoding(_)));
}

#[test]
fn paths_that_only_read_are_known() {
    for reads in
        ["/v1/embeddings", "/v1/embeddings/", "/rerank?x=/y", "/v1/messages/count_tokens", "/embed"]
    {
        assert!(!generates(reads), "{reads}");
    }
    for writes in ["/v1/chat/completions", "/v1/responses", "/", "/v2/models/m/generate"] {
        assert!(generates(writes), "{writes}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(body: Vec<u8>, json in "[{}\\[\\]\",:a1n max_tokens]*", rest: u64) {
        for rest in [0, rest] {
            drop(prompt(None, None, &body, rest));
            drop(prompt(None, None, json.as_bytes(), rest));
        }
    }
}
