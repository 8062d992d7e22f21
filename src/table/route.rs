//! From what a request is to the model that answers it.
use super::generation::Table;
use super::model::{Model, Version};
use super::route_plan::{NameSource, RoutePlan, RouteTarget};
use crate::dialect::{
    BodyRead, Dialect, Facts, ModelAt, PathFacts, Source, Unidentified, identify, model_in_query,
    nearest, query_value,
};
use std::sync::Arc;
use std::time::Duration;

/// A request's head, as far as routes look at it.
pub trait Asked {
    /// Upper case.
    fn method(&self) -> &str;
    /// Lower case, without a port.
    fn host(&self) -> &str;
    /// Decoded.
    fn path(&self) -> &str;
    /// The value of a header, of several the first that is not empty; `name` is lower case.
    fn header(&self, name: &str) -> Option<&str>;
    /// The same, also where it is no text.
    fn header_bytes(&self, name: &str) -> Option<&[u8]> {
        self.header(name).map(str::as_bytes)
    }
    /// The value of a cookie, of several the first that is not empty.
    fn cookie(&self, name: &str) -> Option<&str>;
    /// Path and query, as sent.
    fn target(&self) -> &str;
    /// It asks to leave HTTP (WebSocket).
    fn upgrades(&self) -> bool;
}

/// A request that found its model.
#[derive(Clone, Debug)]
pub struct Routed<'a> {
    pub model: &'a Arc<Model>,
    pub facts: Facts,
    /// The entry of `routes` that matched.
    pub route: Option<&'a RoutePlan>,
}

/// Why no model answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unrouted {
    /// Routes exist, and none matches.
    NoRoute,
    Unidentified(Unidentified),
    /// No model named, and no default.
    ModelRequired,
    ModelNotFound {
        name: String,
        nearest: Vec<String>,
    },
}

impl RoutePlan {
    pub fn matches(&self, asked: &impl Asked) -> bool {
        self.method.as_ref().is_none_or(|method| asked.method() == method)
            && self.host.as_ref().is_none_or(|host| host_matches(host, asked.host()))
            && self.path.as_ref().is_none_or(|path| path.matches(asked.path()))
            && self.headers.iter().all(|(name, value)| asked.header(name) == Some(value))
            && self.cookies.iter().all(|(name, value)| asked.cookie(name) == Some(value))
            && self.query.iter().all(|(name, value)| {
                query_value(asked.target(), name).is_some_and(|asked| asked == *value)
            })
    }
}

fn host_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => pattern == host,
    }
}

impl Table {
    /// Does a route name this method?
    pub fn opens_method(&self, method: &str) -> bool {
        self.plan.routes.iter().any(|route| route.method.as_deref() == Some(method))
    }

    /// The first route that matches; `Err` when there are routes and none does.
    pub fn find_route(&self, asked: &impl Asked) -> Result<Option<&RoutePlan>, Unrouted> {
        if self.plan.routes.is_empty() {
            return Ok(None);
        }
        let found = self.plan.routes.iter().find(|route| route.matches(asked));
        found.map(Some).ok_or(Unrouted::NoRoute)
    }

    /// Must the body be looked at to find the model?
    pub fn reads_body(&self, route: Option<&RoutePlan>) -> bool {
        match route.map(|route| &route.target) {
            None => true,
            Some(RouteTarget::Model(_) | RouteTarget::Captured(_)) => false,
            Some(RouteTarget::Find(sources)) => sources.contains(&NameSource::Body),
        }
    }

    /// The body was not read to its end, and what was read names no model. Could a name that follows change what becomes of
    /// the request?
    pub fn waits_for_name(
        &self,
        route: Option<&RoutePlan>,
        path: &PathFacts,
        routed: Result<&Routed<'_>, &Unrouted>,
    ) -> bool {
        let unnamed = match routed {
            Ok(Routed { facts, .. }) => facts.found_in.is_none(),
            Err(Unrouted::ModelRequired) => true,
            Err(_) => false,
        };
        unnamed && !self.means_one_model(path) && self.reads_body(route)
    }

    /// Is there no other model to mean, and no name that would have to be changed for a replica?
    pub fn means_one_model(&self, path: &PathFacts) -> bool {
        let [model] = &self.models[..] else { return false };
        path.row.model != ModelAt::Body
            || model.versions.iter().all(|version| model.plan_of(version).upstream_model.is_none())
    }

    /// The model that a request's path names, or that its route fixes.
    pub fn named_by_head(
        &self,
        route: Option<&RoutePlan>,
        path: &PathFacts,
    ) -> Option<&Arc<Model>> {
        match route.map(|route| &route.target) {
            Some(RouteTarget::Model(name)) => self.model(name),
            Some(RouteTarget::Captured(_)) => None,
            None | Some(RouteTarget::Find(_)) => {
                path.model.as_ref().and_then(|named| self.model(&named.name))
            }
        }
    }

    /// How long a request may take whose body is still to be read: as its model allows where that is known by now, else
    /// as any does.
    pub fn time_for_body(&self, route: Option<&RoutePlan>, path: &PathFacts) -> Duration {
        let model = self.named_by_head(route, path);
        model.map_or(self.longest_total, |model| model.plan.timeouts.total)
    }

    /// Is a body of no use, because the path has named the model and no sticky key is read from the body?
    pub fn path_says_all(&self, route: Option<&RoutePlan>, path: &PathFacts) -> bool {
        let ordered = matches!(route, Some(RoutePlan { target: RouteTarget::Find(_), .. }));
        path.model.is_some() && self.wanted_fields.is_empty() && !ordered
    }

    /// The model that answers a request.
    pub fn route<'a>(
        &'a self,
        route: Option<&'a RoutePlan>,
        asked: &impl Asked,
        path: &PathFacts,
        body: BodyRead,
    ) -> Result<Routed<'a>, Unrouted> {
        let known = |name: &str| self.names.contains_key(name);
        let found: Vec<Source<'_>>;
        let sources = match route.map(|route| (route, &route.target)) {
            None | Some((_, RouteTarget::Model(_))) => match usual_sources(path, asked) {
                Some(sources) => {
                    found = sources;
                    &found
                }
                None => &Source::DEFAULT[..],
            },
            Some((route, RouteTarget::Captured(_))) => {
                let named = route.captured(asked.target());
                let named = named.map_err(|problem| Unrouted::Unidentified(problem.into()))?;
                found = vec![Source::Captured(named)];
                &found
            }
            Some((_, RouteTarget::Find(list))) => {
                found = list.iter().map(|source| as_source(source, asked)).collect();
                &found
            }
        };
        let identified = identify(path, body, sources, known);
        if let Some(RoutePlan { target: RouteTarget::Model(name), .. }) = route {
            let facts = identified.unwrap_or_else(|_| Facts::of_path(path));
            let model =
                self.model(name).expect("config checked that routes name models that exist");
            return Ok(Routed { model, facts, route });
        }
        let facts = identified.map_err(Unrouted::Unidentified)?;
        let model = match &facts.model {
            Some(name) => self.named(name, facts.dialect)?,
            None => self.unnamed(path).ok_or(Unrouted::ModelRequired)?,
        };
        Ok(Routed { model: &self.models[model], facts, route })
    }

    /// The model of a request that names none. What services there are any replica tells that speaks gRPC.
    fn unnamed(&self, path: &PathFacts) -> Option<usize> {
        let tells = |model: &Model| model.versions.iter().any(Version::speaks_http2);
        let default = self.default_model;
        if !path.call.is_some_and(|call| call.reflects)
            || default.is_some_and(|model| tells(&self.models[model]))
        {
            return default;
        }
        self.models.iter().position(|model| tells(model)).or(default)
    }

    fn named(&self, name: &str, dialect: Dialect) -> Result<usize, Unrouted> {
        // Ollama's clients write out the tag that it takes where there is none.
        let untagged = || name.strip_suffix(":latest").filter(|_| dialect == Dialect::Ollama);
        let found = self.names.get(name).or_else(|| self.names.get(untagged()?));
        found.copied().or(self.catch_all).ok_or_else(|| Unrouted::ModelNotFound {
            name: name.to_owned(),
            nearest: nearest(name, self.names()).into_iter().map(str::to_owned).collect(),
        })
    }
}

/// Where a request without `model_from` may name its model, where that is more than its path and body.
fn usual_sources<'a>(path: &PathFacts, asked: &'a impl Asked) -> Option<Vec<Source<'a>>> {
    let in_query = |parameter, if_known| {
        let found = model_in_query(asked.target(), parameter);
        Source::Query { parameter, found, if_known }
    };
    match path.row.model {
        ModelAt::Query(parameter) => {
            Some(vec![in_query(parameter, false), Source::Path, Source::Body])
        }
        ModelAt::KnownBody if asked.upgrades() => {
            Some(vec![Source::Path, Source::Body, in_query("model", true)])
        }
        ModelAt::Path | ModelAt::Body | ModelAt::KnownBody => None,
    }
}

fn as_source<'a>(source: &'a NameSource, asked: &'a impl Asked) -> Source<'a> {
    match source {
        NameSource::Body => Source::Body,
        NameSource::Path => Source::Path,
        NameSource::Header(name) => Source::Header { name, value: asked.header(name) },
        NameSource::Query(parameter) => {
            let found = model_in_query(asked.target(), parameter);
            Source::Query { parameter, found, if_known: false }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_text;
    use crate::control::Core;
    use crate::dialect::read_path;
    use crate::stats::Moment;
    use crate::table::Overrides;

    fn says_all(options: &str, path: &str) -> bool {
        let text = format!(
            "listeners: [{{address: 127.0.0.1:0}}]\nmodels:\n  m:\n    versions: {{v: [http://a:1]}}\n{options}"
        );
        let plan = Arc::new(parse_text(text, "test.yaml", &|_| None).unwrap().plan);
        let (core, _) = Core::start(&plan, Overrides::default(), 7, Moment::ZERO);
        core.table().path_says_all(core.table().plan.routes.first(), &read_path(path).unwrap())
    }

    #[test]
    fn a_body_is_parsed_only_where_it_can_matter() {
        assert!(says_all("", "/v2/models/m/infer"));
        assert!(!says_all("", "/v1/chat/completions"));
        assert!(!says_all("    hash_on: [\"json:user\"]\n", "/v2/models/m/infer"));
        assert!(!says_all("routes: [{model_from: [body, path]}]\n", "/v2/models/m/infer"));
        assert!(says_all("routes: [{model: m}]\n", "/v2/models/m/infer"));
    }
}
