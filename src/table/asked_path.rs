//! What a request's path says once its route is known: where a route rewrites the path, what counts is what a replica reads.
use super::route_plan::{RoutePlan, RouteTarget};
use crate::dialect::grpc::read_call;
use crate::dialect::{
    Dialect, ModelAt, OddPath, PathFacts, PathProblem, Purpose, Row, lenient_purpose, odd_path,
    read_path,
};
use http::Method;

/// What a path says.
#[derive(Debug)]
pub struct AskedPath {
    /// What routing, retries and answers go by: what a replica is asked, where that is a known path, else what the client
    /// wrote; the model that the client's path names, else the one that its part of a replica's path names.
    pub facts: PathFacts,
    rewritten: Option<Box<Rewritten>>,
}

/// A path that a route rewrites.
#[derive(Debug)]
struct Rewritten {
    sent: PathFacts,
    asked: PathFacts,
    /// Path and query, as a replica gets them but for the version's own name of the model.
    target: String,
    /// The file, not the client, wrote the name in it.
    by_file: bool,
}

impl AskedPath {
    /// `sent`: what the client's own path says. `target`: path and query as it wrote them. `Err`: what is wrong with the
    /// path that the route makes of it.
    pub fn read(sent: PathFacts, route: Option<&RoutePlan>, target: &str) -> Result<Self, String> {
        let spelled = target;
        let Some((route, target)) =
            route.and_then(|route| Some((route, route.rewritten(target, None)?)))
        else {
            return Ok(Self { facts: sent, rewritten: None });
        };
        let asked = match sent.call {
            Some(_) => Ok(PathFacts::of_call(read_call(path_of(&target)))),
            // What the file wrote into the path is its own business.
            None => match read_path(&target) {
                Err(PathProblem::EncodedSlash) if !encodes_slash(spelled) => {
                    Ok(PathFacts::default())
                }
                read => read,
            },
        };
        let asked = asked.map_err(|problem| {
            format!("{problem} (a route rewrites it to `{}`)", path_of(&target))
        })?;
        let segment = |end: usize| target[..end].matches('/').count().saturating_sub(1);
        let by_file = asked.model.as_ref().is_some_and(|named| {
            (segment(named.range.start)..=segment(named.range.end))
                .all(|number| route.wrote_segment(number))
        });
        let mut facts = sent.clone();
        if *asked.row != Row::UNKNOWN {
            facts.row = asked.row;
        }
        facts.call = asked.call;
        let captured = matches!(route.target, RouteTarget::Captured(_));
        if facts.model.is_none() && !by_file && !captured {
            facts.model.clone_from(&asked.model);
        }
        Ok(Self { facts, rewritten: Some(Box::new(Rewritten { sent, asked, target, by_file })) })
    }

    /// The path that a route makes of it, without the query; `None`: no route rewrites it.
    pub fn rewritten(&self) -> Option<&str> {
        self.rewritten.as_ref().map(|path| path_of(&path.target))
    }

    /// Does the name of [`Self::facts`] stand in the rewritten path?
    pub fn names_where_rewritten(&self) -> bool {
        let sent = self.rewritten.as_ref().map(|path| path.sent.model.is_some());
        self.facts.model.is_some() && sent == Some(false)
    }

    /// The row by which a replica reads the request.
    pub fn read_by(&self) -> &'static Row {
        self.rewritten.as_ref().map_or(self.facts.row, |path| path.asked.row)
    }

    /// May a body name a model to a replica? Those of V1 and V2 do not: their model stands in the path. gRPC's messages are
    /// looked at apart.
    pub fn reads_names(&self) -> bool {
        match self.read_by().dialect {
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

    /// Does a model stand in the path that a replica reads?
    pub fn names_in_path(&self) -> bool {
        let asked = self.rewritten.as_ref().map_or(&self.facts, |path| &path.asked);
        self.read_by().model == ModelAt::Path && asked.model.is_some()
    }

    /// The names of models that the client's path and the rewritten one have, but for one that the file wrote.
    pub fn names(&self) -> Vec<String> {
        let both: Vec<&PathFacts> = match self.rewritten.as_deref() {
            None => vec![&self.facts],
            Some(path) if path.by_file => vec![&path.sent],
            Some(path) => vec![&path.sent, &path.asked],
        };
        both.iter().filter_map(|facts| Some(facts.model.as_ref()?.name.clone())).collect()
    }

    /// The name that a rewrite of the file puts into the path.
    pub fn name_by_file(&self) -> Option<String> {
        let path = self.rewritten.as_deref().filter(|path| path.by_file)?;
        path.asked.model.as_ref().map(|named| named.name.clone())
    }

    /// What the path that a replica reads is for. `target` is what the client wrote.
    pub fn strictest_purpose(&self, target: &str, method: &Method) -> Purpose {
        let of = |facts: &PathFacts, raw: &str| {
            let purpose = facts.purpose(method);
            let lenient =
                facts.call.is_none() && lenient_purpose(raw, method) == Purpose::Management;
            if lenient { Purpose::Management } else { purpose }
        };
        let Some(path) = self.rewritten.as_deref() else { return of(&self.facts, target) };
        // Where nothing is known of what a replica is asked, it may still be what the client wrote, behind another prefix.
        match of(&path.asked, &path.target) {
            Purpose::Unknown => match of(&path.sent, target) {
                Purpose::Management => Purpose::Management,
                Purpose::Inference | Purpose::Information | Purpose::Unknown => Purpose::Unknown,
            },
            asked @ (Purpose::Inference | Purpose::Information | Purpose::Management) => asked,
        }
    }

    /// What is odd about either path.
    pub fn odd(&self, target: &str) -> Option<OddPath> {
        let rewritten = self.rewritten.as_deref().and_then(|path| odd_path(&path.target));
        odd_path(target).or(rewritten)
    }
}

fn encodes_slash(target: &str) -> bool {
    path_of(target).to_ascii_lowercase().contains("%2f")
}

fn path_of(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::route_plan::PathPattern;
    use super::*;

    fn asked(prefix: &str, rewrite: &str, target: &str) -> Result<AskedPath, String> {
        let route = RoutePlan {
            line: 1,
            host: None,
            path: Some(PathPattern::Prefix(prefix.to_owned())),
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
            cookies: Vec::new(),
            target: RouteTarget::Find(Vec::new()),
            rewrite_path: Some(rewrite.to_owned()),
            rewrite_host: None,
        };
        AskedPath::read(read_path(target).unwrap(), Some(&route), target)
    }

    #[test]
    fn a_request_is_of_the_path_that_a_replica_is_asked() {
        let plain = |path: &AskedPath| {
            (path.facts.dialect(), path.facts.model.as_ref().map(|named| named.name.clone()))
        };
        let m = Some("m".to_owned());
        for (prefix, rewrite, target, dialect, model, there) in [
            ("/llm/", "/*", "/llm/v1/messages", Dialect::Anthropic, None, false),
            ("/llm/", "/*", "/llm/v2/models/m/infer?x=/y", Dialect::KServeV2, m.clone(), true),
            (
                "/openai/deployments/m/",
                "/v1/*",
                "/openai/deployments/m/embeddings",
                Dialect::OpenAi,
                m.clone(),
                false,
            ),
            ("/predictions/m/", "/own/*", "/predictions/m/x", Dialect::TorchServe, m, false),
            ("/score/", "/v2/models/r/*", "/score/infer", Dialect::KServeV2, None, false),
            (
                "/a/",
                "/v1/models/org/*",
                "/a/m:predict",
                Dialect::KServeV1,
                Some("org/m".to_owned()),
                true,
            ),
        ] {
            let path = asked(prefix, rewrite, target).unwrap();
            assert_eq!(plain(&path), (dialect, model), "{target}");
            assert_eq!(path.names_where_rewritten(), there, "{target}");
        }
    }

    #[test]
    fn what_the_client_spells_into_a_rewritten_path_is_read_strictly() {
        assert!(asked("/llm/", "/*", "/llm/v1%2Fchat/completions").is_err());
        assert!(asked("/score/", "/v2/models/org%2Fm/*", "/score/infer").is_ok());
        let lever = asked("/llm/", "/*", "/llm/SLEEP%20").unwrap();
        let purpose = lever.strictest_purpose("/llm/SLEEP%20", &Method::POST);
        assert_eq!(purpose, Purpose::Management);
        // Behind a prefix of the replica's own it is still what the client wrote.
        let below = asked("/v1/", "/x/v1/*", "/v1/load_lora_adapter").unwrap();
        let purpose = below.strictest_purpose("/v1/load_lora_adapter", &Method::POST);
        assert_eq!(purpose, Purpose::Management);
        assert_eq!(lever.odd("/llm/a"), None);
        assert_eq!(
            asked("/llm/", "/*", "/llm/a%0A").unwrap().odd("/llm/a%0A"),
            Some(OddPath::Control)
        );
    }
}
