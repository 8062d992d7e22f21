//! Reads a path as the most lenient server does: a key that may use only some models must not reach a lever by a spelling
//! that Evener takes for another path.
//!
//! Starlette's routes take `/sleep%0A` for `/sleep` (`$` in Python's `re` matches before a last line feed), Go's `ServeMux`
//! and nginx join slashes, Tomcat and Jetty cut `;…` off a segment, ASP.NET takes `\` for `/` and knows no case.
use super::escape::{Slash, decode};
use super::path::without_query;
use super::rows::{Purpose, find};
use http::Method;

/// What levers are called: a whole segment, without punctuation…
const SEGMENTS: [&str; 10] = [
    "control",
    "controlplane",
    "debug",
    "expert",
    "experts",
    "load",
    "loads",
    "server",
    "settings",
    "system",
];
/// … a part of one, however words are joined…
const PARTS: [&str; 12] = [
    "adapter",
    "flush",
    "loadmodel",
    "memorydump",
    "reconfigure",
    "reload",
    "restart",
    "shutdown",
    "terminate",
    "uninstall",
    "unload",
    "updateweights",
];
/// … or a word of one.
const WORDS: [&str; 32] = [
    "abort",
    "admin",
    "cache",
    "clear",
    "config",
    "deregister",
    "destroy",
    "drain",
    "dump",
    "evict",
    "exit",
    "expert",
    "freeze",
    "internal",
    "kill",
    "lora",
    "loras",
    "management",
    "metrics",
    "pause",
    "profile",
    "profiler",
    "purge",
    "quit",
    "register",
    "reset",
    "resume",
    "rpc",
    "sleep",
    "wake",
    "weights",
    "workers",
];

/// What servers read in different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OddPath {
    #[error("the path has a control character")]
    Control,
    #[error("the path has an empty segment (`//`)")]
    EmptySegment,
    #[error("the path has a `;` or a `\\`")]
    Mark,
}

/// What is odd about a raw path (a query after it is ignored).
pub fn odd_path(raw_path: &str) -> Option<OddPath> {
    let (text, _) = decode(without_query(raw_path), Slash::Decoded);
    if text.chars().any(char::is_control) {
        Some(OddPath::Control)
    } else if text.contains("//") {
        Some(OddPath::EmptySegment)
    } else if text.contains([';', '\\']) {
        Some(OddPath::Mark)
    } else {
        None
    }
}

/// What a path is for where a server tells paths apart neither by case nor by blanks.
pub fn lenient_purpose(raw_path: &str, method: &Method) -> Purpose {
    let (text, _) = decode(without_query(raw_path), Slash::Kept);
    let segments: Vec<String> =
        text.trim_matches('/').split('/').map(|part| part.trim().to_lowercase()).collect();
    match find(&segments.join("/")) {
        Some(found) => found.row.duty.purpose(method),
        None if segments.iter().any(|segment| is_lever(segment)) => Purpose::Management,
        None => Purpose::Unknown,
    }
}

/// Does a segment of a path that is not known read as a lever: `/unload`, `/v1/lora_adapters`, `/rpc`?
fn is_lever(segment: &str) -> bool {
    let mut words = segment.split(|letter: char| !letter.is_ascii_alphanumeric());
    let flat: String = segment.chars().filter(char::is_ascii_alphanumeric).collect();
    SEGMENTS.contains(&&*flat)
        || PARTS.iter().any(|part| flat.contains(part))
        || words.any(|word| WORDS.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_read_in_two_ways_is_odd() {
        for (path, odd) in [
            ("/sleep%0A", OddPath::Control),
            ("/v1/load_lora_adapter%0d", OddPath::Control),
            ("/sleep%C2%85", OddPath::Control),
            ("//sleep", OddPath::EmptySegment),
            ("/v1//load_lora_adapter?x", OddPath::EmptySegment),
            ("/sleep//", OddPath::EmptySegment),
            ("/v1/%2Fsleep", OddPath::EmptySegment),
            ("/sleep;x", OddPath::Mark),
            ("/sleep%3Bx", OddPath::Mark),
            ("/v1%5Cload_lora_adapter", OddPath::Mark),
        ] {
            assert_eq!(odd_path(path), Some(odd), "{path}");
        }
        for path in ["/", "/v1/chat/completions/", "/v1/models/meta%2Fllama", "/x?a=;&b=//", "*"] {
            assert_eq!(odd_path(path), None, "{path}");
        }
    }

    #[test]
    fn a_lever_is_known_in_every_spelling() {
        for path in
            ["/sleep", "/SLEEP/", "/%53leep", "/sleep%20", "/%20sleep", "/v1/Load_LoRA_adapter%20"]
        {
            assert_eq!(lenient_purpose(path, &Method::POST), Purpose::Management, "{path}");
        }
        // Those of servers that the table does not have, too.
        for path in [
            "/unload",
            "/quit",
            "/rpc",
            "/v1/lora_adapters",
            "/v1/loads",
            "/flush_l2",
            "/engine/pause",
            "/dump_memory",
            "/v1/cache/reset",
            "/dynamic_lora",
            "/UnloadModel",
            "/control_plane/x",
        ] {
            assert_eq!(lenient_purpose(path, &Method::POST), Purpose::Management, "{path}");
        }
        for path in [
            "/sleeping",
            "/v1/chat/completions",
            "/V2/models/m/infer",
            "/any",
            "/run",
            "/score-me",
            "/quality-control/predict",
            "/load-forecast",
            "/upload",
            "/exploration",
        ] {
            assert_ne!(lenient_purpose(path, &Method::POST), Purpose::Management, "{path}");
        }
    }
}
