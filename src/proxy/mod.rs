//! The data path, in reading order: what a request passes from its first byte to its last.
//!
//! ```text
//! accept → admit → identify → route → split → pick → attempt → relay → settle
//! ```
mod accept;
mod allowed;
mod answer;
mod answer_name;
mod asking;
mod attempt;
mod attempts;
mod body;
mod broken;
mod buffers;
mod call;
mod chance;
mod client;
mod crowded;
mod decision;
mod downstream;
mod event;
mod exchange;
mod forward;
mod gate;
mod greet;
mod grpc;
mod head;
mod heard;
mod hedge;
mod hops;
mod http1;
mod http2;
mod identify;
mod inside;
mod introduce;
mod kept_answer;
mod limits;
mod listener;
mod look;
mod meaning;
mod mirror;
mod models;
mod naming;
mod panicked;
mod pass;
mod phase;
mod placed;
mod read_body;
mod reasons;
mod receive;
mod record;
mod relay;
mod reply;
mod request;
mod request_id;
mod response;
mod retry;
mod rounds;
mod send;
mod shared;
#[cfg(feature = "otlp")]
mod span;
mod testify;
mod timer;
#[cfg(feature = "otlp")]
mod trace;
mod tunnel;
mod upload;
mod witness;
mod write;

pub use inside::connect;
pub use listener::{Listener, bind, inherit};
pub use request::Ask;
pub use shared::{Phase, Proxy};
