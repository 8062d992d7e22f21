//! Paths of routes: whether they take a path, what they capture of it, and what a rewrite makes of both.
use super::route_plan::{PathPattern, PathSegment, RoutePlan, RouteTarget};
use crate::dialect::grpc::read_call;
use crate::dialect::{
    Named, PathProblem, Purpose, encoded_name, lenient_purpose, read_path, segment_of,
};
use http::Method;

impl PathPattern {
    /// Does it take this decoded path?
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => {
                path.starts_with(prefix) || prefix.strip_suffix('/') == Some(path)
            }
            Self::Segments { segments, open } => {
                let Some(path) = path.strip_prefix('/') else { return false };
                let mut rest = path.split('/');
                let fits = |segment: &PathSegment| match (segment, rest.next()) {
                    (_, None) => false,
                    (PathSegment::Literal(text), Some(asked)) => text == asked,
                    (PathSegment::Capture(_), Some(asked)) => !asked.is_empty(),
                };
                segments.iter().all(fits) && (*open || rest.next().is_none())
            }
        }
    }

    /// Number of the segment that this capture takes.
    pub fn place_of(&self, capture: &str) -> Option<usize> {
        let Self::Segments { segments, .. } = self else { return None };
        segments
            .iter()
            .position(|segment| matches!(segment, PathSegment::Capture(name) if name == capture))
    }

    /// The names of its captures.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        let segments = match self {
            Self::Segments { segments, .. } => segments.as_slice(),
            Self::Exact(_) | Self::Prefix(_) => &[],
        };
        segments.iter().filter_map(|segment| match segment {
            PathSegment::Capture(name) => Some(name.as_str()),
            PathSegment::Literal(_) => None,
        })
    }

    /// Segments in front of what `/*` takes.
    fn length(&self) -> usize {
        match self {
            Self::Exact(_) => 0,
            Self::Prefix(prefix) => prefix.matches('/').count() - 1,
            Self::Segments { segments, .. } => segments.len(),
        }
    }
}

impl RoutePlan {
    /// Does it name the path that a replica is asked by, rather than take it among others? Whoever wrote it wants what
    /// stands there. A path that it rewrites is what it is rewritten to.
    pub fn names_path(&self, purpose: Purpose, call: bool, method: &Method) -> bool {
        let Some(pattern) = &self.path else { return false };
        let open = match pattern {
            PathPattern::Exact(_) => return true,
            PathPattern::Prefix(_) => true,
            PathPattern::Segments { open, .. } => *open,
        };
        let text = pattern.to_string();
        let base = if open { text.trim_end_matches('*') } else { &text };
        let base = self.rewritten(base, None).unwrap_or_else(|| base.to_owned());
        let base = base.trim_end_matches('/');
        // A capture takes any text, so it names nothing.
        let literal = |segment: &str| !segment.is_empty() && !segment.starts_with('{');
        if purpose != Purpose::Management {
            return base.split('/').any(literal);
        }
        // Below a prefix of an API stand its levers, too: those are named by a prefix of theirs.
        let lever = || {
            read_path(base).is_ok_and(|path| path.purpose(method) == purpose)
                || lenient_purpose(base, method) == purpose
        };
        let calls = || !open && read_call(base).purpose == purpose;
        if call { calls() } else { lever() }
    }

    /// Does the file itself write this segment of the paths that the route takes?
    pub fn names_segment(&self, number: usize) -> bool {
        match &self.path {
            None => false,
            Some(PathPattern::Exact(_)) => true,
            Some(PathPattern::Prefix(prefix)) => number + 1 < prefix.matches('/').count(),
            Some(PathPattern::Segments { segments, .. }) => {
                matches!(segments.get(number), Some(PathSegment::Literal(_)))
            }
        }
    }

    /// Does a replica find the model in the path where this route found it?
    pub fn names_model_in_path(&self) -> bool {
        matches!(self.target, RouteTarget::Captured(_)) && self.rewrite_path.is_none()
    }

    /// The model that a capture of this route names in a raw path.
    pub fn captured(&self, raw_path: &str) -> Result<Option<Named>, PathProblem> {
        let RouteTarget::Captured(capture) = &self.target else { return Ok(None) };
        match self.path.as_ref().and_then(|path| path.place_of(capture)) {
            Some(place) => segment_of(raw_path, place),
            None => Ok(None),
        }
    }

    /// What `rewrite.path` makes of a target (path and query, as sent). A path that ends in `/*` keeps what the route's own
    /// `/*` took; captures stand as they were sent, but for the one that named the model, which gives way to `new`, the
    /// version's own name. The query stays. `None`: it is not rewritten.
    pub fn rewritten(&self, target: &str, new: Option<&str>) -> Option<String> {
        let template = self.rewrite_path.as_deref()?;
        let (asked, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
        let segments = || asked.strip_prefix('/').unwrap_or(asked).split('/');
        let (base, keeps) = match template.strip_suffix('*') {
            Some(base) => (base, true),
            None => (template, false),
        };
        let mut out = String::with_capacity(base.len() + target.len());
        for (number, segment) in base.split('/').enumerate() {
            if number > 0 {
                out.push('/');
            }
            let capture = segment.strip_prefix('{').and_then(|inside| inside.strip_suffix('}'));
            let place = capture.and_then(|name| self.path.as_ref()?.place_of(name));
            match (capture, place) {
                (Some(name), Some(place)) => {
                    let names =
                        matches!(&self.target, RouteTarget::Captured(model) if model == name);
                    match new.filter(|_| names) {
                        Some(new) => out.push_str(&encoded_name(new)),
                        None => out.push_str(segments().nth(place).unwrap_or_default()),
                    }
                }
                _ => out.push_str(segment),
            }
        }
        if keeps {
            let taken = self.path.as_ref().map_or(0, PathPattern::length);
            for (number, segment) in segments().skip(taken).enumerate() {
                if number > 0 {
                    out.push('/');
                }
                out.push_str(segment);
            }
        }
        if let Some(query) = query {
            out.push('?');
            out.push_str(query);
        }
        Some(out)
    }

    /// Did the file write the segment of this number in a rewritten path, rather than the client?
    pub fn wrote_segment(&self, number: usize) -> bool {
        let template = self.rewrite_path.as_deref().unwrap_or_default();
        let template = template.strip_prefix('/').unwrap_or(template);
        let is_text = |segment: &str| !(segment == "*" || segment.starts_with('{'));
        template.split('/').nth(number).is_some_and(is_text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> PathPattern {
        let segment = |text: &str| match text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
            Some(name) => PathSegment::Capture(name.to_owned()),
            None => PathSegment::Literal(text.to_owned()),
        };
        match (text.contains('{'), text.strip_suffix("/*")) {
            (false, None) => PathPattern::Exact(text.to_owned()),
            (false, Some(prefix)) => PathPattern::Prefix(format!("{prefix}/")),
            (true, open) => PathPattern::Segments {
                segments: open.unwrap_or(text)[1..].split('/').map(segment).collect(),
                open: open.is_some(),
            },
        }
    }

    fn route(path: &str, rewrite: &str) -> RoutePlan {
        RoutePlan {
            line: 1,
            host: None,
            path: Some(pattern(path)),
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
            cookies: Vec::new(),
            target: RouteTarget::Captured("model".to_owned()),
            rewrite_path: Some(rewrite.to_owned()),
            rewrite_host: None,
        }
    }

    #[test]
    fn a_pattern_takes_whole_segments() {
        for (text, takes, leaves) in [
            (
                "/a/{m}",
                &["/a/x", "/a/x%2Fy"][..],
                &["/a", "/a/", "/a/x/", "/a/x/y", "/b/x", "a/x"][..],
            ),
            ("/a/{m}/*", &["/a/x", "/a/x/", "/a/x/y/z"], &["/a", "/a/", "/ax/y"]),
            ("/{a}/b/{c}", &["/x/b/y"], &["/x/c/y", "//b/y", "/x/b/"]),
            ("/a/*", &["/a", "/a/", "/a/b"], &["/ab", "/"]),
        ] {
            let pattern = pattern(text);
            assert_eq!(pattern.to_string(), text);
            for path in takes {
                assert!(pattern.matches(path), "{text} takes {path}");
            }
            for path in leaves {
                assert!(!pattern.matches(path), "{text} leaves {path}");
            }
        }
    }

    #[test]
    fn a_route_opens_what_a_replica_is_asked() {
        use Purpose::{Inference, Management, Unknown};
        let opens = |path: &str, rewrite: Option<&str>, purpose, call| {
            let plain = RoutePlan { rewrite_path: None, ..route(path, "/") };
            let route = rewrite.map_or(plain, |rewrite| route(path, rewrite));
            route.names_path(purpose, call, &Method::POST)
        };
        for (path, rewrite, unknown, lever) in [
            ("/sleep", None, true, true),
            ("/unload/*", None, true, true),
            ("/nap", Some("/sleep"), true, true),
            ("/v2/repository/*", None, true, true),
            ("/adapters/*", Some("/v2/repository/*"), true, true),
            ("/v2/repository/models/{m}/load", None, true, true),
            ("/load/{m}", Some("/v2/repository/models/{m}/load"), true, true),
            ("/v1/*", None, true, false),
            ("/*", None, false, false),
            ("/llm/*", None, true, false),
            ("/llm/*", Some("/*"), false, false),
            ("/sleep/*", Some("/*"), false, false),
            ("/t/{tenant}/*", Some("/{tenant}/*"), false, false),
            ("/{verb}", None, false, false),
            ("/do/{verb}", Some("/{verb}"), false, false),
            ("/openai/deployments/chat/*", Some("/v1/*"), true, false),
        ] {
            assert_eq!(opens(path, rewrite, Unknown, false), unknown, "{path} {rewrite:?}");
            assert_eq!(opens(path, rewrite, Inference, false), unknown, "{path} {rewrite:?}");
            assert_eq!(opens(path, rewrite, Management, false), lever, "{path} {rewrite:?}");
        }
        let load = "/inference.GRPCInferenceService/RepositoryModelLoad";
        assert!(opens(load, None, Management, true));
        assert!(!opens("/inference.GRPCInferenceService/*", None, Management, true));
        assert!(!opens("/g/*", Some("/*"), Management, true));
    }

    #[test]
    fn a_capture_names_the_model_with_its_place() {
        let route = route("/predictions/{model}/*", "/");
        let named = route.captured("/predictions/my%20model/1?x=/y").unwrap().unwrap();
        assert_eq!((named.name.as_str(), named.range), ("my model", 13..23));
        assert_eq!(route.captured("/predictions/a%2Fb"), Err(PathProblem::EncodedSlash));
        assert_eq!(route.captured("/predictions/a%zz"), Err(PathProblem::BadEscape));
    }

    #[test]
    fn a_rewrite_keeps_the_rest_the_query_and_captures() {
        for (path, rewrite, target, new, expected) in [
            ("/a/*", "/v1/*", "/a/b%20c/d?q=1", None, "/v1/b%20c/d?q=1"),
            ("/%61/*", "/v1/*", "/a/b", None, "/v1/b"),
            ("/a/*", "/v1/*", "/a", None, "/v1/"),
            ("/a/*", "/v1", "/a/b?q", None, "/v1?q"),
            ("/a", "/v1/*", "/a", None, "/v1/a"),
            (
                "/p/{model}/*",
                "/v2/models/{model}/*",
                "/p/m%201/infer?a",
                None,
                "/v2/models/m%201/infer?a",
            ),
            (
                "/p/{model}/{v}",
                "/v2/models/{model}/versions/{v}/infer",
                "/p/m/7",
                Some("a/b"),
                "/v2/models/a%2Fb/versions/7/infer",
            ),
            ("/t/{tenant}/{model}", "/{tenant}", "/t/x/m", Some("new"), "/x"),
        ] {
            assert_eq!(
                route(path, rewrite).rewritten(target, new).as_deref(),
                Some(expected),
                "{path}"
            );
        }
    }
}
