//! Who is let in, and to which models: before a body is read, and once more when the model that serves is known.
use super::answer::{Refusal, refuse_unrouted};
use super::body::Body;
use super::call::read_messages;
use super::exchange::{Exchange, Stop};
use super::limits::{Pass, too_many};
use super::placed::Placed;
use super::request::{bare_host, host_of, text};
use crate::access::{CARRIERS, Tries, secret_in};
use crate::dialect::grpc::Call;
use crate::dialect::{
    BodyProblem, BodyRead, Dialect, FoundIn, Local, PathFacts, RefusalCode, Unidentified,
    models_named,
};
use crate::table::{Access, Key, Stranger, Table, Unrouted};
use http::{HeaderMap, Method, header};
use pingora_http::RequestHeader;
use std::sync::Arc;

/// What is asked by those who have no key: balancers in front.
pub(super) fn is_open(local: Option<Local>) -> bool {
    match local {
        Some(Local::Healthz | Local::V2Live | Local::V2Ready) => true,
        Some(Local::OpenAiModels | Local::OpenAiModel | Local::V2Server | Local::Metrics)
        | None => false,
    }
}

impl Exchange<'_> {
    /// Sees that the host of this request is guarded by the authority that let its connection in.
    pub(super) fn check_authority(&self) -> Result<(), Refusal> {
        let Some(tls) = self.listener.tls.as_ref().filter(|tls| tls.asks_for_certificates()) else {
            return Ok(());
        };
        let host = bare_host(host_of(self.session.req_header()));
        if tls.may_ask_for(&host, self.client.let_in.as_ref()) {
            return Ok(());
        }
        let message = "this host takes client certificates of another authority than the one that let this \
                       connection in: connect to it by its own name (SNI)";
        Err(Refusal::new(RefusalCode::MisdirectedRequest, message))
    }

    /// Lets the request in, if it brings a key that is known and has a request left. Nothing of its body was read.
    pub(super) fn admit(&mut self, table: &Table) -> Result<(), Stop> {
        let Some(access) = &table.access else { return Ok(()) };
        let (known, carried) = known_by(&self.session.req_header().headers, access);
        let key = match known {
            Some(Ok(key)) => key,
            // An operator's test has passed another guard; one that brings a key is to see what that is worth.
            None if self.record.is_test => return Ok(()),
            None | Some(Err(_)) if self.is_preflight() => return Ok(()),
            None => {
                let message = "this needs a key: send it as `authorization: Bearer KEY`, or as `x-api-key: KEY`";
                return Err(Refusal::new(RefusalCode::InvalidApiKey, message).into());
            }
            Some(Err(stranger)) => {
                return Err(Refusal::new(RefusalCode::InvalidApiKey, stranger.to_string()).into());
            }
        };
        let mut pass = Pass::of(key, carried);
        let taken = if self.record.is_test { Ok(()) } else { pass.take_request(self.proxy.now()) };
        let name = Arc::clone(&pass.key.name);
        self.record.pass = Some(Box::new(pass));
        taken.map_err(|(limit, shortage)| too_many(&name, limit, shortage).into())
    }

    /// A browser asks whether a page may send a request (the Fetch standard): it never sends a key with that.
    fn is_preflight(&mut self) -> bool {
        let head = self.session.req_header();
        head.method == Method::OPTIONS
            && head.headers.contains_key(header::ORIGIN)
            && head.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
            && self.session.is_body_empty()
    }

    pub(super) fn key(&self) -> Option<&Key> {
        self.record.pass.as_ref().map(|pass| &*pass.key)
    }

    /// Must the whole body be here before this request may be sent anywhere? Where replicas serve several models, what
    /// stands in a body can ask for another one than it was routed by.
    pub(super) fn is_searched(&self, table: &Table, path: &PathFacts) -> bool {
        self.key().is_some_and(Key::is_restricted)
            && table.access.as_ref().is_some_and(|access| access.shares_replicas())
            && reads_names(path)
    }

    /// Sees that the key may use the model that serves, however the request named it, and speaks of no other one.
    pub(super) fn check_model(
        &self,
        table: &Table,
        placed: &mut Placed<'_>,
        path: &PathFacts,
    ) -> Result<(), Refusal> {
        let (Some(key), Some(access)) = (self.key(), &table.access) else { return Ok(()) };
        if !key.may_use(&placed.model.name) {
            return Err(not_allowed(key, &placed.model.name));
        }
        if !key.is_restricted() {
            return Ok(());
        }
        let shared = access.shares_replicas();
        // Servers differ in what they make of an empty segment.
        if shared && self.session.req_header().uri.path().contains("//") {
            let message = "the path has an empty segment (`//`): send it without";
            return Err(Refusal::new(RefusalCode::BadRequest, message));
        }
        let mut names: Vec<String> = path.model.iter().map(|named| named.name.clone()).collect();
        // What routing found in a whole body was read as strictly, be it that a route of one model did not ask for it.
        let whole = matches!(placed.body, Body::Whole(..));
        let routed_by = whole && matches!(placed.facts.found_in, Some(FoundIn::Body(_)));
        if let Some(call) = self.call {
            names.extend(self.name_in_messages(call, table, placed, shared)?);
        } else if routed_by {
            names.extend(placed.facts.model.clone());
        } else if reads_names(path) {
            names.extend(self.names_in(path, &placed.body, shared)?);
        }
        match names.iter().find(|name| access.speaks_of_another(key, name)) {
            Some(name) => Err(not_allowed(key, name)),
            None => Ok(()),
        }
    }

    /// The models that a body names. `strict`: where that cannot be told, it is refused.
    fn names_in(
        &self,
        path: &PathFacts,
        body: &Body,
        strict: bool,
    ) -> Result<Vec<String>, Refusal> {
        if strict && matches!(body, Body::Stream(..)) {
            let message = "with a key that may use only some models, a body must be shorter: \
                           it is longer than `max_buffered_body`, so that it cannot be told which model it names";
            return Err(Refusal::new(RefusalCode::BodyTooLarge, message));
        }
        let headers = &self.session.req_header().headers;
        let kind = text(headers, "content-type");
        let encoding = text(headers, header::CONTENT_ENCODING.as_str());
        match models_named(path, kind, encoding, body.read_so_far()) {
            Ok(names) => Ok(names),
            Err(problem) if strict || problem == Unidentified::Body(BodyProblem::TwoModels) => {
                Err(refuse_unrouted(Unrouted::Unidentified(problem)))
            }
            Err(_) => Ok(Vec::new()),
        }
    }

    /// The model that a call names; the messages to come are held to it. `strict`: where that cannot be told, it is refused.
    fn name_in_messages(
        &self,
        call: Call,
        table: &Table,
        placed: &mut Placed<'_>,
        strict: bool,
    ) -> Result<Option<String>, Refusal> {
        let name = match read_messages(call, &placed.body, table) {
            BodyRead::Messages(Some(name), at) => {
                placed.watch(at, &name);
                Some(name)
            }
            BodyRead::Broken(problem) if strict => {
                return Err(refuse_unrouted(Unrouted::Unidentified(Unidentified::Body(problem))));
            }
            read if strict && call.name_at.is_some() => {
                let sealed = read == BodyRead::Sealed;
                return Err(self.refuse_unplaced(Unrouted::ModelRequired, sealed));
            }
            BodyRead::Absent
            | BodyRead::Json(_)
            | BodyRead::Form(_)
            | BodyRead::Messages(..)
            | BodyRead::Nameless
            | BodyRead::Sealed
            | BodyRead::Broken(_) => None,
        };
        Ok(name)
    }

    /// Why no model answers, without the names of those that the key may not use.
    pub(super) fn hidden(&self, table: &Table, why: Unrouted) -> Unrouted {
        match (why, self.key()) {
            (Unrouted::ModelNotFound { name, mut nearest }, Some(key)) => {
                nearest
                    .retain(|near| table.model(near).is_some_and(|model| key.may_use(&model.name)));
                Unrouted::ModelNotFound { name, nearest }
            }
            (why, _) => why,
        }
    }

    /// Takes the client's key out of a head on its way to a replica.
    pub(super) fn remove_key(&self, head: &mut RequestHeader) {
        let Some(pass) = &self.record.pass else { return };
        for (name, _) in CARRIERS.into_iter().zip(pass.carried).filter(|(_, carried)| *carried) {
            head.remove_header(name);
        }
    }
}

/// May a body name a model? Those of V1 and V2 do not: their model stands in the path. gRPC's messages are looked at
/// apart.
fn reads_names(path: &PathFacts) -> bool {
    match path.dialect() {
        Dialect::KServeV1 | Dialect::KServeV2 | Dialect::Grpc => false,
        Dialect::OpenAi
        | Dialect::Anthropic
        | Dialect::Google
        | Dialect::Cohere
        | Dialect::Aws
        | Dialect::Ollama
        | Dialect::Tgi
        | Dialect::TorchServe
        | Dialect::Plain => true,
    }
}

fn not_allowed(key: &Key, model: &str) -> Refusal {
    let shown: String = model.chars().take(200).collect();
    let message = format!(
        "key `{}` may not use the model `{shown}`; see /v1/models for those it may",
        key.name
    );
    Refusal::new(RefusalCode::ModelNotAllowed, message).about(Some("model"))
}

type Known<'a> = Option<Result<&'a Arc<Key>, Stranger>>;

/// The first key that a head brings, else what is wrong with the first secret that is none; and which headers carry a key:
/// they are taken out, for a second key is a secret too. Of each header the first secret counts, and of all tokens together
/// few signatures are verified.
fn known_by<'a>(headers: &HeaderMap, access: &'a Access) -> (Known<'a>, [bool; 2]) {
    let now = crate::observe::stamp().as_second();
    let mut tries = Tries::default();
    let (mut known, mut carried): (Known<'a>, _) = (None, [false; 2]);
    for (place, name) in CARRIERS.into_iter().enumerate() {
        let values = headers.get_all(name).iter();
        let mut secrets = values.filter_map(|value| secret_in(name, value.as_bytes()));
        let Some(secret) = secrets.next() else { continue };
        let whose = access.whose(secret, now, &mut tries);
        // Another secret beside it may be a key, too.
        carried[place] = whose.is_ok() || secrets.next().is_some();
        if known.is_none() || (whose.is_ok() && matches!(known, Some(Err(_)))) {
            known = Some(whose);
        }
    }
    (known, carried)
}
