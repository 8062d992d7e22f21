//! The head of an HTTP/1 request, checked byte by byte before anything reads it: what two readers could take for two
//! different requests is refused (RFC 9112 §§2.2, 3, 5, 6 and 11.2).
use std::ops::Range;

/// Empty lines before a request, which are forgiven (RFC 9112 §2.2).
const EMPTY_LINES: usize = 4;

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("{0}")]
    Malformed(&'static str),
    #[error("{0}")]
    TooLarge(&'static str),
    #[error("the only Transfer-Encoding served is chunked")]
    Encoding,
}

/// A whole head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawHead {
    /// With the empty line that ends it.
    pub len: usize,
    /// Its body comes in chunks.
    pub chunked: bool,
}

/// How far a head was read.
#[derive(Clone, Debug)]
pub struct HeadScan {
    max_bytes: usize,
    max_fields: usize,
    /// Where the line that is not over yet begins.
    line: usize,
    /// Up to where no end of a line is.
    looked: usize,
    empty: usize,
    http11: Option<bool>,
    fields: usize,
    hosts: usize,
    length: bool,
    chunked: bool,
}

impl HeadScan {
    /// Of a head with at most so many bytes and header fields.
    pub fn new(max_bytes: usize, max_fields: usize) -> Self {
        Self {
            max_bytes,
            max_fields,
            line: 0,
            looked: 0,
            empty: 0,
            http11: None,
            fields: 0,
            hosts: 0,
            length: false,
            chunked: false,
        }
    }

    /// Goes on with all that was read so far. `None`: the head is not over yet.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Option<RawHead>, Unfit> {
        while let Some(at) = memchr::memchr(b'\n', &bytes[self.looked..]) {
            let end = self.looked + at;
            let line = &bytes[self.line..end];
            let Some(line) = line.strip_suffix(b"\r") else {
                return Err(Unfit::Malformed("lines of the head must end in CR LF"));
            };
            (self.line, self.looked) = (end + 1, end + 1);
            if self.line > self.max_bytes {
                break;
            }
            match self.http11 {
                None if line.is_empty() && self.empty < EMPTY_LINES => self.empty += 1,
                None => self.http11 = Some(check_request_line(line)?),
                Some(http11) if line.is_empty() => {
                    return self.end(http11).map(Some);
                }
                Some(_) => self.field(line)?,
            }
        }
        self.looked = bytes.len();
        if bytes.len() > self.max_bytes {
            return Err(Unfit::TooLarge("the request head is too large"));
        }
        // Who speaks another protocol may never end a line.
        if self.http11.is_none()
            && let Some(first) = bytes.get(self.line)
            && !(is_token(*first) || (*first == b'\r' && bytes.len() == self.line + 1))
        {
            return Err(Unfit::Malformed("this is not HTTP"));
        }
        Ok(None)
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Unfit> {
        self.fields += 1;
        if self.fields > self.max_fields {
            return Err(Unfit::TooLarge("the request has too many header fields"));
        }
        let (name, value) = check_field(line).map_err(Unfit::Malformed)?;
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.hosts += 1;
                if !is_host(value) {
                    return Err(Unfit::Malformed("the Host header is not a host and a port"));
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                // Digits alone: `+2`, `2, 2` and an empty value are ways to smuggle. Fewer than overflow 64 bits.
                let plain = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
                if !plain || std::mem::replace(&mut self.length, true) {
                    return Err(Unfit::Malformed("Content-Length must be one plain number"));
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                let chunked = value.eq_ignore_ascii_case(b"chunked");
                if !chunked || std::mem::replace(&mut self.chunked, true) {
                    return Err(Unfit::Encoding);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&self, http11: bool) -> Result<RawHead, Unfit> {
        if self.hosts > 1 || (self.hosts == 0 && http11) {
            return Err(Unfit::Malformed("exactly one Host header is required"));
        }
        if self.chunked && self.length {
            return Err(Unfit::Malformed(
                "Content-Length and Transfer-Encoding exclude each other",
            ));
        }
        if self.chunked && !http11 {
            return Err(Unfit::Malformed("Transfer-Encoding needs HTTP/1.1"));
        }
        Ok(RawHead { len: self.line, chunked: self.chunked })
    }
}

/// `METHOD target HTTP/1.1` with one space each. Is it 1.1?
fn check_request_line(line: &[u8]) -> Result<bool, Unfit> {
    const FORM: Unfit = Unfit::Malformed("the request line must be `METHOD /path HTTP/1.1`");
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(FORM);
    };
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Err(FORM);
    }
    let http11 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        _ => return Err(Unfit::Malformed("only HTTP/1.0, HTTP/1.1 and HTTP/2 are served")),
    };
    let starts = |scheme: &[u8]| {
        target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    // `host:443` belongs to CONNECT, which is refused by its name.
    let fits = target.starts_with(b"/")
        || starts(b"http://")
        || starts(b"https://")
        || (target == b"*" && method == b"OPTIONS")
        || method == b"CONNECT";
    if !fits || target.iter().any(|byte| is_control(*byte) || *byte == b'\t' || *byte == b'#') {
        return Err(Unfit::Malformed("the request target must be a path"));
    }
    Ok(http11)
}

/// A field's name and its value without the white space around it.
pub(super) fn check_field(line: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let colon = memchr::memchr(b':', line).ok_or("a header field lacks a colon")?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    if matches!(line[0], b' ' | b'\t') {
        return Err("header fields must not be folded");
    }
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err("a header field's name holds what no name may");
    }
    if line[colon..].iter().any(|byte| is_control(*byte)) {
        return Err("a header field holds control characters");
    }
    Ok((name, value))
}

/// What may stand in names and methods (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

/// A host, maybe with a port; no user, path or list. Empty where the request is for nobody in particular.
pub fn is_host(value: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(byte);
    value.iter().all(fits)
}

/// The method and the target of a head that may be malformed, for logs: readable ASCII only.
pub fn glimpse(head: &[u8]) -> (&str, &str) {
    let is_end = |byte: &u8| *byte == b'\r' || *byte == b'\n';
    let start = head.iter().position(|byte| !is_end(byte)).unwrap_or(head.len());
    let line = head[start..].split(is_end).next().unwrap_or_default();
    let word = |from: usize, most: usize| -> Range<usize> {
        let word = line[from..].iter().take(most).take_while(|byte| byte.is_ascii_graphic());
        from..from + word.count()
    };
    let method = word(0, 20);
    let target = match line.get(method.end) {
        Some(b' ') => word(method.end + 1, 2000),
        _ => 0..0,
    };
    let text = |range: Range<usize>| std::str::from_utf8(&line[range]).unwrap_or_default();
    (text(method), text(target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: (usize, usize) = (1000, 10);

    fn scan(head: &[u8]) -> Result<Option<RawHead>, Unfit> {
        HeadScan::new(LIMITS.0, LIMITS.1).read(head)
    }

    /// The same, byte after byte.
    fn trickle(head: &[u8]) -> Result<Option<RawHead>, Unfit> {
        let mut state = HeadScan::new(LIMITS.0, LIMITS.1);
        for end in 1..=head.len() {
            match state.read(&head[..end]) {
                Ok(None) => {}
                told => return told,
            }
        }
        Ok(None)
    }

    fn get(fields: &str) -> Vec<u8> {
        format!("GET /p HTTP/1.1\r\nHost: x\r\n{fields}\r\n").into_bytes()
    }

    #[test]
    fn plain_heads_pass_and_tell_their_length() {
        for (head, chunked) in [
            (get(""), false),
            (get("Content-Length: 12\r\n"), false),
            (get("transfer-encoding:  Chunked \r\n"), true),
            (get("x-a:\r\nx-b: \u{e9}\t\"\r\n"), false),
            (b"OPTIONS * HTTP/1.0\r\n\r\n".to_vec(), false),
            (b"\r\n\r\nGET http://x/p HTTP/1.1\r\nhost:x:80\r\n\r\n".to_vec(), false),
            (b"GET /\xc3\xa9?a=b HTTP/1.1\r\nHost: [::1]:80\r\n\r\n".to_vec(), false),
        ] {
            let whole = Ok(Some(RawHead { len: head.len(), chunked }));
            let more = [&head[..], b"GET \n:"].concat();
            assert_eq!(scan(&more), whole, "{}", head.escape_ascii());
            assert_eq!(trickle(&head), whole, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn a_head_that_is_not_over_is_waited_for() {
        let head = get("x-a: 1\r\n");
        for end in 0..head.len() {
            assert_eq!(scan(&head[..end]), Ok(None), "{end}");
        }
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        for fields in [
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 2, 2\r\n",
            "Content-Length: +2\r\n",
            "Content-Length:\r\n",
            "Content-Length: 9999999999999999999\r\n",
            "Content-Length : 2\r\n",
            "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
            "Host: y\r\n",
            "x-a: 1\n",
            "x-a: 1\r2\r\n",
            "x-a: 1\r\n 2\r\n",
            "x-a\r\n",
            ": 1\r\n",
            "x a: 1\r\n",
            "x-a: \0\r\n",
            "x-a: \x7f\r\n",
        ] {
            let told = scan(&get(fields));
            assert!(matches!(told, Err(Unfit::Malformed(_))), "{fields:?}: {told:?}");
            assert_eq!(trickle(&get(fields)), told, "{fields:?}");
        }
        for line in [
            "GET /p\r\n",
            "GET  /p HTTP/1.1\r\n",
            "GET /p q HTTP/1.1\r\n",
            "GET\t/p HTTP/1.1\r\n",
            "GET p HTTP/1.1\r\n",
            "GET * HTTP/1.1\r\n",
            "GET /p#f HTTP/1.1\r\n",
            "GET /\x01 HTTP/1.1\r\n",
            "GET ftp://x/ HTTP/1.1\r\n",
            "GET /p HTTP/1.2\r\n",
            "GET /p http/1.1\r\n",
            " GET /p HTTP/1.1\r\n",
            "\x16\x03\x01",
            "\0",
            "\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n",
        ] {
            let told = scan(line.as_bytes());
            assert!(matches!(told, Err(Unfit::Malformed(_))), "{line:?}: {told:?}");
        }
        for host in ["a b", "a/b", "u@a", "a, b", "\u{e9}"] {
            let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert!(scan(head.as_bytes()).is_err(), "{host}");
        }
        for coding in ["gzip, chunked", "identity", "chunked, chunked", "\"chunked\""] {
            let told = scan(&get(&format!("Transfer-Encoding: {coding}\r\n")));
            assert_eq!(told, Err(Unfit::Encoding), "{coding}");
        }
        let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(matches!(scan(old), Err(Unfit::Malformed(_))));
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_ends() {
        let endless = vec![b'a'; LIMITS.0 + 1];
        assert!(matches!(scan(&endless), Err(Unfit::TooLarge(_))));
        let many = get(&"x: 1\r\n".repeat(LIMITS.1));
        assert!(matches!(scan(&many), Err(Unfit::TooLarge(_))));
        let wide = get(&format!("x: {}\r\n", "a".repeat(LIMITS.0)));
        assert!(matches!(scan(&wide), Err(Unfit::TooLarge(_))));
    }

    #[test]
    fn a_log_sees_what_is_readable_of_a_malformed_head() {
        for (head, method, target) in [
            (&b"GET /p HTTP/1.1\nHost"[..], "GET", "/p"),
            (b"\r\nGET /p\0q", "GET", "/p"),
            (b"\x16\x03", "", ""),
            (b"GET", "GET", ""),
            (b"", "", ""),
        ] {
            assert_eq!(glimpse(head), (method, target));
        }
    }

    proptest! {
        #[test]
        fn it_is_no_matter_how_the_bytes_come(
            pieces in proptest::collection::vec(
                prop_oneof!["GET /p HTTP/1.1\r\n", "Host: x\r\n", "\r\n", "[ -~]{0,9}\r\n", "\\PC{0,3}", "x: 1\r\n",
                    "Transfer-Encoding: chunked\r\n", "Content-Length: 2\r\n", "\n", "\r"],
                0..9,
            ),
        ) {
            let head = pieces.concat();
            // A later fault may be seen first where all bytes are there at once; never is a head taken that is not.
            let (once, slowly) = (scan(head.as_bytes()), trickle(head.as_bytes()));
            prop_assert_eq!(once.is_ok(), slowly.is_ok());
            if once.is_ok() {
                prop_assert_eq!(once, slowly);
            }
            if let Ok(Some(whole)) = once {
                let head = &head.as_bytes()[..whole.len];
                prop_assert!(head.ends_with(b"\r\n\r\n"));
                prop_assert!(!head.iter().any(|byte| is_control(*byte) && *byte != b'\r' && *byte != b'\n'));
            }
        }
    }
}
