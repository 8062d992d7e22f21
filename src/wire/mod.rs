//! Connections: one type for both directions, and what is kept open to each replica.
mod conn;
mod dial;
mod frames;
pub mod proxy_protocol;
mod raw;
mod upstream;

pub use conn::{Conn, Reins};
pub use dial::Dialed;
pub use raw::{Begun, Raw};
pub use upstream::{Checkout, Upstream};
