//! A key that may use some models reaches no other: what a request names is read as strictly as its replica may read it.
//!
//! Where no replica of its model serves another one, it is enough to know which model serves. Where one does, the replica
//! chooses by what it reads itself: there everything is refused that Evener did not read as exactly one name, and that name
//! is written back.
use super::answer::{Refusal, refuse_unrouted};
use super::body::Body;
use super::call::read_messages;
use super::exchange::Exchange;
use super::placed::Placed;
use super::request::{origin_form, text};
use crate::dialect::grpc::Call;
use crate::dialect::{
    BodyProblem, BodyRead, Dialect, FoundIn, ModelAt, NAMING_HEADERS, OneName, PathFacts, Purpose,
    RefusalCode, Unidentified, models_in_query, models_named, nearest, one_name, read_path,
};
use crate::table::{Access, Key, Table, Unrouted};
use http::header;

/// A request of a key that may use some models, and what stands in it.
#[derive(Clone, Copy)]
struct Restricted<'a> {
    table: &'a Table,
    access: &'a Access,
    key: &'a Key,
    path: &'a PathFacts,
    purpose: Purpose,
    /// A route names its path: the operator wants it open.
    opened: bool,
}

impl Exchange<'_> {
    /// Must the whole body be here before this request may be sent anywhere? Where replicas serve several models, what
    /// stands in a body can ask for another one than it was routed by.
    pub(super) fn is_searched(&self, path: &PathFacts) -> bool {
        self.key().is_some_and(Key::is_crowded_anywhere) && reads_names(path)
    }

    /// Sees that the key may use the model that serves, however the request named it, and asks for no other one.
    pub(super) fn check_model(
        &self,
        table: &Table,
        placed: &mut Placed<'_>,
        path: &PathFacts,
    ) -> Result<(), Refusal> {
        let (Some(key), Some(access)) = (self.key(), &table.access) else { return Ok(()) };
        if !key.may_use(&placed.model.name) {
            return Err(not_allowed(table, key, placed.facts.model.as_deref()));
        }
        if !key.is_restricted() {
            return Ok(());
        }
        let method = &self.session.req_header().method;
        let purpose = self.strictest_purpose(path);
        let names = |route: &crate::table::RoutePlan| {
            route.names_path(purpose, self.call.is_some(), method)
        };
        let opened = placed.route.is_some_and(names);
        let asked = Restricted { table, access, key, path, purpose, opened };
        if purpose == Purpose::Management && !opened {
            return Err(
                asked.closed("this path changes the model server or shows what is its operator's")
            );
        }
        if key.is_crowded(&placed.model.name) {
            return self.check_crowded(asked, placed);
        }
        let mut names: Vec<String> = path.model.iter().map(|named| named.name.clone()).collect();
        if let Some(call) = self.call {
            names.extend(self.name_in_messages(call, table, placed, false)?);
        } else if matches!(placed.facts.found_in, Some(FoundIn::Body(_))) {
            names.extend(placed.facts.model.clone());
        } else if reads_names(path) {
            names.extend(self.names_in(path, &placed.body)?);
        }
        asked.allows(names)
    }

    /// What the path is for. Some servers do not tell paths apart by case.
    fn strictest_purpose(&self, path: &PathFacts) -> Purpose {
        let head = self.session.req_header();
        let sent = head.uri.path();
        let purpose = path.purpose(&head.method);
        let lower = || read_path(&sent.to_ascii_lowercase()).map(|path| path.purpose(&head.method));
        let shifted = sent.bytes().any(|byte| byte.is_ascii_uppercase());
        if shifted && self.call.is_none() && lower() == Ok(Purpose::Management) {
            return Purpose::Management;
        }
        purpose
    }

    /// Where replicas of this model serve others, too.
    fn check_crowded(&self, asked: Restricted<'_>, placed: &mut Placed<'_>) -> Result<(), Refusal> {
        let Restricted { table, path, .. } = asked;
        let head = self.session.req_header();
        let odd = |message: &str| Err(Refusal::new(RefusalCode::BadRequest, message));
        // Servers differ in what they make of an empty segment.
        if head.uri.path().contains("//") {
            return odd("the path has an empty segment (`//`): send it without");
        }
        for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING] {
            if head.headers.get_all(&name).iter().nth(1).is_some() {
                return odd("the request has two headers that say what its body is: send one");
            }
        }
        if let Some(name) = NAMING_HEADERS.iter().find(|name| head.headers.contains_key(**name)) {
            let message = format!(
                "the header `{name}` names a model to some servers: leave it out with this key"
            );
            return Err(Refusal::new(RefusalCode::BadRequest, message));
        }
        if placed.upgrading && !asked.opened {
            return Err(asked.closed("what is said in a WebSocket is not read"));
        }
        let mut names: Vec<String> = path.model.iter().map(|named| named.name.clone()).collect();
        names.extend(models_in_query(origin_form(head)));
        if let Some(name) = names.iter().find(|name| !is_name_of(table, placed, name)) {
            return Err(not_allowed(table, asked.key, Some(name)));
        }
        if let Some(call) = self.call {
            if call.name_at.is_none() && !asked.opened {
                return Err(asked.closed("its messages are not read"));
            }
            let name = self.name_in_messages(call, table, placed, true)?;
            placed.writes_name(None);
            return asked.allows(name);
        }
        let kind = text(&head.headers, "content-type");
        if kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("application/grpc")) {
            return odd("gRPC is a POST over HTTP/2 with the content type `application/grpc`");
        }
        let nameless = || asked.closed("it does not say which one it is for");
        let named = !names.is_empty() || asked.opened;
        if !reads_names(path) || path.row.model == ModelAt::Path {
            return if named { Ok(()) } else { Err(nameless()) };
        }
        if matches!(placed.body, Body::Stream(..)) {
            let message = "with a key that may use only some models, a body must be shorter: \
                           it is longer than `max_buffered_body`, so that it cannot be told which model it names";
            return Err(Refusal::new(RefusalCode::BodyTooLarge, message));
        }
        let body = placed.body.read_so_far();
        if body.is_empty() {
            return if named { Ok(()) } else { Err(nameless()) };
        }
        if asked.purpose == Purpose::Unknown && !asked.opened {
            return Err(asked.closed("what this path makes of a body is not known"));
        }
        let encoding = text(&head.headers, header::CONTENT_ENCODING.as_str());
        match one_name(kind, encoding, body) {
            Ok(OneName { name, spot }) => {
                asked.allows(name)?;
                placed.writes_name(Some(spot));
                Ok(())
            }
            Err(problem) => {
                let code = RefusalCode::ALL.iter().find(|code| code.name() == problem.code());
                let message = format!(
                    "with a key that may use only some models, the body must name its model in one way: {problem}"
                );
                Err(Refusal::new(code.copied().unwrap_or(RefusalCode::BadRequest), message)
                    .about(Some("model")))
            }
        }
    }

    /// The models that a body names, as far as that can be told.
    fn names_in(&self, path: &PathFacts, body: &Body) -> Result<Vec<String>, Refusal> {
        let headers = &self.session.req_header().headers;
        let kind = text(headers, "content-type");
        let encoding = text(headers, header::CONTENT_ENCODING.as_str());
        match models_named(path, kind, encoding, body.read_so_far()) {
            Ok(names) => Ok(names),
            Err(problem @ Unidentified::Body(BodyProblem::TwoModels)) => {
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

    /// Why no model answers. A key that may use some models is told the same of one that does not exist as of one that it
    /// may not use; others learn nothing of either.
    pub(super) fn refuse_unfound(&self, table: &Table, why: Unrouted, sealed: bool) -> Refusal {
        match (&why, self.key().filter(|key| key.is_restricted())) {
            (Unrouted::ModelNotFound { name, .. }, Some(key)) => {
                not_allowed(table, key, Some(name))
            }
            _ => self.refuse_unplaced(why, sealed),
        }
    }
}

impl Restricted<'_> {
    /// What a key that may use some models does not get.
    fn closed(self, why: &str) -> Refusal {
        let message = format!(
            "key `{}` may use only some models, and {why}: a route with this path opens it",
            self.key.name
        );
        Refusal::new(RefusalCode::ModelNotAllowed, message).about(Some("model"))
    }

    /// May it ask for all of these?
    fn allows(self, names: impl IntoIterator<Item = String>) -> Result<(), Refusal> {
        let another = |name: &String| self.access.speaks_of_another(self.key, name);
        match names.into_iter().find(another) {
            Some(name) => Err(not_allowed(self.table, self.key, Some(&name))),
            None => Ok(()),
        }
    }
}

/// Does this name mean the model that serves, and no other one? What `*` catches is its own, too.
fn is_name_of(table: &Table, placed: &Placed<'_>, name: &str) -> bool {
    let model = placed.model;
    let sent =
        |version: &crate::table::VersionPlan| version.upstream_model.as_deref() == Some(name);
    match table.model(name) {
        Some(named) => named.name == model.name,
        None => {
            model.plan.aliases.iter().any(|alias| alias == "*")
                || model.plan.versions.iter().any(sent)
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

/// `named`: as the client has it; `None`: it named none, and the default is not for this key.
fn not_allowed(table: &Table, key: &Key, named: Option<&str>) -> Refusal {
    let message = match named {
        None => format!(
            "key `{}` may not use the model that serves requests without a name: name one of /v1/models",
            key.name
        ),
        Some(named) => {
            let shown: String = named.chars().take(200).collect();
            let hint = match nearest(named, table.names_for(Some(key))).as_slice() {
                [] => "see /v1/models for those it may".to_owned(),
                near => format!("did you mean `{}`?", near.join("` or `")),
            };
            format!("key `{}` may not use the model `{shown}`; {hint}", key.name)
        }
    };
    Refusal::new(RefusalCode::ModelNotAllowed, message).about(Some("model"))
}
