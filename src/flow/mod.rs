//! What both sides of an exchange speak of: how long it may take, why it stops, and what is answered instead. Values, without a session or a clock.
mod course;
mod deadline;
mod refusal;
mod trouble;

pub use course::{Course, Happened, PastAttempt};
pub use deadline::Deadline;
pub use refusal::{Refusal, Stop};
pub use trouble::Trouble;
