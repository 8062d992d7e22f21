//! Connections: one type for both directions, and what is kept open to each replica.
mod conn;
mod frames;
pub mod proxy_protocol;
mod raw;
mod upstream;

pub use conn::{Conn, Reins};
pub use raw::{Begun, Raw};
pub use upstream::{Checkout, Dialed, Upstream};
