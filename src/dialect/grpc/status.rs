//! How calls end: the numbers of gRPC, beside those of HTTP, and the text that goes with them.

/// A status of gRPC, 0 to 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GrpcStatus(u16);

impl GrpcStatus {
    pub const OK: Self = Self(0);
    pub const UNKNOWN: Self = Self(2);
    pub const NOT_FOUND: Self = Self(5);
    pub const UNIMPLEMENTED: Self = Self(12);
    const MOST: u16 = 16;
    const FIRST_CODE: u16 = 600;
    /// The highest number under which one is counted.
    pub const LAST_CODE: u16 = Self::FIRST_CODE + Self::MOST;

    /// As a replica wrote it. What clients do not know is UNKNOWN to them.
    pub fn read(text: &[u8]) -> Self {
        let number = std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok());
        number.filter(|number| *number <= Self::MOST).map_or(Self::UNKNOWN, Self)
    }

    pub const fn number(self) -> u16 {
        self.0
    }

    /// What clients make of an answer that is not gRPC, by its status of HTTP (gRPC, <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>).
    pub const fn of_foreign(status: u16) -> Self {
        Self(match status {
            400 => 13,
            401 => 16,
            403 => 7,
            404 => 12,
            429 | 502..=504 => 14,
            _ => 2,
        })
    }

    /// The number under which it is counted beside statuses of HTTP, which end below.
    pub const fn code(self) -> u16 {
        Self::FIRST_CODE + self.0
    }

    /// From a number under which it is counted.
    pub const fn of_code(code: u16) -> Option<Self> {
        match code.checked_sub(Self::FIRST_CODE) {
            Some(number) if number <= Self::MOST => Some(Self(number)),
            _ => None,
        }
    }
}

/// What a client of gRPC gets where one of HTTP gets this status.
pub const fn grpc_status_of_http(status: u16) -> GrpcStatus {
    GrpcStatus(match status {
        401 => 16,
        403 | 421 => 7,
        404 => 5,
        408 | 504 => 4,
        413 | 429 | 431 => 8,
        405 | 501 => 12,
        500 => 13,
        502 | 503 | 508 => 14,
        400..=499 => 3,
        _ => 2,
    })
}

/// The status of HTTP that means the same to whoever counts failures or repeats them.
pub const fn http_status_of_grpc(status: GrpcStatus) -> u16 {
    match status.0 {
        0 => 200,
        1 => 499,
        2 | 13 | 15 => 500,
        4 => 504,
        5 => 404,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 400,
    }
}

/// What is counted as this, in metrics and to people: `503`, `grpc-14`.
pub fn code_word(code: u16) -> String {
    match GrpcStatus::of_code(code) {
        Some(status) => format!("grpc-{}", status.number()),
        None => code.to_string(),
    }
}

/// The status of HTTP that went over the wire: gRPC says what it has to say in trailers.
pub fn http_status_of_code(code: u16) -> u16 {
    if GrpcStatus::of_code(code).is_some() { 200 } else { code }
}

/// As [`http_status_of_grpc`], of what is counted as this.
pub fn severity_of_code(code: u16) -> u16 {
    GrpcStatus::of_code(code).map_or(code, http_status_of_grpc)
}

/// Text for `grpc-message`, percent-encoded as gRPC over HTTP/2 asks: what is not printable ASCII, and `%`.
pub fn escape_message(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            escaped.push(char::from(byte));
        } else {
            escaped.push('%');
            escaped.push(char::from(HEX[usize::from(byte >> 4)]));
            escaped.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::RefusalCode;

    #[test]
    fn refusals_are_told_as_the_contract_says() {
        for (code, number) in [
            ("bad_request", 3),
            ("model_required", 3),
            ("model_not_found", 5),
            ("no_route", 5),
            ("request_timeout", 4),
            ("body_too_large", 8),
            ("head_too_large", 8),
            ("model_unreadable", 3),
            ("upstream_failed", 14),
            ("no_replicas", 14),
            ("loop_detected", 14),
            ("first_byte_timeout", 4),
            ("total_timeout", 4),
        ] {
            let code = RefusalCode::ALL.iter().find(|known| known.name() == code).unwrap();
            assert_eq!(grpc_status_of_http(code.status()).number(), number, "{code:?}");
        }
        assert_eq!([401, 403, 429].map(|s| grpc_status_of_http(s).number()), [16, 7, 8]);
    }

    #[test]
    fn what_a_replica_wrote_is_a_status_or_unknown() {
        for (text, number) in [(&b"14"[..], 14), (b" 0 ", 0), (b"17", 2), (b"x", 2), (b"", 2)] {
            assert_eq!(GrpcStatus::read(text).number(), number);
        }
    }

    #[test]
    fn an_answer_that_is_not_grpc_is_never_ok() {
        for (status, number) in [(200, 2), (302, 2), (400, 13), (404, 12), (429, 14), (503, 14)] {
            assert_eq!(GrpcStatus::of_foreign(status).number(), number, "{status}");
        }
    }

    #[test]
    fn a_status_is_counted_beside_those_of_http() {
        let status = GrpcStatus::read(b"14");
        assert_eq!(GrpcStatus::of_code(status.code()), Some(status));
        assert_eq!((code_word(status.code()), code_word(503)), ("grpc-14".into(), "503".into()));
        assert_eq!((http_status_of_code(status.code()), http_status_of_code(404)), (200, 404));
        assert_eq!((severity_of_code(status.code()), severity_of_code(404)), (503, 404));
        assert_eq!((GrpcStatus::of_code(599), GrpcStatus::of_code(617)), (None, None));
    }

    #[test]
    fn messages_are_printable() {
        assert_eq!(escape_message("50 % of `é`\n"), "50 %25 of `%C3%A9`%0A");
    }
}
