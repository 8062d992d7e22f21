//! gRPC as routing needs it: which model a call names, message by message, and statuses.
//!
//! No schema is compiled in: of the messages of two known services, the place of one name is known. All else passes
//! unread.
mod call;
mod field;
mod frame;
mod message;
mod message_problem;
mod messages;
mod status;

pub use call::{Call, LocalCall, is_grpc, read_call};
pub use field::{Fields, Value, put_bytes, put_varint};
pub use frame::{Frame, PREFIX, frame, next_frame};
pub use message::{NameAt, first_name, name_in, rename_in_messages};
pub use message_problem::MessageProblem;
pub use messages::Messages;
pub use status::{
    GrpcStatus, code_word, escape_message, grpc_status_of_http, http_status_of_code,
    http_status_of_grpc, severity_of_code,
};
