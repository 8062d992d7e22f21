//! Text to `Plan`, with errors worth reading: all at once, each at its place, with a way out.
mod address;
mod diagnostic;
mod effective;
mod header;
mod hints;
mod inherit;
mod keys;
mod load;
mod model;
mod probe;
mod reader;
mod reference;
mod render;
mod route;
mod scalar;
mod schema;
mod secret;
mod secrets;
mod server;
mod tree;
mod variables;
mod version;

pub use diagnostic::{CODES, Diagnostic, Diagnostics, Severity};
pub use effective::effective_yaml;
pub use load::{Checked, load, parse_text};
pub use reference::reference;
pub use schema::schema;
