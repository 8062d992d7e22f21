//! What reads bytes of strangers, each as a function that panics where it breaks a promise. `tests/fuzz.rs` feeds them
//! seeded mutations; `cargo fuzz run NAME` feeds them what libFuzzer finds.
use bytes::Bytes;
use evener::access::{Jwks, TokenTerms, Tries, named_by};
use evener::config::parse_text;
use evener::dialect::grpc::{Messages, NameAt, first_name, rename_in_messages};
use evener::dialect::{
    DeadlineHeader, Dialect, Edit, NameIn, NameWriter, OutputForm, OutputScan, OutputWish,
    StreamForm, StreamWatch, UsageForm, UsageScan, decoded_path, edited, peek, peek_multipart,
    peek_prefix, read_path, rename_in_path,
};
use evener::wire::proxy_protocol::{Parsed, parse};
use evener::wire::{AnswerHead, AnswerReader, Chunks, HeadScan, Piece, glimpse};
use http::header;
use pingora_core::protocols::http::v1::client::HttpSession as Answer;
use pingora_core::protocols::http::v1::server::HttpSession;
use std::io::Cursor;
use std::sync::Arc;

/// A target with texts to begin from.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&[u8]),
    pub(crate) seeds: &'static [&'static [u8]],
}

/// All of them.
pub(crate) const TARGETS: &[Target] = &[
    Target { name: "head", run: head, seeds: HEADS },
    Target { name: "answer_head", run: answer_head, seeds: ANSWERS },
    Target { name: "answer", run: answer, seeds: ANSWERS },
    Target { name: "answer_name", run: answer_name, seeds: NAMED },
    Target { name: "chunks", run: chunks, seeds: CHUNKED },
    Target { name: "json", run: json, seeds: BODIES },
    Target { name: "multipart", run: multipart, seeds: FORMS },
    Target { name: "path", run: path, seeds: PATHS },
    Target { name: "events", run: events, seeds: EVENTS },
    Target { name: "deadline", run: deadline, seeds: &[b"100m", b"99999999H", b"2500", b"1n"] },
    Target { name: "proxy_protocol", run: proxy_protocol, seeds: INTRODUCTIONS },
    Target { name: "grpc", run: grpc, seeds: CALLS },
    Target { name: "jwt", run: jwt, seeds: TOKENS },
    Target { name: "config", run: config, seeds: CONFIGS },
];

const HEADS: &[&[u8]] = &[
    b"GET /p HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /p?q HTTP/1.1\r\nHost: x:80\r\nContent-Length: 12\r\nContent-Type: a/b\r\n\r\n",
    b"POST http://x/p HTTP/1.1\r\nhost: x\r\nTransfer-Encoding: chunked\r\nConnection: close, te\r\n\r\n",
    b"\r\nOPTIONS * HTTP/1.0\r\nX-A: \xc3\xa9\t1\r\n\r\n",
];
const ANSWERS: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\nx-a: b\r\n\r\nhello",
    b"HTTP/1.0 200\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 529 Site is overloaded\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nContent-Length:0\r\n\r\n",
];
const NAMED: &[&[u8]] = &[
    br#"{"id":"1","model":"a\"b","x":{"model":"c"},"response":{"model":"d"}}"#,
    b"event: x\r\ndata: {\"response\":{\"model\":\"a\"}}\r\n\r\ndata: {\"model\":\"b\",\ndata: \"c\":1}\n\n",
    b"\0\0\0\0\x0a\x0a\x03abc\x12\x011\x3a\x00",
    b"\0\0\0\0\x09\x12\x07\x0a\x03abc\x12\x00\x01\0\0\0\x02\x1f\x8b",
];
const CHUNKED: &[&[u8]] =
    &[b"0\r\n\r\n", b"2\r\nhi\r\nA;a=b;c=\"d\"\r\n0123456789\r\n0\r\nx-a: 1\r\nx-b: 2\r\n\r\n"];
const BODIES: &[&[u8]] = &[
    br#"{"model": "m", "stream": true, "user": "u", "messages": [{"role": "user", "content": "hi \u00e9"}]}"#,
    br#"{"a": {"model": "not this"}, "b": [1, 2.5e3, null, false], "model": "a\/b\"c"}"#,
    br#"[{"model": "m"}]"#,
    br#" {"mod\u0065l": "m", "user": 7} "#,
];
const FORMS: &[&[u8]] = &[
    b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n--b\r\n\
      Content-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n\x00\x01\r\n--b--\r\n",
    b"--b\r\ncontent-disposition: form-data; name=model\r\n\r\nm\r\n--b\r\n\
      Content-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b--",
];
const PATHS: &[&[u8]] = &[
    b"/v2/models/m/versions/1/infer?x=%2f",
    b"/v1/models/a%20b:predict",
    b"/v1/chat/completions",
    b"/v2/models/%C3%A9/generate_stream",
    b"//v1/./models/..%2fm",
];
const EVENTS: &[&[u8]] = &[
    b"data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\ndata: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\ndata: [DONE]\n\n",
    b"event: error\r\ndata: {\"error\":{\"message\":\"x\"}}\r\n\r\n: comment\n\nid: 1\ndata: a\ndata: b\n\n",
    br#"{"choices":[{"message":{"content":"hi"},"finish_reason":"length"}],"usage":{"completion_tokens":2}}"#,
];
const INTRODUCTIONS: &[&[u8]] = &[
    b"PROXY TCP4 192.0.2.1 10.0.0.1 8080 443\r\nGET / HTTP/1.1\r\n",
    b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n",
    b"PROXY UNKNOWN\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\x0a\0\0\x01\x1f\x90\0\x50rest",
    b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0rest",
];
const CALLS: &[&[u8]] = &[
    b"\0\0\0\0\x0a\x0a\x03abc\x12\x011\x3a\x00",
    b"\0\0\0\0\x09\x0a\x05\x0a\x03abc\x12\x00\0\0\0\0\x07\x0a\x05\x0a\x03abc",
    b"\0\0\0\0\x0b\x0a\x09\x0a\x07\x0a\x05model\x01\0\0\0\x02\x1f\x8b",
    b"\0\0\0\0\x11\x08\x96\x01\x1d\0\0\0\0\x21\0\0\0\0\0\0\0\0",
];
const TOKENS: &[&[u8]] = &[
    include_bytes!("../tests/golden/jwks.json"),
    b"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIiwiZXhwIjo0MTAyNDQ0ODAwfQ.AAAA",
    b"eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.",
    br#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
];
const CONFIGS: &[&[u8]] = &[
    include_bytes!("../conf/minimal.yaml"),
    include_bytes!("../conf/evener.yaml"),
    b"listeners: [{address: \"127.0.0.1:0\"}]\nmodels: {m: {versions: {v: [\"http://${HOST:-a}:1\"]}}}\n",
];

/// What passes is read by pingora as the same answer: its head ends in the same place, and it frames the same body.
pub(crate) fn answer_head(data: &[u8]) {
    let Some(end) = data.windows(4).position(|four| four == b"\r\n\r\n") else { return };
    let head = &data[..end + 4];
    let mut own = AnswerReader::default();
    own.buf().extend_from_slice(head);
    let Ok(Some(AnswerHead { framing, head: own })) = own.head() else { return };
    let mut session = Answer::new(Box::new(Cursor::new(head.to_vec())));
    // Pingora may refuse more: a status below 100, say.
    let Ok(_) = block_on(session.read_response()) else { return };
    assert_eq!(session.get_headers_raw_bytes(), head);
    let read = session.resp_header().expect("it was read");
    assert_eq!((own.status, own.version), (read.status, read.version));
    assert_eq!(own.headers, read.headers);
    assert_eq!(framing.chunked, read.headers.contains_key(header::TRANSFER_ENCODING));
    let lengths = read.headers.get_all(header::CONTENT_LENGTH).iter();
    let lengths = lengths.flat_map(|value| value.to_str().expect("digits are text").split(','));
    for length in lengths {
        assert_eq!(length.trim().parse().ok(), framing.length);
    }
    let lines = head.split(|byte| *byte == b'\n').count();
    assert_eq!(read.headers.len(), lines - 3, "as many fields as lines");
}

/// Where the bytes of an answer are cut is no matter, and pingora reads the same body wherever it is whole.
pub(crate) fn answer(data: &[u8]) {
    let read = |piece: usize| {
        let mut answer = AnswerReader::default();
        let (mut heads, mut body, mut last) = (Vec::new(), Vec::new(), false);
        for bytes in data.chunks(piece) {
            answer.buf().extend_from_slice(bytes);
            while !last {
                let Ok(head) = answer.head() else { return (heads, body, None) };
                let Some(AnswerHead { head, framing }) = head else { break };
                last = head.status == 101 || !head.status.is_informational();
                heads.push((head.headers.clone(), framing));
            }
            if last {
                loop {
                    match answer.piece() {
                        Ok(Piece::Data(bytes)) => body.extend_from_slice(&bytes),
                        Ok(Piece::More | Piece::End) => break,
                        Err(_) => return (heads, body, None),
                    }
                }
            }
        }
        let in_step = answer.is_in_step();
        (heads, body, Some((answer.trailers(), in_step)))
    };
    let whole = read(data.len().max(1));
    assert_eq!(read(1), whole);
    assert_eq!(read(5), whole);
    let (heads, body, Some((_, true))) = whole else { return };
    let mut session = Answer::new(Box::new(Cursor::new(data.to_vec())));
    for _ in heads {
        // Pingora may refuse more: a length that it finds twice, say.
        if block_on(session.read_response()).is_err() {
            return;
        }
    }
    let mut seen = Vec::new();
    while let Ok(Some(bytes)) = block_on(session.read_body_bytes()) {
        seen.extend_from_slice(&bytes);
    }
    assert_eq!(seen, body);
}

/// A name is written into the same places however an answer comes, and nowhere else.
pub(crate) fn answer_name(data: &[u8]) {
    let json = NameIn::Json { top: &["model"], within: Some("response") };
    for (place, kind) in [
        (json, "application/json"),
        (json, "text/event-stream"),
        (NameIn::Messages(&[1]), "application/grpc"),
        (NameIn::Messages(&[2, 1]), "application/grpc"),
    ] {
        let written = |piece: usize| {
            let mut writer =
                NameWriter::new(place, Some(kind), "client", "m").expect("the type fits");
            let pieces = data.chunks(piece).map(Bytes::copy_from_slice);
            let mut out: Vec<u8> = pieces.flat_map(|piece| writer.write(piece)).collect();
            out.extend_from_slice(&writer.finish());
            out
        };
        let whole = written(data.len().max(1));
        assert_eq!(whole, written(3));
        if place == json && !data.windows(5).any(|five| five == b"model") {
            assert_eq!(whole, data);
        }
    }
}

/// What passes is read by pingora as the same request: of the same length, framed the same.
pub(crate) fn head(data: &[u8]) {
    let mut whole = HeadScan::new(4096, 64);
    let told = whole.read(data);
    let mut slowly = HeadScan::new(4096, 64);
    let pieces = (0..data.len()).step_by(7).map(|end| slowly.read(&data[..end]));
    let early = pieces.take_while(|told| matches!(told, Ok(None))).count();
    let _ = glimpse(data);
    let Ok(Some(head)) = told else { return };
    assert!(early * 7 <= head.len + 7, "a head is over where its last line is");
    let mut session = HttpSession::new(Box::new(Cursor::new(data[..head.len].to_vec())));
    let read = block_on(session.read_request());
    // Pingora may refuse more: two names of a host, say.
    let Ok(Some(_)) = read else { return };
    let request = session.req_header();
    let coded = request.headers.get(header::TRANSFER_ENCODING).is_some();
    assert_eq!(head.chunked, coded);
    assert!(request.headers.get_all(header::CONTENT_LENGTH).iter().count() <= 1);
    assert!(!(coded && request.headers.contains_key(header::CONTENT_LENGTH)));
    assert!(request.headers.get_all(header::HOST).iter().count() <= 1);
    assert!(request.headers.len() <= 64);
    assert!(
        request
            .headers
            .values()
            .all(|v| v.as_bytes().iter().all(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f)))
    );
}

/// Where the bytes are cut is no matter, and pingora finds the end of a body where it is.
pub(crate) fn chunks(data: &[u8]) {
    let mut whole = Chunks::default();
    let told = whole.read(data);
    let mut slowly = Chunks::default();
    let pieces = data.chunks(3).try_for_each(|piece| slowly.read(piece));
    assert_eq!(told.is_ok(), pieces.is_ok());
    if told.is_err() || !whole.is_done() {
        return;
    }
    assert!(slowly.is_done());
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut session = HttpSession::new(Box::new(Cursor::new([head, data].concat())));
    assert!(matches!(block_on(session.read_request()), Ok(Some(_))));
    while block_on(session.read_body_bytes()).expect("what passed is well-formed").is_some() {}
}

/// A model that is found is where it is said to be, and can be renamed; a prefix never says another one.
pub(crate) fn json(data: &[u8]) {
    let wanted = ["user"];
    let read = peek(data, &wanted);
    for cut in [data.len() / 2, data.len()] {
        if let (Ok(whole), Ok(prefix)) = (&read, peek_prefix(&data[..cut], &wanted))
            && let Some(named) = prefix.model
        {
            assert_eq!(whole.model.as_ref(), Some(&named));
        }
    }
    let Some(named) = read.ok().and_then(|facts| facts.model) else { return };
    let there: String = serde_json::from_slice(&data[named.range.clone()]).expect("a JSON string");
    assert_eq!(there, named.name);
    let renamed = edited(&Bytes::copy_from_slice(data), vec![Edit::json(named.range, "n\"\u{e9}")]);
    let again = peek(&renamed, &wanted).expect("still JSON").model.expect("still a model");
    assert_eq!(again.name, "n\"\u{e9}");
}

/// The same of a form.
pub(crate) fn multipart(data: &[u8]) {
    let kind = "multipart/form-data; boundary=b";
    let Some(named) = peek_multipart(kind, data) else { return };
    assert_eq!(&data[named.range.clone()], named.name.as_bytes());
    let renamed = edited(&Bytes::copy_from_slice(data), vec![Edit::bare(named.range, "n")]);
    if let Some(again) = peek_multipart(kind, &renamed) {
        assert_eq!(again.name, "n");
    }
}

/// The same of a path: whatever the new name, it stays one segment.
pub(crate) fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    drop(decoded_path(text));
    // A head with a NUL is refused before its path is read.
    if text.contains('\0') {
        return;
    }
    let Ok(facts) = read_path(text) else { return };
    let Some(named) = facts.model else { return };
    for new in ["n", "a/../b", "%2f", "."] {
        let renamed = rename_in_path(text, named.range.clone(), new);
        match read_path(&renamed) {
            Ok(again) => assert_eq!(again.model.expect("still a model").name, new),
            // A name with a slash or a dot has no place in a path.
            Err(_) => assert!(new.contains(['/', '.'])),
        }
    }
}

/// Answers are read the same wherever they are cut.
pub(crate) fn events(data: &[u8]) {
    for form in [OutputForm::Json, OutputForm::Events, OutputForm::Text] {
        for dialect in [Dialect::OpenAi, Dialect::KServeV2, Dialect::Plain] {
            let wish = OutputWish {
                empty: true,
                json_invalid: true,
                truncated: true,
                ..OutputWish::default()
            };
            let wish = Arc::new(wish);
            let of = |pieces: usize| {
                let mut scan = OutputScan::new(dialect, form, Arc::clone(&wish));
                data.chunks(pieces).for_each(|piece| scan.chunk(piece));
                scan.finish(true)
            };
            assert_eq!(of(data.len().max(1)), of(3));
        }
    }
    for form in [UsageForm::Json, UsageForm::Events, UsageForm::JsonLines] {
        let of = |pieces: usize| {
            let mut scan = UsageScan::new(form);
            data.chunks(pieces).for_each(|piece| scan.chunk(piece));
            scan.usage()
        };
        assert_eq!(of(data.len().max(1)), of(3));
    }
    for form in [StreamForm::Events, StreamForm::Lines] {
        let of = |pieces: usize| {
            let mut watch = StreamWatch::new(form);
            let failures: Vec<_> = data.chunks(pieces).map(|piece| watch.take(piece)).collect();
            let between = watch.is_between();
            let failure = failures.into_iter().flatten().next().or_else(|| watch.finish());
            (failure, between, watch.pieces())
        };
        assert_eq!(of(data.len().max(1)), of(3));
    }
}

/// A deadline that is read can be written and read again, never longer than it was.
pub(crate) fn deadline(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for header in DeadlineHeader::ALL {
        if let Some(left) = header.read(text) {
            let again = header.read(&header.write(left)).expect("what we write we read");
            assert!(
                again <= left || again.as_millis() <= left.as_millis() + 1,
                "{left:?} {again:?}"
            );
        }
    }
}

/// Any text is a set of keys or is not; and nobody guesses a token that one of them has signed.
pub(crate) fn jwt(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    drop(Jwks::parse(text));
    thread_local! {
        static KEYS: Jwks = Jwks::parse(include_str!("../tests/golden/jwks.json")).expect("a good file");
    }
    let [issuer, audience, claim] = ["a", "b", "sub"].map(str::to_owned);
    let terms = TokenTerms { issuer, audience, claim };
    KEYS.with(|keys| assert!(named_by(text, keys, &terms, 0, &mut Tries::default()).is_err()));
}

/// A header of the PROXY protocol is found when its last byte is there, and what follows is no matter.
pub(crate) fn proxy_protocol(data: &[u8]) {
    match parse(data) {
        Parsed::Header { length, client } => {
            assert_eq!(parse(&data[..length]), Parsed::Header { length, client });
            (0..length).for_each(|cut| assert_eq!(parse(&data[..cut]), Parsed::Partial));
        }
        Parsed::Partial => assert!(data.len() < 4096 + 16),
        Parsed::Malformed(_) => {}
    }
}

/// Any text is a configuration or has its mistakes told, each at a place that exists.
pub(crate) fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let env = |name: &str| (name == "HOST").then(|| "h".to_owned());
    let found = match parse_text(text.to_owned(), "evener.yaml", &env) {
        Ok(checked) => checked.warnings,
        Err(found) => {
            assert!(found.has_errors());
            *found
        }
    };
    drop(found.render_text(false));
    let lines = text.lines().count().max(1) as u64;
    for item in found.to_json().as_array().expect("a list") {
        let line = item["line"].as_u64().expect("a line");
        assert!((1..=lines + 1).contains(&line), "{item}");
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// Messages of gRPC: however a stream is cut, the same ones pass; a new name is the one that is read next.
pub(crate) fn grpc(data: &[u8]) {
    const NEW: &str = "another/model";
    let places: [NameAt; 4] = [&[1], &[2], &[1, 1], &[1, 1, 1]];
    for at in places {
        let Ok(Some(name)) = first_name(data, at, true, 1 << 20) else { continue };
        let body = Bytes::copy_from_slice(data);
        let read = |new, step: usize| {
            let mut messages = Messages::new(at, &name, new, 1 << 20);
            let mut passed = Vec::new();
            for chunk in data.chunks(step) {
                passed.extend_from_slice(&messages.take(&Bytes::copy_from_slice(chunk)).ok()?);
            }
            Some((passed, messages.held()))
        };
        let whole = read(None, data.len());
        assert_eq!(read(None, 1), whole, "cut elsewhere");
        if let Some((passed, held)) = &whole {
            assert_eq!(passed.len() + held, data.len(), "something was lost");
            assert_eq!(&data[..passed.len()], passed, "something was changed");
            let (renamed, _) = read(Some(NEW), 3).expect("it was read before");
            assert_eq!(first_name(&renamed, at, true, 1 << 20), Ok(Some(NEW.to_owned())));
        }
        let renamed = rename_in_messages(&body, at, NEW);
        assert_eq!(first_name(&renamed, at, true, 1 << 20), Ok(Some(NEW.to_owned())));
    }
}
