//! What answers of many servers say of their tokens, and what is made of it, however they are cut.
use super::*;
use UsageForm::{Events, Json, JsonLines};
use proptest::prelude::*;
use serde_json::Value;

/// A form, an answer, and the tokens of prompt and answer that it tells.
type Case = (UsageForm, &'static str, Option<u64>, Option<u64>);

const OPENAI: &[Case] = &[
    (
        Json,
        r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":7,"total_tokens":10}}"#,
        Some(3),
        Some(7),
    ),
    (
        Json,
        r#"{"output":[], "usage" : {"input_tokens": 12, "output_tokens": 0}, "user": null}"#,
        Some(12),
        Some(0),
    ),
    (
        Json,
        r#"{"data":[{"embedding":[0.1,-2e5]}],"usage":{"prompt_tokens":3,"total_tokens":3}}"#,
        Some(3),
        None,
    ),
    (Json, r#"{"results":[],"usage":{"total_tokens":30}}"#, Some(30), None),
    (
        Json,
        r#"{"usage":{"prompt_tokens":9,"prompt_tokens_details":{"prompt_tokens":1},"completion_tokens":4}}"#,
        Some(9),
        Some(4),
    ),
    (Events, "data: {\"a\":1}\n\ndata: {\"a\":2}\n\ndata: [DONE]\n\n", None, Some(2)),
    (Events, ": hi\r\n\r\nevent: x\r\ndata:{}\r\n\r\ndata", None, Some(1)),
    // vLLM's running totals, and its last.
    (
        Events,
        "data: {\"usage\":{\"completion_tokens\":1}}\n\ndata: {\"usage\":{\"completion_tokens\":2}}\n\n\
         data: {\"choices\":[],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":9}}\n\ndata: [DONE]\n\n",
        Some(4),
        Some(9),
    ),
    (Events, "data: {\"usage\":null}\n\n", None, Some(1)),
    // What is told at the beginning only is old behind many events.
    (
        Events,
        "data: {\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":1}}\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\ndata: 4\n\n",
        Some(4),
        Some(5),
    ),
    // A value in two lines of one event, after a byte order mark.
    (
        Events,
        "\u{feff}\ndata: {\"usage\":\rdata: {\"prompt_tokens\":4,\rdata: \"completion_tokens\":9}}\r\r",
        Some(4),
        Some(9),
    ),
];

const OTHERS: &[Case] = &[
    // Anthropic: in pieces, cumulative, cached tokens beside the others.
    (
        Events,
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"content\":[],\"usage\":{\"input_tokens\":25,\
         \"cache_creation_input_tokens\":100,\"cache_read_input_tokens\":1000,\"output_tokens\":1}}}\n\n\
         data: {\"type\":\"content_block_delta\"}\n\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":15}}\n\n\
         data: {\"type\":\"message_stop\"}\n\n",
        Some(1125),
        Some(15),
    ),
    // OpenAI's Responses.
    (
        Events,
        "data: {\"response\":{\"usage\":null}}\n\ndata: {\"type\":\"response.completed\",\"response\":{\"output\":[{\"usage\":\
         {\"input_tokens\":1}}],\"usage\":{\"input_tokens\":13,\"output_tokens\":5},\"metadata\":{\"usage\":\"x\"}}}\n\n",
        Some(13),
        Some(5),
    ),
    // Ollama.
    (
        JsonLines,
        "{\"response\":\"a\"}\n{\"response\":\"b\"}\n{\"done\":true,\"prompt_eval_count\":26,\"eval_count\":298}\n",
        Some(26),
        Some(298),
    ),
    (JsonLines, "{\"response\":\"a\"}\n\n{\"response\":\"b\"}\n", None, Some(2)),
    (Json, r#"{"message":{"content":"a"},"prompt_eval_count":2,"eval_count":3}"#, Some(2), Some(3)),
    // TGI, llama.cpp, SGLang with two prompts, Gemini with its running totals, Bedrock.
    (Json, r#"{"generated_text":"a","details":{"generated_tokens":20}}"#, None, Some(20)),
    (Json, r#"{"content":"a","tokens_predicted":6,"tokens_evaluated":5}"#, Some(5), Some(6)),
    (
        Json,
        r#"[{"meta_info":{"prompt_tokens":2,"completion_tokens":3}},{"meta_info":{"prompt_tokens":4,"completion_tokens":5}}]"#,
        Some(6),
        Some(8),
    ),
    (
        Json,
        r#"[{"usageMetadata":{"promptTokenCount":4}},{"usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":7,"thoughtsTokenCount":3}}]"#,
        Some(4),
        Some(10),
    ),
    (Json, r#"{"output":{},"usage":{"inputTokens":8,"outputTokens":2}}"#, Some(8), Some(2)),
];

const NOTHING: &[Case] = &[
    (Json, r#"{"choices":[{"text":"\"usage\":{\"completion_tokens\":9}"}]}"#, None, None),
    (
        Json,
        r#"{"choices":[{"message":{"tool_calls":[{"arguments":{"usage":{"completion_tokens":9}}}]}}]}"#,
        None,
        None,
    ),
    (Json, r#"{"metadata":{"usage":{"completion_tokens":9}},"eval_count":"9"}"#, None, None),
    (Json, r#"{"usage":null}"#, None, None),
    (Json, r#"{"us\u0061ge":{"completion_tokens":9}}"#, None, None),
    (Json, "", None, None),
    (Json, "}}}{", None, None),
    // A server that counts nothing, and says so in numbers.
    (Json, r#"{"usage":{"prompt_tokens":0,"completion_tokens":0}}"#, None, None),
    (
        Events,
        "data: 1\n\ndata: 2\n\ndata: {\"usage\":{\"prompt_tokens\":0,\"completion_tokens\":0}}\n\n",
        None,
        Some(3),
    ),
];

fn usage(form: UsageForm, text: &[u8], piece: usize) -> Usage {
    let mut scan = UsageScan::new(form);
    text.chunks(piece).for_each(|piece| scan.chunk(piece));
    scan.usage()
}

#[test]
fn tokens_are_those_that_the_answer_tells_or_its_events_however_it_is_cut() {
    for &(form, text, prompt, completion) in OPENAI.iter().chain(OTHERS).chain(NOTHING) {
        for piece in 1..=text.len().max(1) {
            let wanted = Usage { prompt, completion };
            assert_eq!(usage(form, text.as_bytes(), piece), wanted, "{text} by {piece}");
        }
    }
}

#[test]
fn megabytes_before_or_behind_the_usage_do_not_hide_it() {
    let numbers = vec!["0.123456"; 300_000].join(",");
    let told = r#""usage":{"prompt_tokens":8,"completion_tokens":1}"#;
    for text in [
        format!(r#"{{"data":[{{"embedding":[{numbers}]}}],{told}}}"#),
        format!(r#"{{{told},"data":[{{"embedding":[{numbers}]}}]}}"#),
        format!(r#"{{{told},"metadata":{{"{}":1}}}}"#, "long key ".repeat(10_000)),
    ] {
        let wanted = Usage { prompt: Some(8), completion: Some(1) };
        assert_eq!(usage(Json, text.as_bytes(), 16_384), wanted);
    }
}

#[test]
fn what_cannot_be_read_is_estimated_by_its_bytes() {
    for (kind, encoding, tokens) in [
        (Some("application/json"), None, 250),
        (Some("text/plain"), None, 250),
        (Some("text/event-stream"), Some("gzip"), 500),
        (None, Some("identity"), 250),
    ] {
        let mut scan = UsageScan::new(UsageForm::of(kind, encoding));
        scan.chunk(&[b'x'; 600]);
        scan.chunk(&[b'x'; 399]);
        assert_eq!(scan.estimate(), tokens, "{kind:?} {encoding:?}");
    }
    for (kind, form) in [
        ("Text/Event-Stream; charset=utf-8", Events),
        ("application/x-ndjson", JsonLines),
        ("application/vnd.x+json", Json),
        ("audio/mpeg", UsageForm::Bytes),
    ] {
        assert_eq!(UsageForm::of(Some(kind), None), form);
    }
}

proptest! {
    #[test]
    fn events_are_counted_however_they_are_cut(
        lines in proptest::collection::vec("(data: ?|dat|event: |:|)[a-d:]{0,6}", 0..20),
        piece in 1_usize..30,
        end in "\n|\r|\r\n",
    ) {
        let text = lines.join(&end);
        let wanted = lines.iter().filter(|line| line.starts_with("data:")).count() as u64;
        prop_assert_eq!(usage(Events, text.as_bytes(), piece).completion, Some(wanted));
    }

    #[test]
    fn any_bytes_are_read_without_panic_and_cuts_change_nothing(
        body: Vec<u8>, json in "[{}\\[\\]\",:1\\\\ usage]*", piece in 1_usize..9,
    ) {
        for form in [Json, Events, JsonLines] {
            usage(form, &body, piece);
            let whole = usage(form, json.as_bytes(), json.len().max(1));
            prop_assert_eq!(usage(form, json.as_bytes(), piece), whole);
        }
    }

    #[test]
    fn a_number_counts_only_at_its_place(
        before in any_json(), behind in any_json(), prompt in 1_u64..9999, completion in 1_u64..9999,
    ) {
        let told = format!(r#""usage":{{"prompt_tokens":{prompt},"completion_tokens":{completion}}}"#);
        let text = format!(r#"{{"a":{before},{told},"b":{behind}}}"#);
        let wanted = Usage { prompt: Some(prompt), completion: Some(completion) };
        prop_assert_eq!(usage(Json, text.as_bytes(), 7), wanted);
    }
}

/// Values that may hold anything, the keys of counters too.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![any::<u32>().prop_map(Value::from), ".*".prop_map(Value::from)];
    let key = prop_oneof![Just("usage".to_owned()), Just("prompt_tokens".to_owned()), ".{0,6}"];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
