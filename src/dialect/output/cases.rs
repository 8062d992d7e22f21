//! Answers as servers of each dialect give them, with what is to be found in each.
use super::{LONGEST_BODY, Output, OutputForm, OutputProblem, OutputScan, OutputWish};
use crate::dialect::Dialect;
use proptest::prelude::*;
use serde_json::json;
use std::sync::{Arc, LazyLock};

/// Made once: a pattern takes longer to build than a case to judge.
static WISH: LazyLock<Arc<OutputWish>> = LazyLock::new(|| {
    let matches = Some(regex::Regex::new("(?i)as an ai model").unwrap());
    let json = Vec::new();
    Arc::new(OutputWish { empty: true, json_invalid: true, truncated: true, matches, json })
});

fn wish() -> Arc<OutputWish> {
    Arc::clone(&WISH)
}

fn scan(
    dialect: Dialect,
    form: OutputForm,
    wish: Arc<OutputWish>,
    chunks: &[&[u8]],
    complete: bool,
) -> Output {
    let mut scan = OutputScan::new(dialect, form, wish);
    for chunk in chunks {
        scan.chunk(chunk);
    }
    scan.finish(complete)
}

/// One case: dialect, form, whether it ended well, body, problem, tokens.
type Case = (Dialect, OutputForm, bool, &'static str, Option<OutputProblem>, Option<u32>);

#[rustfmt::skip]
const CASES: &[Case] = {
    use Dialect::{KServeV1, KServeV2, OpenAi, Plain};
    use OutputForm::{Events, Json, Opaque, Text};
    use OutputProblem::{Empty, JsonInvalid, Matches, Truncated};
    &[
        (OpenAi, Json, true, r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":7}}"#, None, Some(7)),
        (OpenAi, Json, true, r#"{"choices":[{"index":0,"message":{"role":"assistant","content":""},"finish_reason":"stop"}],"usage":{"completion_tokens":0}}"#, Some(Empty), Some(0)),
        (OpenAi, Json, true, r#"{"choices":[{"message":{"content":null,"reasoning_content":"hm"},"finish_reason":"stop"}]}"#, Some(Empty), None),
        (OpenAi, Json, true, r#"{"choices":[]}"#, Some(Empty), None),
        (OpenAi, Json, true, r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}"#, None, None),
        (OpenAi, Json, true, r#"{"choices":[{"text":"cut","finish_reason":"length"}]}"#, Some(Truncated), None),
        (OpenAi, Json, true, r#"{"choices":[{"text":"Sorry, as an AI model I"}]}"#, Some(Matches), None),
        (OpenAi, Json, true, r#"{"choices":[{"text":"x"}"#, Some(JsonInvalid), None),
        (OpenAi, Json, false, r#"{"choices":[{"text":"x"}"#, Some(Truncated), None),
        (OpenAi, Json, true, "", Some(Empty), None),
        (OpenAi, Json, true, r#"{"object":"list","data":[{"embedding":[0.1,0.2]}],"usage":{"prompt_tokens":3}}"#, None, None),
        (OpenAi, Json, true, r#"{"object":"list","data":[{"index":0,"object":"embedding","embedding":[]}]}"#, Some(Empty), None),
        (OpenAi, Json, true, r#"{"results":[{"index":1,"relevance_score":0.9}]}"#, None, None),
        (OpenAi, Json, true, r#"{"text":"a transcript"}"#, None, None),
        (OpenAi, Json, true, r#"{"tokens":[1,2],"count":2}"#, None, None),
        (OpenAi, Json, true, r#"{"status":"completed","output":[{"type":"reasoning"},{"type":"message","content":[{"type":"output_text","text":"Hi"}]}],"usage":{"output_tokens":2}}"#, None, Some(2)),
        (OpenAi, Json, true, r#"{"status":"completed","output":[{"type":"message","content":[]}]}"#, Some(Empty), None),
        (OpenAi, Json, true, r#"{"status":"incomplete","output":[{"type":"message","content":[{"type":"output_text","text":"H"}]}]}"#, Some(Truncated), None),
        (OpenAi, Json, true, r#"{"type":"message","content":[{"type":"text","text":"Hi"}],"stop_reason":"max_tokens","usage":{"output_tokens":5}}"#, Some(Truncated), Some(5)),
        (OpenAi, Events, true, "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"}}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n", None, Some(2)),
        (OpenAi, Events, true, "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\r\n\r\n: heartbeat\r\n\r\ndata: {\"choices\":[],\"usage\":{\"completion_tokens\":9}}\r\n\r\ndata: [DONE]\r\n\r\n", None, Some(9)),
        (OpenAi, Events, true, "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n", Some(Truncated), Some(1)),
        (OpenAi, Events, false, "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\ndata: {\"choi", Some(Truncated), Some(1)),
        (OpenAi, Events, true, "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"},\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n", Some(Truncated), Some(1)),
        (OpenAi, Events, true, "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]", Some(Empty), None),
        (OpenAi, Events, true, "data: [DONE]\n\n", Some(Empty), None),
        (OpenAi, Events, true, "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":{\"arguments\":\"{\"}}]}}]}\n\ndata: [DONE]\n\n", None, Some(1)),
        (OpenAi, Events, true, "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: {\"choices\":[{,\n\ndata: [DONE]\n\n", Some(JsonInvalid), Some(1)),
        (OpenAi, Events, true, "data: {\"choices\":[{\"delta\":{\"content\":\"As an A\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"I model\"}}]}\n\ndata: [DONE]\n\n", Some(Matches), Some(2)),
        (OpenAi, Events, true, "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\nevent: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"output_tokens\":4}}}\n\n", None, Some(4)),
        (OpenAi, Events, true, "data: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\ndata: {\"type\":\"response.incomplete\",\"response\":{}}\n\n", Some(Truncated), Some(1)),
        (OpenAi, Events, true, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":3}}\n\ndata: {\"type\":\"message_stop\"}\n\n", None, Some(3)),
        (KServeV1, Json, true, r#"{"predictions":[[0.1,0.9]]}"#, None, None),
        (KServeV1, Json, true, r#"{"predictions":[0]}"#, None, None),
        (KServeV1, Json, true, r#"{"predictions":[]}"#, Some(Empty), None),
        (KServeV1, Json, true, r#"{"predictions":[null]}"#, Some(Empty), None),
        (KServeV1, Json, true, r#"{"predictions":[NaN]}"#, Some(JsonInvalid), None),
        (KServeV2, Json, true, r#"{"model_name":"m","outputs":[{"name":"o","datatype":"FP32","shape":[1],"data":[0.5]}]}"#, None, None),
        (KServeV2, Json, true, r#"{"model_name":"m","outputs":[{"name":"o","datatype":"FP32","shape":[0],"data":[]}]}"#, Some(Empty), None),
        (KServeV2, Json, true, r#"{"outputs":[{"name":"o","datatype":"BYTES","shape":[1],"data":["As an AI model"]}]}"#, Some(Matches), None),
        (KServeV2, Json, true, r#"{"text_output":"Hi"}"#, None, None),
        (KServeV2, Events, true, "data: {\"text_output\":\"Hi\"}\n\ndata: {\"text_output\":\" you\"}\n\n", None, Some(2)),
        (KServeV2, Events, true, "data: {\"text_output\":\"\"}\n\n", Some(Empty), None),
        (KServeV2, Events, false, "data: {\"text_output\":\"Hi\"}\n\n", Some(Truncated), Some(1)),
        (Plain, Json, true, r#"{"score":0.5}"#, None, None),
        (Plain, Json, true, "[]", Some(Empty), None),
        (Plain, Json, true, "oops", Some(JsonInvalid), None),
        (Plain, Events, true, "data: plain text\n\n", None, None),
        (Plain, Text, true, " \n", Some(Empty), None),
        (Plain, Text, true, "as an AI model", Some(Matches), None),
        (OpenAi, Opaque, true, "\u{1}", None, None),
        (OpenAi, Opaque, false, "\u{1}", Some(Truncated), None),
    ]
};

#[test]
fn each_answer_is_found_to_be_what_it_is() {
    for (dialect, form, complete, body, problem, tokens) in CASES {
        let found = scan(*dialect, *form, wish(), &[body.as_bytes()], *complete);
        assert_eq!((found.problem, found.tokens), (*problem, *tokens), "{dialect:?} {body}");
        assert_eq!(found.judged, *form != OutputForm::Opaque || problem.is_some(), "{body}");
    }
}

#[test]
fn what_is_not_wished_is_no_problem() {
    for (dialect, form, complete, body, ..) in CASES {
        let found = scan(*dialect, *form, Arc::default(), &[body.as_bytes()], *complete);
        assert_eq!(found.problem, None, "{body}");
    }
}

#[test]
fn an_expectation_holds_for_a_body_and_for_one_event_of_a_stream() {
    let wish = |at: &str| {
        let json = vec![(at.to_owned(), json!("stop"))];
        Arc::new(OutputWish { json, ..OutputWish::default() })
    };
    let at = "/choices/0/finish_reason";
    let body = br#"{"choices":[{"text":"x","finish_reason":"stop"}]}"#;
    let stream = b"data: {\"choices\":[{\"text\":\"x\"}]}\n\ndata: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n";
    for (form, bytes) in [(OutputForm::Json, &body[..]), (OutputForm::Events, &stream[..])] {
        let found = scan(Dialect::OpenAi, form, wish(at), &[bytes], true);
        assert_eq!(found.problem, None, "{form:?}");
        let found = scan(Dialect::OpenAi, form, wish("/choices/1"), &[bytes], true);
        assert_eq!(found.problem, Some(OutputProblem::Unexpected), "{form:?}");
    }
}

#[test]
fn what_is_too_long_is_not_judged_and_not_kept() {
    let mut scan = OutputScan::new(Dialect::Plain, OutputForm::Json, wish());
    let part = vec![b'x'; LONGEST_BODY / 4];
    for _ in 0..9 {
        scan.chunk(&part);
    }
    assert_eq!(scan.body.capacity(), 0);
    assert_eq!(scan.finish(true), Output::default());
}

#[test]
fn an_event_too_long_to_keep_is_still_an_answer() {
    let long = "x".repeat(70 << 10);
    let stream = format!("event: response.completed\ndata: {{\"type\":\"{long}\"}}\n\n");
    let found = scan(Dialect::OpenAi, OutputForm::Events, wish(), &[stream.as_bytes()], true);
    assert_eq!((found.problem, found.judged), (None, true));
}

#[test]
fn the_form_is_read_from_the_head() {
    let of = OutputForm::of;
    assert_eq!(of(Some("application/json; charset=utf-8"), None), OutputForm::Json);
    assert_eq!(of(Some("application/problem+json"), None), OutputForm::Json);
    assert_eq!(of(Some("Text/Event-Stream"), Some("identity")), OutputForm::Events);
    assert_eq!(of(Some("text/plain"), None), OutputForm::Text);
    assert_eq!(of(Some("application/json"), Some("gzip")), OutputForm::Opaque);
    assert_eq!(of(Some("audio/mpeg"), None), OutputForm::Opaque);
    assert_eq!(of(None, None), OutputForm::Opaque);
}

proptest! {
    #[test]
    fn it_does_not_matter_where_chunks_are_cut(cuts in prop::collection::vec(0_usize..600, 0..12)) {
        for (dialect, form, complete, body, ..) in CASES {
            let body = body.as_bytes();
            let whole = scan(*dialect, *form, wish(), &[body], *complete);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|cut| &body[cut[0]..cut[1]]).collect();
            prop_assert_eq!(scan(*dialect, *form, wish(), &chunks, *complete), whole);
            let bytes: Vec<&[u8]> = body.chunks(1).collect();
            prop_assert_eq!(scan(*dialect, *form, wish(), &bytes, *complete), whole);
        }
    }

    #[test]
    fn any_bytes_are_judged_without_panic(
        parts in prop::collection::vec("(data: |event: |\\{|\\}|\"choices\":|\\[|\\]|\r|\n|x|\u{e9}|:){0,12}", 0..6),
        noise: Vec<u8>,
    ) {
        for form in [OutputForm::Events, OutputForm::Json, OutputForm::Text, OutputForm::Opaque] {
            for dialect in [Dialect::OpenAi, Dialect::KServeV1, Dialect::KServeV2, Dialect::Plain] {
                let joined = parts.concat();
                let whole = scan(dialect, form, wish(), &[joined.as_bytes(), &noise], true);
                let mut chunks: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
                chunks.push(&noise);
                prop_assert_eq!(scan(dialect, form, wish(), &chunks, true), whole);
            }
        }
    }
}
