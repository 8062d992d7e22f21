//! Where the answers to a request say their model, and what they are to say.
use crate::dialect::NameIn;
use http::{HeaderValue, header};
use pingora_error::Result;
use pingora_http::RequestHeader;

/// Where the answers to a request say their model, and what they are to say.
#[derive(Debug)]
pub(super) struct AnswerName {
    pub(super) place: NameIn,
    pub(super) name: String,
    /// What the model is called in the file.
    pub(super) own: String,
    /// What its versions are called upstream.
    pub(super) upstream: Vec<String>,
}

impl AnswerName {
    /// A compressed answer is not opened: the replica is asked for a plain one.
    pub(super) fn ask_for_plain(&self, head: &mut RequestHeader) -> Result<()> {
        let identity = HeaderValue::from_static("identity");
        match self.place {
            NameIn::Json { .. } => head.insert_header(header::ACCEPT_ENCODING, identity),
            NameIn::Messages(_) => head.insert_header("grpc-accept-encoding", identity),
        }
    }
}
