//! A key that may use some models reaches no other: what a request names is read as strictly as its replica may read it.
//!
//! Where no replica of its model serves another one, it is enough to know which model serves. Where one does, the replica
//! chooses by what it reads itself: there everything is refused that Evener did not read as exactly one name, and that name
//! is written back.
use super::body::Body;
use super::call::read_messages;
use super::exchange::Exchange;
use super::placed::Placed;
use super::request::{origin_form, text};
use crate::dialect::grpc::{Call, Messages};
use crate::dialect::{
    BodyProblem, BodyRead, FoundIn, ModelAt, PathFacts, Purpose, RefusalCode, Unidentified,
    models_named, nearest,
};
use crate::flow::Refusal;
use crate::table::{Access, AskedPath, Key, RoutePlan, RouteTarget, Table, Unrouted};
use http::header;

/// A request of a key that may use some models, and what stands in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restricted<'a> {
    pub(super) table: &'a Table,
    pub(super) access: &'a Access,
    pub(super) key: &'a Key,
    pub(super) path: &'a AskedPath,
    pub(super) purpose: Purpose,
    /// A route names its path: the operator wants it open.
    pub(super) opened: bool,
}

impl Exchange<'_> {
    /// Must the whole body be here before this request may be sent anywhere? Where replicas serve several models, what
    /// stands in a body can ask for another one than it was routed by.
    pub(super) fn is_searched(&self) -> bool {
        self.key().is_some_and(Key::is_crowded_anywhere) && self.call.is_none()
    }

    /// Sees that the key may use the model that serves, however the request named it, and asks for no other one.
    pub(super) fn check_model(
        &self,
        table: &Table,
        placed: &mut Placed<'_>,
        path: &AskedPath,
    ) -> Result<(), Refusal> {
        let (Some(key), Some(access)) = (self.key(), &table.access) else { return Ok(()) };
        if !key.may_use(&placed.model.name) {
            return Err(not_allowed(table, key, placed.facts.model.as_deref()));
        }
        if !key.is_restricted() {
            return Ok(());
        }
        let head = self.session.req_header();
        let target = origin_form(head);
        if let Some(odd) = path.odd(target) {
            let message = format!(
                "{odd}, which servers read in different ways: with a key that may use only some models, send it without"
            );
            return Err(Refusal::new(RefusalCode::BadRequest, message));
        }
        let purpose = path.strictest_purpose(target, &head.method);
        let opens = |route: &RoutePlan| {
            route.names_path(purpose, self.call.is_some(), &head.method)
                || route.names_model_in_path() && purpose != Purpose::Management
        };
        let opened = placed.route.is_some_and(opens);
        let asked = Restricted { table, access, key, path, purpose, opened };
        if purpose == Purpose::Management && !opened {
            return Err(
                asked.closed("this path changes the model server or shows what is its operator's")
            );
        }
        asked.allows(path.name_by_file())?;
        let is_fixed = is_fixed(placed.route);
        if is_fixed {
            self.check_named_for_fixed(asked, placed)?;
        }
        if key.is_crowded(&placed.model.name) {
            return self.check_crowded(asked, placed);
        }
        asked.allows(path.names())?;
        if let Some(call) = self.call {
            let named = self.name_in_messages(call, table, placed, false)?;
            let stranger = |name: &&String| is_fixed && !table.is_theirs(key, name);
            return match named.as_ref().filter(stranger) {
                Some(name) => Err(not_allowed(table, key, Some(name))),
                None => asked.allows(named),
            };
        }
        let names = match &placed.facts.found_in {
            Some(FoundIn::Body(_)) => placed.facts.model.clone().into_iter().collect(),
            _ if path.reads_names() => self.names_in(&path.facts, &placed.body)?,
            _ => Vec::new(),
        };
        // A name beside that of the path or route is told the same whether it exists or not.
        let beside = is_fixed || matches!(placed.facts.found_in, Some(FoundIn::Path(_)));
        let stranger = |name: &&String| !table.is_theirs(key, name);
        match names.iter().find(stranger).filter(|_| beside) {
            Some(name) => Err(not_allowed(table, key, Some(name))),
            None => asked.allows(names),
        }
    }

    /// Where the route says which model serves, a name that the client writes is one of the key's all the same: else an answer
    /// would tell which others exist. What the route itself has of the path is its file's.
    fn check_named_for_fixed(
        &self,
        asked: Restricted<'_>,
        placed: &Placed<'_>,
    ) -> Result<(), Refusal> {
        let by_file = match (&placed.facts.found_in, placed.route) {
            (Some(FoundIn::Path(range)), Some(route)) if !asked.path.names_where_rewritten() => {
                let target = origin_form(self.session.req_header());
                let before = target.get(..range.start).unwrap_or_default();
                route.names_segment(before.matches('/').count().saturating_sub(1))
            }
            _ => false,
        };
        let named = placed.facts.model.as_ref().filter(|_| !by_file);
        match named.filter(|name| !asked.table.is_theirs(asked.key, name)) {
            Some(name) => Err(not_allowed(asked.table, asked.key, Some(name))),
            None => Ok(()),
        }
    }

    /// A key that may use some models is told the same of every name in a body that is none of its models, where routing
    /// takes only names that exist.
    pub(super) fn check_named_beside(
        &self,
        table: &Table,
        route: Option<&RoutePlan>,
        path: &PathFacts,
        read: &BodyRead,
    ) -> Result<(), Refusal> {
        let Some(key) = self.key().filter(|key| key.is_restricted()) else { return Ok(()) };
        let if_known = matches!(path.row.model, ModelAt::KnownBody | ModelAt::Query(_));
        if !if_known || path.call.is_some() || is_fixed(route) {
            return Ok(());
        }
        let named = match read {
            BodyRead::Json(facts) => facts.model.as_ref(),
            BodyRead::Form(named) => named.as_ref(),
            BodyRead::Absent
            | BodyRead::Messages(..)
            | BodyRead::Nameless
            | BodyRead::Sealed
            | BodyRead::Broken(_) => None,
        };
        match named.filter(|named| !table.is_theirs(key, &named.name)) {
            Some(named) => Err(not_allowed(table, key, Some(&named.name))),
            None => Ok(()),
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
                Err(Refusal::from(Unrouted::Unidentified(problem)))
            }
            Err(_) => Ok(Vec::new()),
        }
    }

    /// The model that a call names; the messages to come are held to it. `strict`: where that cannot be told, it is refused.
    pub(super) fn name_in_messages(
        &self,
        call: Call,
        table: &Table,
        placed: &mut Placed<'_>,
        strict: bool,
    ) -> Result<Option<String>, Refusal> {
        let name = match read_messages(call, &placed.body, table) {
            BodyRead::Messages(Some(name), at) => {
                if strict && call.streams {
                    let limit = table.max_buffered_body;
                    let mut messages = Messages::new(at, &name, None, limit).strict(true);
                    let passed = messages.take(placed.body.read_so_far());
                    let problem = |problem| Unidentified::Body(BodyProblem::Message(problem));
                    passed.map_err(|why| Refusal::from(Unrouted::Unidentified(problem(why))))?;
                }
                placed.watch(at, &name);
                Some(name)
            }
            BodyRead::Broken(problem) if strict => {
                return Err(Refusal::from(Unrouted::Unidentified(Unidentified::Body(problem))));
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
    pub(super) fn closed(self, why: &str) -> Refusal {
        let message = format!(
            "key `{}` may use only some models, and {why}: a route with this path opens it",
            self.key.name
        );
        Refusal::new(RefusalCode::ModelNotAllowed, message).about(Some("model"))
    }

    /// May it ask for all of these?
    pub(super) fn allows(self, names: impl IntoIterator<Item = String>) -> Result<(), Refusal> {
        let another = |name: &String| self.access.speaks_of_another(self.key, name);
        match names.into_iter().find(another) {
            Some(name) => Err(not_allowed(self.table, self.key, Some(&name))),
            None => Ok(()),
        }
    }
}

/// Does the route say which model serves, whatever the request names?
fn is_fixed(route: Option<&RoutePlan>) -> bool {
    route.is_some_and(|route| matches!(route.target, RouteTarget::Model(_)))
}

/// `named`: as the client has it; `None`: it named none, and the default is not for this key.
pub(super) fn not_allowed(table: &Table, key: &Key, named: Option<&str>) -> Refusal {
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
