//! How many tokens a request to a model will take, before it is asked: an estimate that the answer corrects.
use super::RefusalCode;
mod language;
pub(super) mod names;
#[cfg(test)]
mod tests;
mod walk;

pub use language::asks_language_model;

use super::encoding::{JsonText, json_text};
use crate::dialect::media::is_coded;

/// Bytes of text to a token, by rule of thumb; in bytes rather than letters, it holds for Chinese too.
const BYTES: u64 = 4;
/// What an image or a recording is taken for, however many bytes it has.
const MEDIUM: u64 = 1000;
/// A longer text of nothing but base64 is a medium.
const LONGEST_WORD: usize = 2048;

/// What a body says of the tokens that its answer may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// Its own, estimated.
    pub tokens: u64,
    /// What the answers may take together that it bounds.
    pub bounded: u64,
    /// How many answers it asks for without a bound.
    pub unbounded: u64,
    /// The server works on after the client has left (`background` of OpenAI's Responses).
    pub background: bool,
}

/// Why the tokens of a request cannot be counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptProblem {
    #[error(
        "`{name}` is {found}: the tokens of this key are limited, so write it as a whole number"
    )]
    NotACount { name: &'static str, found: &'static str },
    #[error("the body has two fields `{0}`: send one")]
    Twice(&'static str),
    #[error("the tokens of this key are limited, and the body cannot be read as JSON: {0}")]
    Broken(String),
    #[error("the tokens of this key are limited, and the body is compressed: send it uncompressed")]
    Sealed,
    #[error("the tokens of this key are limited, and {0}")]
    Encoding(&'static str),
    #[error(
        "the tokens of this key are limited, and the body is longer than `max_buffered_body`, so that they cannot be \
         counted: send less, or raise it"
    )]
    TooLong,
}

impl PromptProblem {
    /// The code of the refusal.
    pub fn code(&self) -> RefusalCode {
        match self {
            Self::NotACount { .. } | Self::Twice(_) => RefusalCode::BadRequest,
            Self::Broken(_) | Self::Encoding(_) => RefusalCode::InvalidJson,
            Self::Sealed => RefusalCode::ModelUnreadable,
            Self::TooLong => RefusalCode::BodyTooLarge,
        }
    }

    /// The field to blame.
    pub fn param(&self) -> Option<&'static str> {
        match self {
            Self::NotACount { name, .. } | Self::Twice(name) => Some(name),
            Self::Broken(_) | Self::Sealed | Self::Encoding(_) | Self::TooLong => None,
        }
    }
}

/// Reads the tokens of a body. `rest`: how many bytes follow those that are here; of those that cannot be counted it is a
/// guess on the high side.
pub fn prompt(
    content_type: Option<&str>,
    content_encoding: Option<&str>,
    body: &[u8],
    rest: u64,
) -> Result<Prompt, PromptProblem> {
    if is_coded(content_encoding) {
        return Err(PromptProblem::Sealed);
    }
    let one = Prompt { unbounded: 1, ..Prompt::default() };
    if body.is_empty() && rest == 0 {
        return Ok(one);
    }
    // A byte order mark changes nothing of what is counted.
    let bare = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    match json_text(content_type, bare) {
        JsonText::No => {}
        _ if rest > 0 => return Err(PromptProblem::TooLong),
        JsonText::Unusual(what) => return Err(PromptProblem::Encoding(what)),
        JsonText::Utf8(text) => return walk::walk(text),
    }
    let kind = content_type.unwrap_or_default().trim_start().to_ascii_lowercase();
    let text = ["", "text/", "application/x-www-form-urlencoded", "application/grpc"];
    let is_text =
        text.iter().any(|text| kind == *text || (!text.is_empty() && kind.starts_with(text)));
    let bytes = (body.len() as u64).saturating_add(rest);
    Ok(Prompt { tokens: if is_text { bytes.div_ceil(BYTES) } else { MEDIUM }, ..one })
}

/// Does this path ask for a text to be made? The others only read theirs.
pub fn generates(path: &str) -> bool {
    const READERS: [&str; 24] = [
        "apply-template",
        "batchEmbedContents",
        "chat_tokenize",
        "count-tokens",
        "countTokens",
        "decode",
        "embedContent",
        "embedding",
        "reranking",
        "classify",
        "count_tokens",
        "detokenize",
        "embed",
        "embed_all",
        "embed_sparse",
        "embeddings",
        "moderations",
        "pooling",
        "rank",
        "rerank",
        "score",
        "similarity",
        "tokenize",
        "token_count",
    ];
    let path = path.split('?').next().unwrap_or_default().trim_end_matches('/');
    path.rsplit(['/', ':']).next().is_none_or(|last| !READERS.contains(&last))
}
