//! Connections: one type for both directions, and what is kept open to each replica.
mod chunks;
mod conn;
mod dial;
mod exhausted;
mod frames;
mod head;
pub mod proxy_protocol;
mod raw;
mod upstream;

pub use chunks::{BadChunks, Chunks};
pub use conn::{Conn, Reins};
pub use dial::Dialed;
pub use exhausted::{Exhausted, Resource, descriptor_limit, keep_descriptors};
pub use head::{HeadScan, RawHead, Unfit, glimpse};
pub use raw::{Begun, Raw, keepalive};
pub use upstream::{Checkout, Upstream};
