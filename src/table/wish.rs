//! What a request brings to the choice of its version and its replica.
use super::access::Key;
use super::choices::{KeySource, Kind};
use super::model::Model;
use super::route::Asked;
use crate::balance::{Policy, spread};
use crate::dialect::{Facts, nearest, query_value};
use crate::fleet::Replica;
use crate::health::Repeatable;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The header that asks for a version.
const PIN: &str = "x-evener-version";

/// What a request brings to the choice.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Where it lies in the split: from its sticky key, or the next of the sequence.
    pub point: u64,
    /// The hash of its sticky key.
    pub key: Option<u64>,
    /// The version that it asks for.
    pub pinned: Option<usize>,
    /// Those that failed it: asked again only when nobody else is usable.
    pub tried: &'a [Arc<Replica>],
    /// It can be sent again when its replica fails: it may try out one on probation.
    pub repeatable: bool,
    /// It is gRPC.
    pub is_call: bool,
}

impl Wish<'_> {
    /// Of what is sent to a version that is given.
    pub const UNSPLIT: Self =
        Self { point: 0, key: None, pinned: None, tried: &[], repeatable: true, is_call: false };

    /// Of a request. Without a key it takes the next point of the sequence.
    pub fn new(model: &Model, key: Option<u64>, pinned: Option<usize>) -> Self {
        let point = key.unwrap_or_else(|| {
            spread::point(model.state.turn.fetch_add(1, Relaxed), model.state.offset)
        });
        Self { point, key, pinned, ..Self::UNSPLIT }
    }

    /// Does a key choose the replica of this request?
    pub(super) fn is_bound(&self, model: &Model) -> bool {
        model.plan.balance == Policy::Hash && self.key.is_some()
    }
}

/// A request asks for a version that its model does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("model `{model}` has no version `{wanted}`; there is `{}`", there.join("`, `"))]
pub struct NoVersion {
    pub model: String,
    pub wanted: String,
    /// Names that are near, else all.
    pub there: Vec<String>,
}

impl NoVersion {
    /// The header that named it.
    pub const PARAMETER: &str = PIN;
}

impl Model {
    /// The version that a request asks for by its header, if it may. `trusted`: it comes from a proxy whose word counts.
    pub fn pinned(&self, asked: &impl Asked, trusted: bool) -> Result<Option<usize>, NoVersion> {
        let Some(wanted) = asked.header(PIN) else { return Ok(None) };
        if !(self.plan.allow_pin || trusted) {
            return Ok(None);
        }
        let names = || self.versions.iter().map(|version| &*version.name);
        let found = names().position(|name| name == wanted);
        found.map(Some).ok_or_else(|| {
            let near = nearest(wanted, names());
            let mut there: Vec<String> = near.into_iter().map(str::to_owned).collect();
            if there.is_empty() {
                there = names().map(str::to_owned).collect();
            }
            NoVersion { model: self.name.to_string(), wanted: wanted.to_owned(), there }
        })
    }

    /// The first sticky key that a request has, and its point. An empty one is none: else all that send one would be one
    /// client. `key` is the API key that it came with, `client` the address that it comes from.
    pub fn sticky_key(
        &self,
        asked: &impl Asked,
        facts: &Facts,
        key: Option<&Key>,
        client: Option<IpAddr>,
    ) -> Option<(&KeySource, u64)> {
        self.plan.hash_on.iter().find_map(|source| {
            let point = |key: &[u8]| {
                (!key.trim_ascii().is_empty()).then(|| (source, self.plan.point_of(key)))
            };
            match source {
                KeySource::Header(name) => point(asked.header_bytes(name)?),
                KeySource::Cookie(name) => point(asked.cookie(name)?.as_bytes()),
                KeySource::Query(name) => point(query_value(asked.target(), name)?.as_bytes()),
                KeySource::Json(field) => point(facts.field(field)?.as_bytes()),
                KeySource::ApiKey => point(key?.name.as_bytes()),
                KeySource::ClientIp => point(client?.to_string().as_bytes()),
            }
        })
    }

    /// May this request be worked on twice (RFC 9110 §9.2.2)? Asking a model for an answer has no other effect. `repeats`:
    /// what the path says of a POST.
    pub fn repeatable(&self, asked: &impl Asked, repeats: bool) -> Repeatable {
        let declared = asked.header("idempotency-key").is_some();
        repeatable(asked.method(), declared, self.plan.kind, repeats)
    }

    /// Does the request do nothing but ask the model for an answer?
    pub fn is_asked(&self, asked: &impl Asked, repeats: bool) -> bool {
        asks_a_model(asked.method(), self.plan.kind, repeats)
    }
}

fn repeatable(method: &str, declared: bool, kind: Kind, repeats: bool) -> Repeatable {
    let by_method = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"].contains(&method);
    if by_method || declared || asks_a_model(method, kind, repeats) {
        Repeatable::Always
    } else {
        Repeatable::Unseen
    }
}

fn asks_a_model(method: &str, kind: Kind, repeats: bool) -> bool {
    let asks = match kind {
        Kind::Llm | Kind::Predict => true,
        Kind::Raw => false,
        Kind::Auto => repeats,
    };
    asks && method == "POST"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::read_path;

    #[test]
    fn posts_are_repeatable_when_they_ask_a_model_or_say_so() {
        use Repeatable::{Always, Unseen};
        let (chat, infer) = ("/v1/chat/completions", "/v2/models/m/infer");
        for (method, declared, kind, path, expected) in [
            ("GET", false, Kind::Raw, "/orders", Always),
            ("DELETE", false, Kind::Raw, "/orders", Always),
            ("POST", false, Kind::Auto, chat, Always),
            ("POST", false, Kind::Auto, infer, Always),
            ("POST", false, Kind::Auto, "/invocations", Always),
            ("POST", false, Kind::Auto, "/predictions/m", Always),
            ("POST", false, Kind::Auto, "/orders", Unseen),
            ("POST", false, Kind::Auto, "/v1/batches", Unseen),
            ("POST", false, Kind::Auto, "/v2/repository/models/m/load", Unseen),
            ("POST", false, Kind::Raw, chat, Unseen),
            ("POST", false, Kind::Predict, "/orders", Always),
            ("POST", true, Kind::Raw, "/orders", Always),
            ("PATCH", false, Kind::Llm, chat, Unseen),
        ] {
            let facts = read_path(path).unwrap();
            let found = repeatable(method, declared, kind, facts.repeats());
            assert_eq!(found, expected, "{method} {path}");
        }
    }
}
