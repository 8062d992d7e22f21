//! What a request means: which model it names, how its client speaks, how to answer in kind.
mod answer_name;
mod body;
mod code;
mod conversation;
mod deadline;
mod dialects;
mod encoding;
mod escape;
mod facts;
pub mod grpc;
mod guarded_path;
mod listing;
mod masked_query;
mod media;
mod multipart;
mod name;
mod name_fields;
mod named;
mod naming;
mod nearest;
mod one_name;
mod output;
mod path;
mod path_class;
mod prefix;
mod prompt;
mod query;
mod refusal;
mod rewrite;
mod rows;
mod sole_form;
mod stream;
mod usage;

pub use answer_name::{NameIn, NameWriter};
pub use body::{BodyFacts, BodyProblem, peek};
pub use code::RefusalCode;
pub use conversation::conversation;
pub use deadline::DeadlineHeader;
pub use dialects::{AnswerFormat, Dialect, PathKind, StreamError, UsageAt};
pub use encoding::{JsonText, is_json, json_text};
pub use facts::{BodyRead, Facts, FoundIn, Source, Unidentified, identify};
pub use guarded_path::{OddPath, lenient_purpose, odd_path};
pub use listing::{
    LIVE_BODY, Lister, READY_BODY, SERVER_BODY, UNREADY_BODY, model_body, models_body,
};
pub use masked_query::{is_secret_name, masked_query};
pub use media::essence;
pub use multipart::peek_multipart;
pub use name::Named;
pub use name_fields::{FieldProblem, OtherName};
pub use named::models_named;
pub use naming::header_names_model;
pub use nearest::nearest;
pub use one_name::{NameProblem, NameSpot, OneName, names_beside_path, one_name};
pub use output::{
    Output, OutputBudget, OutputForm, OutputProblem, OutputScan, OutputWish, Reserved, answer_text,
    event_values,
};
pub use path::{PathFacts, PathProblem, decoded_path, read_path, segment_of};
pub use path_class::path_class;
pub use prefix::peek_prefix;
pub use prompt::{Prompt, PromptProblem, asks_language_model, generates, prompt};
pub use query::{TwoInQuery, cookie_value, first_of, model_in_query, models_in_query, query_value};
pub use refusal::{ErrorBody, ErrorText, error_body};
pub use rewrite::{Edit, edited, encoded_name, rename_in_path, rename_in_query};
pub use rows::{Duty, GROUPS, Group, Local, ModelAt, Purpose, Row, paths_reference};
pub use sole_form::FormProblem;
pub use stream::{Failure, StreamForm, StreamWatch, broken_stream};
pub use usage::{Usage, UsageChunks, UsageForm, UsageScan, ask_for_usage};
