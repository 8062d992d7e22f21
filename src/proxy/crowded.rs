//! Where replicas of a model serve others, too: a key that may use only some gets them asked in one spelling, or not at all.
use super::allowed::{Restricted, not_allowed};
use super::body::Body;
use super::exchange::Exchange;
use super::placed::Placed;
use super::request::{origin_form, text};
use crate::dialect::{
    Dialect, FieldProblem, FormProblem, NameProblem, OneName, OtherName, Purpose, RefusalCode,
    essence, header_names_model, models_in_query, names_beside_path, one_name,
};
use crate::flow::Refusal;
use crate::table::{NameSource, RouteTarget, Table, VersionPlan};
use http::header;

/// How much of a body is JSON, where binary tensors follow it (Triton's extension of V2).
const TENSORS: &str = "inference-header-content-length";

impl Exchange<'_> {
    /// Sees that a replica can read no other model in this request than one of the key's.
    pub(super) fn check_crowded(
        &self,
        asked: Restricted<'_>,
        placed: &mut Placed<'_>,
    ) -> Result<(), Refusal> {
        let Restricted { table, path, .. } = asked;
        let head = self.session.req_header();
        for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING] {
            if head.headers.get_all(&name).iter().nth(1).is_some() {
                return Err(odd("the request has two headers that say what its body is: send one"));
            }
        }
        let names_in_query = self.check_head(asked, placed)?;
        if placed.upgrading && !asked.opened {
            return Err(asked.closed("what is said in a WebSocket is not read"));
        }
        if let Some(name) = path.names().iter().find(|name| !is_name_of(asked, placed, name)) {
            return Err(not_allowed(table, asked.key, Some(name)));
        }
        if let Some(name) = &placed.facts.model {
            asked.allows_unheard(name)?;
        }
        if let Some(call) = self.call {
            if call.name_at.is_none() && !asked.opened {
                return Err(asked.closed("its messages are not read"));
            }
            let name = self.name_in_messages(call, table, placed, true)?;
            placed.writes_name(None, Vec::new());
            return asked.allows(name);
        }
        let kind = text(&head.headers, "content-type");
        if kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("application/grpc")) {
            return Err(odd("gRPC is a POST over HTTP/2 with the content type `application/grpc`"));
        }
        if asked.purpose == Purpose::Unknown && !asked.opened {
            return Err(asked.closed("what this path makes of a request is not known"));
        }
        let in_path = path.names_in_path();
        let named = in_path || names_in_query || asked.opened || path.name_by_file().is_some();
        let body = placed.body.read_so_far();
        let is_whole = matches!(placed.body, Body::Whole(..));
        let encoding = text(&head.headers, header::CONTENT_ENCODING.as_str());
        if !path.reads_names() || body.is_empty() && is_whole {
            if !named {
                return Err(asked.closed("it does not say which one it is for"));
            }
            if body.is_empty() {
                return Ok(());
            }
            let json = text(&head.headers, TENSORS).and_then(|length| length.parse().ok());
            let read = names_beside_path(kind, encoding, json, body);
            if read.is_err() && !is_whole {
                return Err(too_long());
            }
            return check_others(asked, placed, &read.map_err(|problem| unclear(&problem))?);
        }
        self.check_named_body(asked, placed)
    }

    /// Sees that a body that may name a model names one of the key's, in one way.
    fn check_named_body(
        &self,
        asked: Restricted<'_>,
        placed: &mut Placed<'_>,
    ) -> Result<(), Refusal> {
        let Restricted { table, path, .. } = asked;
        let (kind, encoding) = self.body_kind();
        let in_path = path.names_in_path();
        let read = one_name(path.read_by().dialect, kind, encoding, placed.body.read_so_far());
        // Images, tensors and lists behind a path that names the model have no place for another.
        let silent = match &read {
            Err(NameProblem::Unreadable) => !is_urlencoded(kind),
            Err(NameProblem::Form(FormProblem::Nameless)) => true,
            Ok(_) | Err(_) => false,
        };
        if in_path && silent {
            return Ok(());
        }
        if !matches!(placed.body, Body::Whole(..)) {
            return Err(too_long());
        }
        let OneName { name, spot, others } = read.map_err(|problem| unclear(&problem))?;
        check_others(asked, placed, &others)?;
        let is_resource = |name: &str| {
            let bare = name.strip_prefix("models/");
            path.read_by().dialect == Dialect::Google
                && bare.is_some_and(|bare| is_name_of(asked, placed, bare))
        };
        let spot = match &name {
            // The path has said it.
            None if in_path => None,
            // Google's clients write the resource's name beside it.
            Some(name) if in_path && is_resource(name) => None,
            Some(name) if in_path && !is_name_of(asked, placed, name) => {
                return Err(not_allowed(table, asked.key, Some(name)));
            }
            Some(name) => {
                asked.allows_unheard(name)?;
                asked.allows([name.clone()])?;
                Some(spot)
            }
            None => Some(spot),
        };
        if spot.is_some() || !others.is_empty() {
            placed.writes_name(spot, others);
        }
        Ok(())
    }

    /// Sees that no header and no parameter of the query names another model. Does the query name this one?
    fn check_head(&self, asked: Restricted<'_>, placed: &Placed<'_>) -> Result<bool, Refusal> {
        let head = self.session.req_header();
        let sources = || sources(asked.table);
        let by_route = |name: &str| {
            sources().any(|source| matches!(source, NameSource::Header(known) if known == name))
        };
        for name in head.headers.keys().map(header::HeaderName::as_str) {
            if by_route(name) {
                let mut values = head.headers.get_all(name).iter();
                let value = values.next().and_then(|value| value.to_str().ok());
                let (Some(value), None) = (value.map(str::trim), values.next()) else {
                    let message =
                        format!("the header `{name}` names a model: send it once, as plain text");
                    return Err(odd(message));
                };
                if !value.is_empty() && !is_name_of(asked, placed, value) {
                    return Err(not_allowed(asked.table, asked.key, Some(value)));
                }
            } else if header_names_model(name) {
                let message = format!(
                    "the header `{name}` names a model to some servers: leave it out with this key"
                );
                return Err(odd(message));
            }
        }
        let parameters: Vec<&str> = sources()
            .filter_map(|source| match source {
                NameSource::Query(name) => Some(name.as_str()),
                NameSource::Body | NameSource::Path | NameSource::Header(_) => None,
            })
            .collect();
        let named = models_in_query(origin_form(head), &parameters);
        for (at, (parameter, value)) in named.iter().enumerate() {
            if named[..at].iter().any(|(other, _)| other == parameter) {
                let message = format!("the query has two parameters `{parameter}`: send one");
                return Err(odd(message));
            }
            if !is_name_of(asked, placed, value) {
                return Err(not_allowed(asked.table, asked.key, Some(value)));
            }
        }
        Ok(!named.is_empty())
    }
}

impl Restricted<'_> {
    /// A name that no model has, and that `*` may have caught: could a replica read that of another model in it?
    fn allows_unheard(self, name: &str) -> Result<(), Refusal> {
        let heard = self.table.model(name).is_some();
        if heard || !self.access.resembles_another(self.key, name) {
            return Ok(());
        }
        Err(not_allowed(self.table, self.key, Some(name)))
    }
}

/// Sees that what stands beside the name of the model names no other one.
fn check_others(
    asked: Restricted<'_>,
    placed: &Placed<'_>,
    others: &[OtherName],
) -> Result<(), Refusal> {
    match others.iter().find(|other| !is_name_of(asked, placed, other.bare())) {
        Some(OtherName { field, .. }) => Err(unclear(&FieldProblem::Beside(field.clone()).into())),
        None => Ok(()),
    }
}

/// A body that names its model in more than one way.
fn unclear(problem: &NameProblem) -> Refusal {
    let message = format!(
        "with a key that may use only some models, the body must name its model in one way: {problem}"
    );
    Refusal::new(problem.code(), message).about(Some("model"))
}

fn too_long() -> Refusal {
    let message = "with a key that may use only some models, a body must be shorter: \
                   it is longer than `max_buffered_body`, so that it cannot be told which model it names";
    Refusal::new(RefusalCode::BodyTooLarge, message)
}

fn odd(message: impl Into<String>) -> Refusal {
    Refusal::new(RefusalCode::BadRequest, message)
}

/// Where routes look for names.
fn sources(table: &Table) -> impl Iterator<Item = &NameSource> {
    table.plan.routes.iter().flat_map(|route| match &route.target {
        RouteTarget::Find(sources) => sources.as_slice(),
        RouteTarget::Model(_) | RouteTarget::Captured(_) => &[],
    })
}

fn is_urlencoded(content_type: Option<&str>) -> bool {
    let essence = essence(content_type.unwrap_or_default());
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Does this name mean the model that serves, and no other one? What `*` catches is its own, too.
fn is_name_of(asked: Restricted<'_>, placed: &Placed<'_>, name: &str) -> bool {
    let model = placed.model;
    let sent = |version: &VersionPlan| version.upstream_model.as_deref() == Some(name);
    if let Some(named) = asked.table.model(name) {
        return named.name == model.name;
    }
    let caught = model.plan.aliases.iter().any(|alias| alias == "*")
        && !asked.access.resembles_another(asked.key, name);
    caught || model.plan.versions.iter().any(sent)
}
