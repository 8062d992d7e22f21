//! `answers: client`: answers say the name that the client used for its model, not the one that the replica has.
use super::answer_name::AnswerName;
use super::exchange::Exchange;
use super::meaning::Framed;
use super::placed::Placed;
use crate::dialect::{NameIn, NameWriter, header_names_model};
use crate::table::Answers;
use http::{HeaderName, HeaderValue, StatusCode, header};
use pingora_http::ResponseHeader;

/// What describes the bytes of an answer that are about to change.
const OF_BYTES: [&str; 6] =
    ["etag", "content-md5", "digest", "content-digest", "repr-digest", "accept-ranges"];
/// A body with this header is JSON and tensors, one behind the other, and tells how long the JSON is.
const TENSORS: &str = "inference-header-content-length";

impl Exchange<'_> {
    /// What answers to this request are to say, where that is not left to the replica.
    pub(super) fn answer_name(&self, placed: &Placed<'_>) -> Option<AnswerName> {
        let plan = &placed.model.plan;
        if plan.answers == Answers::Upstream {
            return None;
        }
        let facts = &placed.facts;
        let chats = self.row.or_llm && self.asks_language_model(&placed.body);
        let place = NameIn::of(self.row, self.call, facts.found_in.as_ref(), chats)?;
        let own = plan.name.clone();
        let name = facts.model.clone().unwrap_or_else(|| own.clone());
        let versions = plan.versions.iter();
        let upstream = versions.filter_map(|version| version.upstream_model.clone()).collect();
        Some(AnswerName { place, name, own, upstream })
    }

    /// What writes the name into the answer with this head. Its length and what else describes its bytes are removed.
    pub(super) fn name_writer(
        &self,
        head: &mut ResponseHeader,
        framed: &mut Framed,
    ) -> Option<Box<NameWriter>> {
        let AnswerName { place, name, own, upstream } = self.names.as_deref()?;
        name_in_headers(head, name, upstream);
        let coded = head.headers.get(header::CONTENT_ENCODING);
        let plain = coded.is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
        let whole = head.status != StatusCode::PARTIAL_CONTENT && !framed.bare;
        if !plain || !whole || head.headers.contains_key(TENSORS) {
            return None;
        }
        let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let writer = NameWriter::new(*place, kind, name, own)?;
        framed.length = None;
        for name in OF_BYTES {
            head.remove_header(name);
        }
        Some(Box::new(writer))
    }
}

/// Writes the name into headers that say the model (`openai-model`).
fn name_in_headers(head: &mut ResponseHeader, name: &str, upstream: &[String]) {
    let told = |value: &HeaderValue| upstream.iter().any(|known| value == known.as_str());
    let says = |(header, value): (&HeaderName, &HeaderValue)| {
        (told(value) && header_names_model(header.as_str())).then(|| header.clone())
    };
    let headers: Vec<HeaderName> = head.headers.iter().filter_map(says).collect();
    for header in headers {
        // A name that no header can hold is left out.
        head.remove_header(&header);
        if let Ok(value) = HeaderValue::from_str(name) {
            // It cannot fail: the header had a value before.
            head.insert_header(header, value).ok();
        }
    }
}
