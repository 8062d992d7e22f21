//! The name in answers of every form, however they are cut.
use super::*;
use crate::dialect::grpc::{Frame, frame, name_in, next_frame, put_bytes, read_call};
use crate::dialect::read_path;
use proptest::prelude::*;

const OPENAI: NameIn = NameIn::Json { top: &["model"], within: Some("response") };

fn writer(place: NameIn, kind: &str) -> NameWriter {
    NameWriter::new(place, Some(kind), "cli\"ent", "m").unwrap()
}

/// The answer as a client gets it, cut into pieces of this length.
fn written(mut writer: NameWriter, answer: &[u8], piece: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in answer.chunks(piece.max(1)) {
        out.extend_from_slice(&writer.write(Bytes::copy_from_slice(piece)));
    }
    out.extend_from_slice(&writer.finish());
    out
}

fn text(place: NameIn, kind: &str, answer: &str) -> String {
    let whole = written(writer(place, kind), answer.as_bytes(), answer.len());
    for piece in 1..answer.len().min(40) {
        let cut = written(writer(place, kind), answer.as_bytes(), piece);
        assert_eq!(cut, whole, "in pieces of {piece}: {answer}");
    }
    String::from_utf8(whole).unwrap()
}

#[test]
fn the_outermost_name_is_written_and_nothing_else() {
    let json = |answer| text(OPENAI, "application/json; charset=utf-8", answer);
    for (answer, due) in [
        (r#"{"model":"server","id":1}"#, r#"{"model":"cli\"ent","id":1}"#),
        (
            r#"{ "id" : [1,{"model":"x"}], "model" : "a\"b" }"#,
            r#"{ "id" : [1,{"model":"x"}], "model" : "cli\"ent" }"#,
        ),
        (
            r#"{"a":{"model":"x"},"b":"\"model\":\"y\"","model":"z"}"#,
            r#"{"a":{"model":"x"},"b":"\"model\":\"y\"","model":"cli\"ent"}"#,
        ),
        // Not a string, and not that field.
        (
            r#"{"model":null,"models":"x","Model":"y","model":7}"#,
            r#"{"model":null,"models":"x","Model":"y","model":7}"#,
        ),
        (r#"{"model":{"model":"x"}}"#, r#"{"model":{"model":"x"}}"#),
        (
            r#"{"response":{"model":"x"},"message":{"model":"y"}}"#,
            r#"{"response":{"model":"x"},"message":{"model":"y"}}"#,
        ),
        // A list of answers, and of anything else.
        (
            r#"[{"model":"x","a":[{"model":"y"}]}, {"model":"z"}]"#,
            r#"[{"model":"cli\"ent","a":[{"model":"y"}]}, {"model":"cli\"ent"}]"#,
        ),
        (r#"[1,"model",{"model":"x"}]"#, r#"[1,"model",{"model":"cli\"ent"}]"#),
        (r#"[[{"model":"x"}]]"#, r#"[[{"model":"x"}]]"#),
        // A byte order mark, and half of one.
        ("\u{feff}{\"model\":\"x\"}", "\u{feff}{\"model\":\"cli\\\"ent\"}"),
        (r#""model""#, r#""model""#),
        ("", ""),
        // Not JSON.
        (r#"{"model" "x"}{"model":"y"}"#, r#"{"model" "x"}{"model":"y"}"#),
        (r#"{model:"x"}"#, r#"{model:"x"}"#),
        (r#"model: "x""#, r#"model: "x""#),
        // Cut off.
        (r#"{"model":"ser"#, r#"{"model":"cli\"ent""#),
    ] {
        assert_eq!(json(answer), due);
    }
}

#[test]
fn each_line_of_a_stream_of_json_is_an_answer() {
    let lines = "{\"model\":\"a\",\"done\":false}\n{\"model\":\"b\",\"done\":true}\n";
    let place = NameIn::Json { top: &["model"], within: None };
    let due =
        "{\"model\":\"cli\\\"ent\",\"done\":false}\n{\"model\":\"cli\\\"ent\",\"done\":true}\n";
    assert_eq!(text(place, "application/x-ndjson", lines), due);
    // A line that is not JSON spoils no other.
    let spoilt = "{\"model\":}\n{\"model\":\"b\"}\n";
    assert_eq!(
        text(place, "application/x-ndjson", spoilt),
        "{\"model\":}\n{\"model\":\"cli\\\"ent\"}\n"
    );
}

#[test]
fn events_name_the_model_at_the_top_and_within_one_object() {
    let events = |place, answer| text(place, "text/event-stream", answer);
    for (answer, due) in [
        (
            "data: {\"model\":\"s\"}\n\ndata: [DONE]\n\n",
            "data: {\"model\":\"cli\\\"ent\"}\n\ndata: [DONE]\n\n",
        ),
        ("data:{\"model\":\"s\"}\r\n\r\n", "data:{\"model\":\"cli\\\"ent\"}\r\n\r\n"),
        (
            "data: {\"model\":\"s\"}\r\rdata: {\"model\":\"t\"}\r\r",
            "data: {\"model\":\"cli\\\"ent\"}\r\rdata: {\"model\":\"cli\\\"ent\"}\r\r",
        ),
        (
            "event: x\nid: {\"model\":\"s\"}\ndata: {\"a\":1}\n\n: {\"model\":\"s\"}\n\n",
            "event: x\nid: {\"model\":\"s\"}\ndata: {\"a\":1}\n\n: {\"model\":\"s\"}\n\n",
        ),
        (
            "event: response.created\ndata: {\"type\":\"x\",\"response\":{\"id\":1,\"model\":\"s\",\"o\":{\"model\":\"n\"}},\"model\":\"t\"}\n\n",
            "event: response.created\ndata: {\"type\":\"x\",\"response\":{\"id\":1,\"model\":\"cli\\\"ent\",\"o\":{\"model\":\"n\"}},\"model\":\"cli\\\"ent\"}\n\n",
        ),
        // One event in several lines.
        (
            "data: {\"a\":1,\ndata:  \"model\":\"s\"}\n\n",
            "data: {\"a\":1,\ndata:  \"model\":\"cli\\\"ent\"}\n\n",
        ),
        // An event that is no JSON spoils no other.
        (
            "data: {\"model\"\n\ndata: {\"model\":\"s\"}\n\n",
            "data: {\"model\"\n\ndata: {\"model\":\"cli\\\"ent\"}\n\n",
        ),
        (
            "data: {\"b\":\"un\ndata: \"model\":\"s\"}\n\n",
            "data: {\"b\":\"un\ndata: \"model\":\"s\"}\n\n",
        ),
        ("datum: {\"model\":\"s\"}\n\n", "datum: {\"model\":\"s\"}\n\n"),
        ("\u{feff}data: {\"model\":\"s\"}\n\n", "\u{feff}data: {\"model\":\"cli\\\"ent\"}\n\n"),
    ] {
        assert_eq!(events(OPENAI, answer), due);
    }
    let anthropic = NameIn::Json { top: &["model"], within: Some("message") };
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"s\"}}\n\n";
    assert_eq!(events(anthropic, start), start.replace("\"s\"", "\"cli\\\"ent\""));
}

/// A message of `ModelInferResponse`.
fn infer(name: &str) -> Vec<u8> {
    let mut message = Vec::new();
    put_bytes(&mut message, 1, name.as_bytes());
    put_bytes(&mut message, 3, b"id");
    put_bytes(&mut message, 6, &[b'x'; 300]);
    message
}

#[test]
fn messages_name_the_model_in_their_first_field() {
    let places: [(NameAt, bool); 2] = [(&[1], false), (&[2, 1], true)];
    for (at, around) in places {
        let message = |name: &str| {
            let inner = infer(name);
            let mut outer = Vec::new();
            put_bytes(&mut outer, 2, &inner);
            if around { outer } else { inner }
        };
        let mut error = Vec::new();
        put_bytes(&mut error, 1, b"it failed");
        let long = "n".repeat(200);
        let mut answer = Vec::new();
        for name in ["server", "s", &long, ""] {
            answer.extend(frame(&message(name)));
        }
        answer.extend(frame(b""));
        if around {
            answer.extend(frame(&error));
        }
        let place = NameIn::Messages(at);
        let whole = written(writer(place, "application/grpc"), &answer, answer.len());
        for piece in [1, 2, 3, 7, 64, 299] {
            let cut = written(writer(place, "application/grpc"), &answer, piece);
            assert_eq!(cut, whole, "in pieces of {piece}");
        }
        let mut rest = &whole[..];
        let mut names = Vec::new();
        while !rest.is_empty() {
            let (read, after) = next_frame(rest).unwrap();
            let Frame::Message { message, .. } = read else { panic!("{read:?}") };
            names.push(name_in(message, at).unwrap().unwrap_or("-").to_owned());
            rest = after;
        }
        let due = ["cli\"ent", "cli\"ent", "cli\"ent", "-", "-", "-"];
        assert_eq!(names, due[..names.len()]);
        assert!(whole.len() < answer.len() + 30, "only the names changed");
    }
}

#[test]
fn compressed_and_strange_messages_pass_as_they_came() {
    let place = NameIn::Messages(&[1]);
    let mut compressed = frame(&infer("server"));
    compressed[0] = 1;
    let mut late = Vec::new();
    put_bytes(&mut late, 3, b"id");
    put_bytes(&mut late, 1, b"server");
    let mut beyond = frame(&infer("server"));
    beyond[6] = 0x7f;
    beyond.truncate(40);
    let short = frame(&infer("server"))[..6].to_vec();
    for odd in [
        compressed,
        frame(&late),
        frame(b"\x0a"),
        frame(b"\x0a\xff\xff\xff\xff\xff\xff"),
        short,
        b"\x02\0\0\0\x01x".to_vec(),
    ] {
        for piece in [1, 4, 1000] {
            let passed = written(writer(place, "application/grpc+proto"), &odd, piece);
            assert_eq!(passed, odd, "in pieces of {piece}");
        }
    }
}

#[test]
fn other_types_are_left_alone() {
    for kind in ["text/html", "application/octet-stream", "application/grpc", ""] {
        assert!(NameWriter::new(OPENAI, Some(kind), "a", "m").is_none(), "{kind}");
    }
    assert!(NameWriter::new(OPENAI, None, "a", "m").is_none());
    let messages = NameIn::Messages(&[1]);
    assert!(NameWriter::new(messages, Some("application/json"), "a", "m").is_none());
}

#[test]
fn a_name_that_is_too_long_is_not_repeated() {
    let long = "n".repeat(LONGEST + 1);
    let mut writer = NameWriter::new(OPENAI, Some("application/json"), &long, "m").unwrap();
    assert_eq!(writer.write(Bytes::from_static(b"{\"model\":\"x\"}")), "{\"model\":\"m\"}");
}

#[test]
fn each_dialect_has_its_place() {
    let body = FoundIn::Body(0..1);
    for (path, asked, chats, place) in [
        ("/v1/chat/completions", None, false, Some("model")),
        ("/v1/messages", None, false, Some("model")),
        ("/api/chat", None, false, Some("model")),
        ("/v2/rerank", None, false, Some("model")),
        ("/generate", None, false, Some("model")),
        ("/v1beta/models/m:generateContent", None, false, Some("modelVersion")),
        ("/model/m/invoke", None, false, Some("model")),
        ("/v2/models/m/infer", None, false, Some("model_name")),
        ("/v2/models/m", None, false, Some("name")),
        ("/v2/models/m/versions/1/ready", None, false, Some("name")),
        ("/v1/models/m:predict", None, false, Some("model_name")),
        ("/predictions/m", None, false, None),
        ("/predictions/m", None, true, Some("model")),
        ("/invocations", None, false, None),
        ("/invocations", Some(&body), false, Some("model")),
        ("/any", Some(&body), false, Some("model")),
    ] {
        let row = read_path(path).unwrap().row;
        let found = NameIn::of(row, None, asked, chats).map(|place| match place {
            NameIn::Json { top, .. } => top[0],
            NameIn::Messages(_) => "messages",
        });
        assert_eq!(found, place, "{path}");
    }
    let call = |path| NameIn::of(&Row::CALL, Some(read_call(path)), None, false);
    let infer = call("/inference.GRPCInferenceService/ModelInfer");
    assert_eq!(infer, Some(NameIn::Messages(&[1])));
    let stream = call("/inference.GRPCInferenceService/ModelStreamInfer");
    assert_eq!(stream, Some(NameIn::Messages(&[2, 1])));
    assert_eq!(call("/other.Service/Call"), None);
}

proptest! {
    #[test]
    fn bytes_pass_whatever_they_are_and_however_they_come(
        pieces in proptest::collection::vec(
            prop_oneof!["[{}\\[\\]:,\"\\\\ ]", "\"model\"", "\"response\"", "[a-z0-9]{1,3}", "data: ", "\n", "\r\n", "\\PC"],
            0..30,
        ),
        piece in 1_usize..9,
    ) {
        let answer = pieces.concat();
        for kind in ["application/json", "text/event-stream"] {
            let whole = written(writer(OPENAI, kind), answer.as_bytes(), answer.len());
            let cut = written(writer(OPENAI, kind), answer.as_bytes(), piece);
            prop_assert_eq!(&whole, &cut);
            if !answer.contains("model") {
                prop_assert_eq!(&whole[..], answer.as_bytes());
            }
        }
    }

    #[test]
    fn json_stays_the_same_but_for_the_name(
        id in "\\PC{0,9}", old in "\\PC{0,9}", deep in "\\PC{0,9}", piece in 1_usize..20,
    ) {
        let answer = serde_json::json!({"id": id, "a": [{"model": deep}], "model": old, "z": {"model": deep}});
        let out = written(writer(OPENAI, "application/json"), answer.to_string().as_bytes(), piece);
        let mut due = answer;
        due["model"] = "cli\"ent".into();
        let seen: serde_json::Value = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(seen, due);
    }

    #[test]
    fn messages_pass_whatever_they_are_and_however_they_come(
        bytes in proptest::collection::vec(any::<u8>(), 0..60), piece in 1_usize..20,
    ) {
        for at in [&[1_u64][..], &[2, 1]] {
            let place = NameIn::Messages(if at.len() == 1 { &[1] } else { &[2, 1] });
            let whole = written(writer(place, "application/grpc"), &bytes, 60);
            prop_assert_eq!(written(writer(place, "application/grpc"), &bytes, piece), whole);
        }
    }
}
