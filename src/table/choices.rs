//! What a model's file chooses among: how its requests read, which name its answers give, where a sticky key comes from.

/// Which name for the model its answers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Answers {
    /// What the replica says, byte for byte.
    #[default]
    Upstream,
    /// What the client called it.
    Client,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Kind {
    /// By the path of each request.
    #[default]
    Auto,
    Llm,
    Predict,
    Raw,
}

/// Where a sticky key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// Lower case.
    Header(String),
    Cookie(String),
    /// A parameter of the query.
    Query(String),
    /// A top-level field of the JSON body.
    Json(String),
    /// The name of the key that the request came with.
    ApiKey,
    ClientIp,
}

impl std::fmt::Display for KeySource {
    /// As the file writes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Json(field) => write!(f, "json:{field}"),
            Self::ApiKey => f.write_str("api_key"),
            Self::ClientIp => f.write_str("client_ip"),
        }
    }
}
