//! Connections: one type for both directions, and what is kept open to each replica.
mod chunks;
mod conn;
mod frames;
mod head;
mod upstream;

pub use chunks::{BadChunks, Chunks};
pub use conn::{Conn, Raw, Reins};
pub use head::{HeadScan, RawHead, Unfit, glimpse};
pub use upstream::{Checkout, Dialed, Upstream};
