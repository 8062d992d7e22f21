//! Connections: one type for both directions, and what is kept open to each replica.
mod answer_head;
mod chunks;
mod conn;
mod dial;
mod dialed;
mod exhausted;
mod frames;
mod head;
pub mod proxy_protocol;
mod raw;
mod reins;
mod reset_watch;
mod session_io;
mod upstream;

pub use answer_head::{AnswerFraming, BadAnswer, read_answer_head, read_length};
pub use chunks::{BadChunks, Chunks};
pub use conn::Conn;
pub use dialed::Dialed;
pub use exhausted::{Exhausted, Resource, descriptor_limit, keep_descriptors};
pub use head::{HeadScan, RawHead, Unfit, glimpse, is_host};
pub use raw::{Begun, Raw, keepalive};
pub use reins::{Reading, Reins};
pub use upstream::{Checkout, Upstream};
