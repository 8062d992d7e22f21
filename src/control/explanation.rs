//! A request that is asked about, and the answer.
use crate::dialect::grpc::{Call, is_grpc, read_call};
use crate::dialect::{BodyRead, Facts, FoundIn};
use crate::table::{Candidate, RouteUsed, Share};
use pingora_http::RequestHeader;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A request that nobody sends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    #[serde(default = "post")]
    pub method: String,
    pub path: String,
    /// Stands for a body that names it.
    pub model: Option<String>,
    /// By lower-case name.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    pub body: Option<String>,
    /// The name of the key that it comes with, in the place of the key itself.
    pub key: Option<String>,
    /// For `hash_on: [client_ip]`.
    pub client_ip: Option<IpAddr>,
}

pub(super) fn post() -> String {
    "POST".to_owned()
}

/// Where it goes, step by step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub generation: u64,
    /// The entry of `routes` that takes it; `None`: there are none.
    pub route: Option<RouteUsed>,
    pub model: String,
    /// As the request names it, and where; `None`: it names none.
    pub named: Option<Named>,
    /// The name of the key that it comes with; `None`: it brings none, and where one is needed it is refused.
    pub api_key: Option<String>,
    /// Its sticky key, and where that lies in the split; `None`: it has none.
    pub key: Option<Key>,
    /// The parts of all keys or requests that versions have, in percent.
    pub shares: Vec<Share>,
    /// `None`: drawn anew for each request.
    pub version: Option<String>,
    /// Why this one, or why none.
    pub reason: String,
    pub balance: String,
    /// Of that version, or of all where it is drawn.
    pub replicas: Vec<Candidate>,
    /// The replica that would be asked now; `None`: none, or it depends on the request.
    pub picked: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub name: String,
    /// `path`, `body`, `form`, `message`, `header:NAME`, or `query:NAME`.
    pub found_in: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Key {
    /// The entry of `hash_on`.
    pub source: String,
    /// The point × 2⁶⁴, in hexadecimal.
    pub hash: String,
    /// The point, from 0 to 1.
    pub point: f64,
    /// The part of all points that holds it and has one owner.
    pub segment: [f64; 2],
}

impl Question {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// As its head would come. `Err`: it could not.
    pub(super) fn head(&self) -> Result<RequestHeader, String> {
        let mut head = RequestHeader::build(&*self.method, self.path.as_bytes(), None)
            .map_err(|_| format!("`{} {}` is no request", self.method, self.path))?;
        for (name, value) in &self.headers {
            let added = head.append_header(name.clone(), value);
            added.map_err(|_| format!("`{name}: {value}` is no header"))?;
        }
        Ok(head)
    }

    /// A call of gRPC, by its content type, or else by its path.
    pub(super) fn call(&self) -> Option<Call> {
        let call = read_call(self.path.split('?').next().unwrap_or_default());
        let is_call = match self.header("content-type") {
            Some(kind) => is_grpc(kind.as_bytes()),
            None => call.name_at.is_some() || call.reflects,
        };
        is_call.then_some(call)
    }

    /// What routing sees of the body: that which is given, or one that names the model.
    pub(super) fn read(&self, wanted: &[String]) -> BodyRead {
        if let Some(at) = self.call().and_then(|call| call.name_at) {
            return BodyRead::Messages(self.model.clone(), at);
        }
        let kind = self.header("content-type").unwrap_or("application/json");
        let named = self.model.as_ref().map(|name| serde_json::json!({"model": name}).to_string());
        match self.body.as_ref().or(named.as_ref()) {
            Some(text) => BodyRead::whole(
                Some(kind),
                self.header("content-encoding"),
                text.as_bytes(),
                wanted,
            ),
            None => BodyRead::Absent,
        }
    }
}

impl Named {
    pub(super) fn of(facts: &Facts) -> Option<Self> {
        let name = facts.model.clone()?;
        let found_in = match facts.found_in.as_ref()? {
            FoundIn::Path(_) => "path".to_owned(),
            FoundIn::Body(_) => "body".to_owned(),
            FoundIn::Form(_) => "form".to_owned(),
            FoundIn::Messages(_) => "message".to_owned(),
            FoundIn::Header(name) => format!("header:{name}"),
            FoundIn::Query { parameter, .. } => format!("query:{parameter}"),
        };
        Some(Self { name, found_in })
    }
}
