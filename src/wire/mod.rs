//! Connections: one type for both directions, and what is kept open to each replica.
mod chunks;
mod conn;
mod dial;
mod dialed;
mod exhausted;
mod frames;
mod head;
mod http1;
pub mod proxy_protocol;
mod raw;
mod reins;
mod replica_session;
mod reset_watch;
mod session_io;
mod upstream;

pub use chunks::{BadChunks, Chunks};
pub use conn::Conn;
pub use dialed::Dialed;
pub use exhausted::{Exhausted, Resource, descriptor_limit, keep_descriptors};
pub use head::{HeadScan, RawHead, Unfit, glimpse, is_host};
pub use http1::{
    AnswerFraming, AnswerHead, AnswerReader, BadAnswer, BadBody, Http1, Piece, read_length,
};
pub use raw::{Begun, Raw, keepalive};
pub use reins::{Reading, Reins};
pub use replica_session::ReplicaSession;
pub use upstream::{Checkout, Upstream};
