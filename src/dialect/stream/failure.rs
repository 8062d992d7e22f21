//! Whose fault an error inside a stream is, by the words that servers use.

/// What an error inside a stream says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The request was wrong.
    Client,
    /// There is no room for it at present.
    Overloaded,
    /// The server failed.
    Server,
}

/// The longest word that is read.
pub(super) const LONGEST: usize = 48;

/// Whole words of google.rpc's list of codes that the parts of words below say nothing of, or something else
/// (<https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto>). Gemini answers `UNAVAILABLE` where a model
/// has no room at present.
const CODES: [(&str, Failure); 7] = [
    ("unavailable", Failure::Overloaded),
    ("alreadyexists", Failure::Client),
    ("aborted", Failure::Client),
    ("cancelled", Failure::Client),
    ("unimplemented", Failure::Server),
    ("dataloss", Failure::Server),
    ("unknown", Failure::Server),
];
/// Parts of words, without case and punctuation, that say there is no room.
const OVERLOADED: [&str; 11] = [
    "overload",
    "ratelimit",
    "toomanyrequests",
    "resourceexhausted",
    "throttl",
    "quota",
    "queuefull",
    "queuetimeout",
    "slowdown",
    "tokenslimited",
    "atcapacity",
];
/// That the server failed.
const SERVER: [&str; 6] = ["server", "internal", "unavailable", "timeout", "deadline", "upstream"];
/// That the request was wrong.
const CLIENT: [&str; 22] = [
    "invalid",
    "badrequest",
    "validation",
    "notfound",
    "authentication",
    "unauthenticated",
    "unauthorized",
    "permission",
    "forbidden",
    "accessdenied",
    "unprocessable",
    "failedprecondition",
    "outofrange",
    "toolarge",
    "toolong",
    "contextlength",
    "contentfilter",
    "contentpolicy",
    "unsupported",
    "notsupported",
    "valueerror",
    "modelrequired",
];

/// What a code, type or status says; `None`: nothing that is known.
pub(super) fn meaning(word: &[u8]) -> Option<Failure> {
    let word = std::str::from_utf8(word).ok()?.trim();
    // Some write a number as a fraction.
    if let Ok(code) = word.parse::<f64>() {
        return of_status(code);
    }
    let mut bare = String::with_capacity(word.len());
    bare.extend(word.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()));
    let has = |parts: &[&str]| parts.iter().any(|part| bare.contains(part));
    if let Some((_, failure)) = CODES.iter().find(|(code, _)| *code == bare) {
        Some(*failure)
    } else if has(&OVERLOADED) {
        Some(Failure::Overloaded)
    } else if has(&SERVER) {
        Some(Failure::Server)
    } else if has(&CLIENT) {
        Some(Failure::Client)
    } else {
        None
    }
}

/// As a status of an answer would be taken; 529 is Anthropic's for an overload.
fn of_status(code: f64) -> Option<Failure> {
    match code as u16 {
        429 | 529 => Some(Failure::Overloaded),
        400..=499 => Some(Failure::Client),
        500..=599 => Some(Failure::Server),
        _ => None,
    }
}

/// What several words say together: an overload wins, then the first that is known.
pub(super) fn together(words: impl Iterator<Item = Option<Failure>>) -> Option<Failure> {
    let mut known = words.flatten();
    let first = known.next();
    if known.any(|failure| failure == Failure::Overloaded) {
        return Some(Failure::Overloaded);
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use Failure::{Client, Overloaded, Server};

    #[test]
    fn words_of_servers_are_known() {
        for (word, failure) in [
            // OpenAI, vLLM, SGLang, LiteLLM.
            ("400", Some(Client)),
            ("400.0", Some(Client)),
            ("429", Some(Overloaded)),
            ("500", Some(Server)),
            ("503", Some(Server)),
            ("BadRequestError", Some(Client)),
            ("invalid_request_error", Some(Client)),
            ("context_length_exceeded", Some(Client)),
            ("NotFoundError", Some(Client)),
            ("rate_limit_exceeded", Some(Overloaded)),
            ("RateLimitError", Some(Overloaded)),
            ("insufficient_quota", Some(Overloaded)),
            ("server_error", Some(Server)),
            ("InternalServerError", Some(Server)),
            ("upstream_failed", Some(Server)),
            ("queue_full", Some(Overloaded)),
            // Anthropic.
            ("overloaded_error", Some(Overloaded)),
            ("api_error", None),
            ("not_found_error", Some(Client)),
            ("529", Some(Overloaded)),
            // Google, gRPC.
            ("RESOURCE_EXHAUSTED", Some(Overloaded)),
            ("INVALID_ARGUMENT", Some(Client)),
            ("UNAVAILABLE", Some(Overloaded)),
            ("service_unavailable", Some(Server)),
            ("FAILED_PRECONDITION", Some(Client)),
            ("OUT_OF_RANGE", Some(Client)),
            ("NOT_FOUND", Some(Client)),
            ("PERMISSION_DENIED", Some(Client)),
            ("UNAUTHENTICATED", Some(Client)),
            ("ALREADY_EXISTS", Some(Client)),
            ("ABORTED", Some(Client)),
            ("CANCELLED", Some(Client)),
            ("INTERNAL", Some(Server)),
            ("UNIMPLEMENTED", Some(Server)),
            ("DATA_LOSS", Some(Server)),
            ("UNKNOWN", Some(Server)),
            ("DEADLINE_EXCEEDED", Some(Server)),
            // TGI, TEI, AWS.
            ("overloaded", Some(Overloaded)),
            ("validation", Some(Client)),
            ("generation", None),
            ("ThrottlingException", Some(Overloaded)),
            ("ModelTimeoutException", Some(Server)),
            ("", None),
            ("null", None),
            ("200", None),
            ("error", None),
        ] {
            assert_eq!(meaning(word.as_bytes()), failure, "{word}");
        }
    }

    #[test]
    fn an_overload_wins_then_the_first() {
        let of = |words: &[Option<Failure>]| together(words.iter().copied());
        assert_eq!(of(&[Some(Server), None, Some(Overloaded)]), Some(Overloaded));
        assert_eq!(of(&[None, Some(Client), Some(Server)]), Some(Client));
        assert_eq!(of(&[None, None]), None);
    }
}
