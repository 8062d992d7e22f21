//! Which model a request asks for: how much of its body is read for that, and what it says.
use super::body::{Body, Need};
use super::call::{needed_of, read_messages};
use super::exchange::Exchange;
use super::placed::Placed;
use super::request::{Ask, origin_form, text};
use super::upload::Passing;
use crate::dialect::{
    BodyRead, Dialect, Duty, ModelAt, PathFacts, Purpose, RefusalCode, generates, is_json,
};
use crate::flow::{Happened, Refusal, Stop};
use crate::table::{AskedPath, Kind, Model, RoutePlan, Routed, Table, Unrouted};
use http::{Method, header};
use std::sync::Arc;

impl Exchange<'_> {
    /// Is it gRPC?
    pub(super) fn is_call(&self) -> bool {
        self.call.is_some()
    }

    /// Why no model answers. `sealed`: what might have named one is compressed.
    pub(super) fn refuse_unplaced(&self, why: Unrouted, sealed: bool) -> Refusal {
        if why != Unrouted::ModelRequired {
            return Refusal::from(why);
        }
        if !self.is_call() {
            let reads = [Method::GET, Method::HEAD].contains(&self.session.req_header().method);
            let page = matches!(self.row.duty, Duty::Page | Duty::Management);
            let message = no_model(reads || page, self.row.model);
            return Refusal::new(RefusalCode::ModelRequired, message).about(Some("model"));
        }
        if sealed {
            let message = "the first message is compressed and is not opened: name the model in a \
                           header that `model_from` lists, set `default_model`, or send it uncompressed";
            return Refusal::new(RefusalCode::ModelUnreadable, message);
        }
        let message = "the call names no model: set it in the first message (`model_name`), in a \
                       header that `model_from` lists, or set `default_model`";
        Refusal::new(RefusalCode::ModelRequired, message)
    }

    /// What reads the rest of a stream whose messages each name the model.
    pub(super) fn passing(&self, placed: &Placed<'_>) -> Option<Passing> {
        let messages = placed.messages.clone()?;
        let space = self.proxy.buffers.reservation(Some(self.holder()));
        Some(Passing::new(messages, space))
    }

    pub(super) fn find_route<'a>(&self, table: &'a Table) -> Result<Option<&'a RoutePlan>, Stop> {
        if table.plan.routes.is_empty() {
            return Ok(None);
        }
        table
            .find_route(&Ask::new(self.session.req_header()))
            .map_err(|why| Refusal::from(why).into())
    }

    /// How much of the body is read before a replica is asked. What may name the model, and what may be sent twice, is
    /// kept whole where it fits.
    pub(super) fn need(&self, table: &Table, route: Option<&RoutePlan>, path: &AskedPath) -> Need {
        if let Some(call) = self.call {
            return needed_of(call, table);
        }
        if self.is_searched() || self.is_counted(&path.facts) {
            return Need::Whole(table.max_buffered_body);
        }
        let path = &path.facts;
        let head = self.session.req_header();
        let kind = text(&head.headers, "content-type");
        // What the key may not use is read as what does not exist.
        let may_use = |model: &&Arc<Model>| self.key().is_none_or(|key| key.may_use(&model.name));
        let named = table.named_by_head(route, path).filter(may_use);
        let most = named.map_or(table.max_buffered_body, |model| model.plan.max_buffered_body);
        let json = kind.is_some_and(is_json) || path.row.model == ModelAt::Body;
        let unread = || table.route(route, &Ask::new(head), path, BodyRead::Absent);
        if json || is_multipart(kind) {
            let may_name = named.is_none() && table.reads_body(route);
            let elsewhere = || unread().is_ok_and(|routed| routed.facts.found_in.is_some());
            let matters = may_name && !table.means_one_model(path) && !elsewhere();
            return if matters { Need::Name(most) } else { Need::Whole(most) };
        }
        // Tensors, images and the like name no model, and are kept for retries where the model's requests may be repeated.
        match unread() {
            Ok(Routed { model, .. }) if model.is_asked(&Ask::new(head), path.repeats()) => {
                Need::Whole(model.plan.max_buffered_body)
            }
            Ok(_) | Err(_) => Need::Nothing,
        }
    }

    /// Reads the path as a replica is asked. From here on the request is one of that shape.
    pub(super) fn read_asked(
        &mut self,
        sent: PathFacts,
        route: Option<&RoutePlan>,
    ) -> Result<AskedPath, Refusal> {
        let path = AskedPath::read(sent, route, origin_form(self.session.req_header()))
            .map_err(|problem| Refusal::new(RefusalCode::BadRequest, problem))?;
        if let Some(rewritten) = path.rewritten() {
            self.asked_path = Some(rewritten.into());
            self.row = path.facts.row;
            self.call = path.facts.call;
        }
        Ok(path)
    }

    /// Does the path that a replica is asked ask for a text to be made?
    pub(super) fn generates(&self) -> bool {
        generates(self.asked_path())
    }

    /// The path that replicas are asked, without the query; but for the version's own name of the model.
    pub(super) fn asked_path(&self) -> &str {
        self.asked_path.as_deref().unwrap_or(&self.record.path)
    }

    /// Finds the model.
    pub(super) fn place<'a>(
        &mut self,
        table: &'a Table,
        route: Option<&'a RoutePlan>,
        asked: &AskedPath,
        body: Body,
        upgrade: bool,
    ) -> Result<Placed<'a>, Stop> {
        let path = &asked.facts;
        let head = self.session.req_header();
        let read = match &body {
            // Megabytes of tensors need not be parsed for what the path has said.
            _ if table.path_says_all(route, path) || self.has_tensors() => BodyRead::Absent,
            _ if let Some(call) = self.call => read_messages(call, &body, table),
            Body::Whole(bytes, _) => {
                let (kind, encoding) = self.body_kind();
                BodyRead::whole(kind, encoding, bytes, &table.wanted_fields)
            }
            Body::Stream(first, _) => self.read_beginning(first, &table.wanted_fields),
        };
        let sealed = read == BodyRead::Sealed;
        let cut = matches!(body, Body::Stream(..)) && read.may_go_on();
        self.check_named_beside(table, route, path, &read)?;
        let routed = table.route(route, &Ask::new(head), path, read);
        if cut && table.waits_for_name(route, path, routed.as_ref()) {
            return Err(name_too_late(table.max_buffered_body).into());
        }
        let routed = routed.map_err(|why| self.refuse_unfound(table, why, sealed))?;
        self.record.model = Some(Arc::clone(routed.model));
        let Routed { model, facts, .. } = routed;
        let converses =
            self.call.is_some_and(|call| call.converses()) && matches!(body, Body::Stream(..));
        self.record.course.note(Happened::Converses(converses));
        self.record.infers = infers(&head.method, path, model.plan.kind, route);
        self.attempts.repeatable = model.repeatable(&Ask::new(head), facts.repeats);
        #[cfg(feature = "otlp")]
        self.trace_route(route.and_then(|route| route.path.as_ref()));
        let mut placed = Placed::new(model, route, facts, body, upgrade);
        placed.named_where_rewritten = asked.names_where_rewritten();
        self.check_model(table, &mut placed, asked)?;
        self.reserve_tokens(&mut placed)?;
        Ok(placed)
    }

    /// Does more of a body than these first bytes have nothing to say about its model?
    pub(super) fn has_said_model(&self, first: &[u8]) -> bool {
        !self.read_beginning(first, &[""; 0]).may_go_on()
    }

    fn read_beginning(&self, first: &[u8], wanted: &[impl AsRef<str>]) -> BodyRead {
        let (kind, encoding) = self.body_kind();
        BodyRead::prefix(kind, encoding, first, wanted)
    }

    /// Raw tensors follow a JSON head (Triton's binary data extension).
    fn has_tensors(&self) -> bool {
        let headers = &self.session.req_header().headers;
        self.dialect() == Dialect::KServeV2
            && headers.contains_key("inference-header-content-length")
    }

    /// Content type and content encoding of the request.
    pub(super) fn body_kind(&self) -> (Option<&str>, Option<&str>) {
        let headers = &self.session.req_header().headers;
        (text(headers, "content-type"), text(headers, header::CONTENT_ENCODING.as_str()))
    }
}

/// Does this ask a model to work? Where neither the path nor the file says so, it may be anything: a scanner's, say.
fn infers(method: &Method, path: &PathFacts, kind: Kind, route: Option<&RoutePlan>) -> bool {
    let works = match path.purpose(method) {
        Purpose::Inference => true,
        Purpose::Information | Purpose::Management => false,
        Purpose::Unknown => kind != Kind::Auto || route.is_some_and(|route| route.path.is_some()),
    };
    works && (kind == Kind::Raw || [Method::POST, Method::PUT].contains(method))
}

/// Our own limit ended the search for the model's name.
fn name_too_late(limit: u64) -> Refusal {
    let message = format!(
        "the request names no model in its first {limit} bytes, which is as much as `max_buffered_body` keeps: put \
         `model` in front of long fields and files, name it in the path or in a header or parameter that `model_from` \
         lists, or raise `max_buffered_body`"
    );
    Refusal::new(RefusalCode::BodyTooLarge, message).about(Some("model"))
}

/// Why no model answers a request that names none. `bodiless`: it has no body that could.
pub(super) fn no_model(bodiless: bool, at: ModelAt) -> &'static str {
    match at {
        ModelAt::Query(_) => "the request names no model: name it in the query, as `?model=NAME`",
        ModelAt::Body | ModelAt::KnownBody | ModelAt::Path if bodiless => {
            "the request names no model, and this path has no place for one: set `default_model`, or a route for it"
        }
        ModelAt::Body | ModelAt::KnownBody | ModelAt::Path => {
            "the request names no model: set `model` in the JSON body or the path"
        }
    }
}

fn is_multipart(content_type: Option<&str>) -> bool {
    const KIND: &str = "multipart/";
    let kind = content_type.unwrap_or_default().trim_start().get(..KIND.len());
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case(KIND))
}
