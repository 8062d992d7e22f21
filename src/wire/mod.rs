//! Connections: one type for both directions, and what is kept open to each replica.
mod conn;
mod frames;
mod upstream;

pub use conn::{Conn, Raw, Reins};
pub use upstream::{Checkout, Dialed, Upstream};
