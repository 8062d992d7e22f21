//! What a request means: which model it names, how its client speaks, how to answer in kind.
mod body;
mod code;
mod deadline;
mod encoding;
mod error_event;
mod facts;
pub mod grpc;
mod listing;
mod multipart;
mod named;
mod nearest;
mod output;
mod path;
mod prefix;
mod prompt;
mod refusal;
mod rewrite;
mod usage;

pub use body::{BodyFacts, BodyProblem, peek};
pub use code::RefusalCode;
pub use deadline::DeadlineHeader;
pub use encoding::{JsonText, is_json, json_text};
pub use error_event::ErrorEvents;
pub use facts::{
    BodyRead, Dialect, Facts, FoundIn, Named, PathKind, Source, Unidentified, identify,
};
pub use listing::{LIVE_BODY, READY_BODY, SERVER_BODY, UNREADY_BODY, models_body};
pub use multipart::peek_multipart;
pub use named::models_named;
pub use nearest::nearest;
pub use output::{
    Output, OutputBudget, OutputForm, OutputProblem, OutputScan, OutputWish, Reserved, answer_text,
    event_values,
};
pub use path::{Local, PathFacts, PathProblem, decoded_path, read_path};
pub use prefix::peek_prefix;
pub use prompt::{Prompt, PromptProblem, generates, prompt};
pub use refusal::{error_body, sse_error_event};
pub use rewrite::{Edit, edited, rename_in_path};
pub use usage::{Usage, UsageChunks, UsageForm, UsageScan, ask_for_usage};
