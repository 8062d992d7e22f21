//! Reads the one field `model` of a multipart form that all frameworks read alike; any other form is a problem.
//!
//! Parsers of RFC 7578 differ: Starlette's stops at a parameter without a value, Go's joins folded lines and decodes
//! quoted-printable, some know `name*` (RFC 5987), take the last of two boundaries, or skip a preamble. None of them differs
//! in what is left here: the plain form that browsers and client libraries write.
use super::media::essence;
use super::name_fields::{holds_content, holds_settings, is_nameless, parts_of_key};
use super::naming::{flat, reads_as_model};
use super::prompt::names::folded;
use memchr::memmem::{Finder, find};
use std::ops::Range;

/// What is wrong with a form, after "the form".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormProblem {
    #[error(
        "has a content type that can be read in two ways: send `multipart/form-data; boundary=…`"
    )]
    Kind,
    #[error(
        "has text in front of its first part, behind its last one, or a delimiter where none may be"
    )]
    Delimiters,
    #[error("has a part whose head can be read in two ways: {0}")]
    Head(&'static str),
    #[error("has a field `{0}`, which some servers take for `model`: write it as `model`")]
    Alike(String),
    #[error("has a field `{0}`, which some servers take for the name of a model: leave it out")]
    Beside(String),
    #[error("has two fields `model`: send one")]
    Twice,
    #[error("names no model: add the field `model`")]
    Nameless,
    #[error("names a model that is no plain text")]
    Value,
}

/// The value of the field `model`, and where its part stands, head and value.
pub(super) fn sole_model(
    content_type: &str,
    body: &[u8],
) -> Result<(String, Range<usize>), FormProblem> {
    let boundary = boundary(content_type).ok_or(FormProblem::Kind)?;
    let mut found = None;
    for part in parts(body, &boundary)? {
        let bytes = &body[part.clone()];
        let (head, value) = match find(bytes, b"\r\n\r\n") {
            Some(end) => (&bytes[..end], &bytes[end + 4..]),
            None => return Err(FormProblem::Head("it has no end")),
        };
        let Head { name, is_file, is_text } = Head::read(head)?;
        // `model[]` and `model.x` are lists and mappings to some.
        let stem = folded(&name).split(['[', '.']).next().unwrap_or_default().trim().to_owned();
        if stem != "model" {
            let text = std::str::from_utf8(value).ok().filter(|_| !is_file);
            if names_beside(&name, text) {
                return Err(FormProblem::Beside(name.chars().take(40).collect()));
            }
            continue;
        }
        if name != "model" || is_file || !is_text {
            return Err(FormProblem::Alike(name.chars().take(20).collect()));
        }
        let value = std::str::from_utf8(value).map_err(|_| FormProblem::Value)?;
        if value.is_empty() || value.trim() != value || value.chars().any(char::is_control) {
            return Err(FormProblem::Value);
        }
        if found.replace((value.to_owned(), part)).is_some() {
            return Err(FormProblem::Twice);
        }
    }
    found.ok_or(FormProblem::Nameless)
}

/// Does a field other than `model` name a model to some server? `text`: its value.
fn names_beside(name: &str, text: Option<&str>) -> bool {
    if holds_content(parts_of_key(name).next().unwrap_or_default()) {
        return false;
    }
    parts_of_key(name).any(|part| reads_as_model(&flat(part)))
        || holds_settings(name) && text.is_some_and(|text| !is_nameless(text))
}

/// The parameters of a header's value, if there is one way to read them: `; name=token` or `; name="text"`.
pub(super) fn parameters(value: &str) -> Option<Vec<(String, String)>> {
    let mut rest = match value.find(';') {
        Some(at) => value[at..].trim_end_matches([' ', '\t']),
        None => return Some(Vec::new()),
    };
    let mut all = Vec::new();
    while !rest.is_empty() {
        let after = rest.strip_prefix(';')?.trim_start_matches([' ', '\t']);
        let (name, after) = after.split_once('=')?;
        let token = |text: &str| !text.is_empty() && text.bytes().all(is_token);
        let (value, behind) = match after.strip_prefix('"') {
            Some(quoted) => {
                let end = quoted.find('"')?;
                (&quoted[..end], &quoted[end + 1..])
            }
            None => after.split_at(after.find([';', ' ', '\t']).unwrap_or(after.len())),
        };
        let quoted = after.starts_with('"');
        let plain = !value.contains('\\') && !value.chars().any(char::is_control);
        if !token(name) || !plain || !(quoted || token(value)) {
            return None;
        }
        all.push((name.to_ascii_lowercase(), value.to_owned()));
        rest = behind.trim_start_matches([' ', '\t']);
    }
    Some(all)
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The one boundary (RFC 2046 §5.1.1).
fn boundary(content_type: &str) -> Option<String> {
    let essence = essence(content_type);
    let all = parameters(content_type)?;
    let mut boundaries = all.iter().filter(|(name, _)| name == "boundary");
    let (_, boundary) = boundaries.next()?;
    let others = all.iter().filter(|(name, _)| name != "boundary");
    let mut charsets = others.filter(|(name, value)| {
        !(name == "charset" && ["utf-8", "utf8"].iter().any(|c| value.eq_ignore_ascii_case(c)))
    });
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&b);
    let good = essence.eq_ignore_ascii_case("multipart/form-data")
        && (1..=70).contains(&boundary.len())
        && boundary.bytes().all(fits)
        && !boundary.ends_with(' ')
        && boundaries.next().is_none()
        && charsets.next().is_none();
    good.then(|| boundary.clone())
}

/// Where the parts stand: each between the line of its delimiter and the line end in front of the next.
fn parts(body: &[u8], boundary: &str) -> Result<Vec<Range<usize>>, FormProblem> {
    let delimiter = format!("--{boundary}");
    let finder = Finder::new(delimiter.as_bytes());
    let (mut parts, mut begun, mut ended) = (Vec::new(), None, false);
    // Every place where a delimiter stands must be one of a delimiter.
    for at in finder.find_iter(body) {
        let behind = at + delimiter.len();
        let begins_line = at == 0 || body[..at].ends_with(b"\r\n");
        if ended || !begins_line || (at > 0 && begun.is_none()) {
            return Err(FormProblem::Delimiters);
        }
        if let Some(from) = begun.take() {
            let to = at - 2;
            if to < from {
                return Err(FormProblem::Delimiters);
            }
            parts.push(from..to);
        }
        match &body[behind..] {
            [b'\r', b'\n', ..] => begun = Some(behind + 2),
            b"--" | b"--\r\n" => ended = true,
            _ => return Err(FormProblem::Delimiters),
        }
    }
    if ended { Ok(parts) } else { Err(FormProblem::Delimiters) }
}

/// What the head of a part says.
struct Head {
    name: String,
    is_file: bool,
    /// It says no type, or plain text.
    is_text: bool,
}

impl Head {
    fn read(head: &[u8]) -> Result<Self, FormProblem> {
        let problem = FormProblem::Head;
        let head = std::str::from_utf8(head).map_err(|_| problem("it is not UTF-8"))?;
        let (mut disposition, mut kind, mut length) = (None, None, None);
        for line in head.split("\r\n") {
            let (name, value) = line.split_once(':').ok_or(problem("a line has no colon"))?;
            if line.chars().any(char::is_control) || !name.bytes().all(is_token) {
                return Err(problem("a line is folded or has odd letters"));
            }
            let slot = match name.to_ascii_lowercase().as_str() {
                "content-disposition" => &mut disposition,
                "content-type" => &mut kind,
                "content-length" => &mut length,
                _ => return Err(problem("it has another header than its disposition and type")),
            };
            if slot.replace(value.trim_matches(' ')).is_some() {
                return Err(problem("it says one thing twice"));
            }
        }
        let disposition = disposition.ok_or(problem("it has no `Content-Disposition`"))?;
        let essence = disposition.split(';').next().unwrap_or_default();
        let all = parameters(disposition).ok_or(problem("its disposition is odd"))?;
        let count = |wanted: &str| all.iter().filter(|(name, _)| name == wanted).count();
        let known = ["name", "filename", "filename*"];
        let once = known.iter().all(|name| count(name) <= 1) && count("name") == 1;
        if !essence.trim_end().eq_ignore_ascii_case("form-data")
            || !once
            || !all.iter().all(|(name, _)| known.contains(&name.as_str()))
        {
            return Err(problem("its disposition is odd"));
        }
        let value = |wanted: &str| all.iter().find(|(name, _)| name == wanted).map(|(_, v)| v);
        let name = value("name").cloned().unwrap_or_default();
        // Browsers write quotes and line ends so, and some servers decode all of these.
        if name.contains(['%', '&', '=', '*', '\'']) {
            return Err(problem("its name is odd"));
        }
        let kind = kind.unwrap_or("text/plain").to_ascii_lowercase();
        if kind.starts_with("multipart/") || kind.starts_with("message/") {
            return Err(problem("it holds parts of its own"));
        }
        let plain = ["text/plain", "text/plain; charset=utf-8", "text/plain;charset=utf-8"];
        let is_file = count("filename") + count("filename*") > 0;
        Ok(Self { name, is_file, is_text: plain.contains(&kind.as_str()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KIND: &str = "multipart/form-data; boundary=b";
    const NAME: &str = "Content-Disposition: form-data; name=\"model\"";
    const FILE: &str = "Content-Disposition: form-data; name=\"file\"; filename=\"ä.wav\"\r\nContent-Type: audio/wav";

    fn form(parts: &[(&str, &str)]) -> String {
        let part = |(head, value): &(&str, &str)| format!("--b\r\n{head}\r\n\r\n{value}\r\n");
        parts.iter().map(part).collect::<String>() + "--b--\r\n"
    }

    fn model(kind: &str, body: &str) -> Result<String, FormProblem> {
        sole_model(kind, body.as_bytes()).map(|(name, _)| name)
    }

    #[test]
    fn a_plain_form_is_read_wherever_its_model_stands() {
        let good = Ok("whisper".to_owned());
        for parts in [
            &[(NAME, "whisper"), (FILE, "RIFF\r\n\0--x")][..],
            &[(FILE, "RIFF"), (NAME, "whisper")],
            &[("content-disposition:form-data;name=model", "whisper")],
            &[(
                "Content-Type: text/plain\r\nContent-Disposition: form-data; name=\"model\"",
                "whisper",
            )],
            &[("Content-Disposition: form-data; name=\"modal\"", "x"), (NAME, "whisper")],
        ] {
            assert_eq!(model(KIND, &form(parts)), good, "{parts:?}");
        }
        let plain = form(&[(NAME, "whisper")]);
        for kind in [
            "multipart/form-data; boundary=\"b\"",
            "Multipart/Form-Data;charset=utf-8;BOUNDARY=b",
            "multipart/form-data; boundary=b ",
        ] {
            assert_eq!(model(kind, &plain), good, "{kind}");
        }
        assert_eq!(model(KIND, plain.trim_end()), good);
    }

    #[test]
    fn the_place_of_the_part_is_its_head_and_value() {
        let body = form(&[(FILE, "RIFF"), (NAME, "a")]);
        let (_, part) = sole_model(KIND, body.as_bytes()).unwrap();
        assert_eq!(&body[part], format!("{NAME}\r\n\r\na"));
    }

    #[test]
    fn what_frameworks_read_otherwise_is_a_problem() {
        for head in [
            "content-disposition: form-data; foo; name=\"model\"",
            "content-disposition: form-data;; name=\"model\"",
            "content-disposition: form-data; name=\"x\"; name=\"model\"",
            "content-disposition: form-data;\r\n name=\"model\"",
            "content-disposition: form-data; name*=utf-8''model",
            "content-disposition: form-data; name=\"x\"; name*=utf-8''model",
            "content-disposition: form-data; name=\"m\\odel\"",
            "content-disposition: form-data; name=\"%6dodel\"",
            "content-disposition: form-data; name=\"Model\"",
            "content-disposition: form-data; name=\" model\"",
            "content-disposition: form-data; name=\"model[]\"",
            "content-disposition: form-data; name=model; filename=x",
            "content-disposition: form-data; name = \"model\"",
            "content-disposition: form-data; name=\"model",
            "content-disposition: attachment; name=\"model\"",
            "content-disposition : form-data; name=\"model\"",
            "content-disposition: form-data; name=\"x\"\r\ncontent-disposition: form-data; name=\"model\"",
            "content-disposition: form-data; name=\"x\"\ncontent-disposition: form-data; name=\"model\"",
            "content-disposition: form-data; name=\"x\"\r\ncontent-transfer-encoding: quoted-printable",
            "content-disposition: form-data; name=\"model\"\r\ncontent-type: text/plain; charset=utf-7",
            "content-disposition: form-data; name=\"x\"\r\ncontent-type: multipart/mixed; boundary=c",
            "content-type: text/plain",
            "",
        ] {
            let body = form(&[(NAME, "chat"), (head, "vip"), (FILE, "x")]);
            assert!(model(KIND, &body).is_err(), "{head}");
        }
        assert_eq!(model(KIND, &form(&[(NAME, "a"), (NAME, "a")])), Err(FormProblem::Twice));
        assert_eq!(model(KIND, &form(&[(FILE, "x")])), Err(FormProblem::Nameless));
        for value in ["", " chat", "chat\n", "ch\0at"] {
            assert_eq!(model(KIND, &form(&[(NAME, value)])), Err(FormProblem::Value), "{value:?}");
        }
        let plain = form(&[(NAME, "chat")]);
        for kind in [
            "multipart/form-data; boundary=zz; boundary=b",
            "multipart/form-data; boundary=b; boundary=zz",
            "multipart/form-data; boundary=b; charset=utf-16",
            "multipart/form-data; x; boundary=b",
            "multipart/form-data; boundary*=b",
            "multipart/mixed; boundary=b",
            "multipart/form-data",
        ] {
            assert!(model(kind, &plain).is_err(), "{kind}");
        }
        let within = form(&[(NAME, "chat"), (FILE, "x\n--b\nContent-Disposition")]);
        for body in [
            &format!("preamble\r\n{plain}"),
            &format!("\r\n{plain}"),
            &format!("{plain}epilogue"),
            &plain.replace("\r\n", "\n"),
            &plain.replace("--b--", "--b"),
            &plain.replace("--b\r\n", "--b \r\n"),
            &plain.replace("--b--", "--bb--"),
            &format!("{plain}{plain}"),
            &within,
        ] {
            assert!(model(KIND, body).is_err(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(kind in ".*", body: Vec<u8>, text in "[-b\r\n:;=\"model]*") {
            drop(sole_model(&kind, &body));
            drop(sole_model(KIND, text.as_bytes()));
            drop(sole_model(&format!("multipart/form-data; {kind}"), text.as_bytes()));
            drop(sole_model(KIND, format!("--b\r\n{text}\r\n\r\nx\r\n--b--").as_bytes()));
        }
    }
}
