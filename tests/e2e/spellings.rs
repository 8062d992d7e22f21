//! Bodies in which some server or framework reads another model than the one that is plain to see.
use crate::client::Request;
use crate::crowded::{CHAT, TRANSCRIBE, of_kind};

fn wide(text: &str, unit: impl Fn(u16) -> Vec<u8>) -> Vec<u8> {
    text.encode_utf16().flat_map(unit).collect()
}

/// Bodies of JSON in which some server reads `vip`.
#[expect(clippy::too_many_lines, reason = "a table of requests")]
pub(crate) fn spellings() -> Vec<(&'static str, Request)> {
    let vip = r#"{"model":"vip"}"#;
    let json = |body: &[u8]| of_kind(CHAT, "application/json", body.to_vec());
    let u32s = |unit: u16| u32::from(unit);
    vec![
        ("plain", json(vip.as_bytes())),
        ("escaped", json(br#"{"mod\u0065l":"v\u0069p"}"#)),
        ("twice", json(br#"{"model":"chat","model":"vip"}"#)),
        ("alike beside", json(br#"{"model":"chat","Model":"vip"}"#)),
        ("alike alone", json(br#"{"MODEL":"vip"}"#)),
        (
            "kelvin and long s are no letters of it",
            json("{\"model\":\"chat\",\"\u{212a}\":\"vip\",\"model\":\"vip\"}".as_bytes()),
        ),
        ("byte order mark", json(format!("\u{feff}{vip}").as_bytes())),
        ("utf-16le", json(&wide(vip, |unit| unit.to_le_bytes().into()))),
        ("utf-16be", json(&wide(vip, |unit| unit.to_be_bytes().into()))),
        (
            "utf-16 with a mark",
            json(&wide(&format!("\u{feff}{vip}"), |unit| unit.to_le_bytes().into())),
        ),
        ("utf-32le", json(&wide(vip, |unit| u32s(unit).to_le_bytes().into()))),
        ("utf-32be", json(&wide(vip, |unit| u32s(unit).to_be_bytes().into()))),
        ("two values", json(b"{\"model\":\"chat\"}{\"model\":\"vip\"}")),
        ("a list", json(br#"[{"model":"vip"}]"#)),
        ("not a number", json(br#"{"model":"vip","temperature":NaN}"#)),
        ("single quotes", json(b"{'model':'vip'}")),
        ("a comment", json(b"/**/{\"model\":\"vip\"}")),
        (
            "utf-7",
            of_kind(
                CHAT,
                "application/json; charset=utf-7",
                r#"{"model":"chat","x":"+ACI-,+ACI-model+ACI-:+ACI-vip"}"#,
            ),
        ),
        ("form-urlencoded", of_kind(CHAT, "application/x-www-form-urlencoded", "model=vip")),
        (
            "form-urlencoded that is JSON",
            of_kind(
                CHAT,
                "application/x-www-form-urlencoded",
                r#"{"model":"chat","x":"&model=vip&"}"#,
            ),
        ),
        ("a form that is JSON", of_kind(CHAT, "multipart/form-data; boundary=b", vip)),
        ("a list of models", json(br#"{"model":"chat","models":["vip"]}"#)),
        ("an adapter", json(br#"{"model":"chat","lora_path":"vip"}"#)),
        (
            "an adapter in parameters",
            of_kind(
                "/generate",
                "application/json",
                r#"{"inputs":"x","parameters":{"adapter_id":"vip"}}"#,
            ),
        ),
        ("the query", json(br#"{"model":"chat"}"#).header("x-more", "1")),
        ("compressed", json(b"\x1f\x8b vip").header("content-encoding", "gzip")),
        ("compressed twice", json(b"vip").header("content-encoding", "identity, gzip")),
        ("a header", json(br#"{"model":"chat"}"#).header("x-amzn-sagemaker-target-model", "vip")),
        ("another path", of_kind("/api/chat", "application/json", r#"{"Model":"vip"}"#)),
        ("an unknown path", of_kind("/predict/vip", "application/json", r#"{"x":1}"#)),
        (
            "an unknown path with a body of its own",
            of_kind("/run", "application/octet-stream", "model: vip"),
        ),
        ("an empty segment", of_kind("//v1/chat/completions", "application/json", vip)),
        ("a session", json(br#"{"model":"chat","session":{"model":"vip"}}"#)),
        ("an SDK's own field", json(br#"{"model":"chat","extra_body":{"model":"vip"}}"#)),
        (
            "parameters as text",
            json(br#"{"model":"chat","parameters":"{\"adapter_id\":\"vip\"}"}"#),
        ),
        ("another noun", json(br#"{"model":"chat","deployment":"vip"}"#)),
        ("a draft", json(br#"{"model":"chat","draft_model":"vip"}"#)),
        ("a path", json(br#"{"model":"chat","model_path":"vip"}"#)),
        ("a tool with a model", json(br#"{"model":"chat","tools":[{"model":"vip"}]}"#)),
        (
            "a transcription in a session",
            of_kind(
                "/v1/realtime/client_secrets",
                "application/json",
                r#"{"model":"chat","session":{"audio":{"input":{"transcription":{"model":"vip"}}}}}"#,
            ),
        ),
        (
            "an older spelling",
            of_kind("/api/show", "application/json", r#"{"model":"chat","name":"vip"}"#),
        ),
        ("a plain header", json(br#"{"model":"chat"}"#).header("model", "vip")),
        ("a header of answers", json(br#"{"model":"chat"}"#).header("openai-model", "vip")),
        ("a header of adapters", json(br#"{"model":"chat"}"#).header("x_lora_id", "vip")),
        ("a blank in a key", json(br#"{"model":"chat","model ":"vip"}"#)),
    ]
}

/// Forms in which some framework reads `vip`.
pub(crate) fn forms() -> Vec<(String, Request)> {
    let first = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nchat\r\n--b\r\n";
    let file = "content-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nxx";
    let usual = "multipart/form-data; boundary=b";
    let mut all: Vec<(String, Request)> = [
        "content-disposition: form-data; name=\"model\"",
        "content-disposition: form-data; foo; name=\"model\"",
        "content-disposition: form-data;; name=\"model\"",
        "content-disposition: form-data; name=\"x\"; name=\"model\"",
        "content-disposition: form-data;\r\n name=\"model\"",
        "content-disposition: form-data; name*=utf-8''model",
        "content-disposition: form-data; name=\"Model\"",
        "content-disposition: form-data; name=\"mo\\del\"",
        "content-disposition: form-data; name=\"model\"; filename=\"\"",
        "content-disposition: form-data; name=\"x\"\r\ncontent-transfer-encoding: quoted-printable",
        "content-disposition: form-data; name=\"model_id\"",
        "content-disposition: form-data; name=\"extra_body[deployment]\"",
    ]
    .into_iter()
    .map(|head| {
        let body = format!("{first}{head}\r\n\r\nvip\r\n--b\r\n{file}\r\n--b--\r\n");
        (head.to_owned(), of_kind(TRANSCRIBE, usual, body))
    })
    .collect();
    let vip = first.replace("chat", "vip") + file + "\r\n--b--\r\n";
    for kind in [
        "multipart/form-data; boundary=zz; boundary=b",
        "multipart/form-data; boundary=b; boundary=zz",
        "multipart/form-data; foo; boundary=b",
        "multipart/form-data; boundary=b; charset=utf-16",
        "multipart/mixed; boundary=b",
    ] {
        all.push((kind.to_owned(), of_kind(TRANSCRIBE, kind, vip.clone())));
    }
    let session =
        vip.replace("name=\"model\"\r\n\r\nvip", "name=\"session\"\r\n\r\n{\"model\":\"vip\"}");
    all.push((
        "a session".to_owned(),
        of_kind(TRANSCRIBE, usual, first.to_owned() + &session[5..]),
    ));
    let before = format!("preamble\r\n{vip}");
    all.push(("a preamble".to_owned(), of_kind(TRANSCRIBE, usual, before)));
    all
}
