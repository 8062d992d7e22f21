//! HTTP/1 towards replicas: requests written and answers read. All but `session` is apart from sockets.
mod answer;
mod body;
mod head;
mod session;
mod write;

pub use answer::AnswerReader;
pub use body::{BadBody, Piece};
pub use head::{AnswerFraming, AnswerHead, BadAnswer, read_length};
pub use session::Http1;
