//! Entries of `routes`, checked, as plain data.

/// One entry of `routes`: the first that matches wins.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutePlan {
    /// Line in the file, 1-based.
    pub line: usize,
    /// Lower case, without a port; a leading `*.` matches any label.
    pub host: Option<String>,
    pub path: Option<PathPattern>,
    /// Upper case.
    pub method: Option<String>,
    /// Lower-case name, exact value.
    pub headers: Vec<(String, String)>,
    /// Parameters of the query, with exact values.
    pub query: Vec<(String, String)>,
    pub cookies: Vec<(String, String)>,
    pub target: RouteTarget,
    /// May hold captures of `path`, as `{NAME}`.
    pub rewrite_path: Option<String>,
    pub rewrite_host: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// The whole decoded path.
    Exact(String),
    /// `/v1/*`: this prefix, which ends in `/`.
    Prefix(String),
    /// With captures: `/predictions/{model}/*`.
    Segments {
        segments: Vec<PathSegment>,
        /// `/*` follows: anything below, or nothing.
        open: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathSegment {
    /// Decoded.
    Literal(String),
    /// Any text but nothing, under this name.
    Capture(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// The name of a model that exists.
    Model(String),
    /// The model that a capture of the path names.
    Captured(String),
    /// Look for the name here, in this order.
    Find(Vec<NameSource>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameSource {
    Body,
    Path,
    /// Lower case.
    Header(String),
    /// A parameter of the query.
    Query(String),
}

impl std::fmt::Display for PathPattern {
    /// As the file writes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Segments { segments, open } => {
                for segment in segments {
                    match segment {
                        PathSegment::Literal(text) => write!(f, "/{text}")?,
                        PathSegment::Capture(name) => write!(f, "/{{{name}}}")?,
                    }
                }
                f.write_str(if *open { "/*" } else { "" })
            }
        }
    }
}

impl std::fmt::Display for NameSource {
    /// As the file writes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Body => f.write_str("body"),
            Self::Path => f.write_str("path"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
        }
    }
}
