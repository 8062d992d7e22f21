//! Answers that Evener gives instead of a replica, as values: what they say, and when the client may return.
use crate::dialect::RefusalCode;
use crate::health::Class;
use crate::table::Unrouted;
use std::time::Duration;

/// An answer instead of forwarding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: RefusalCode,
    /// One English sentence that says what to do.
    pub message: String,
    /// The field to blame.
    pub param: Option<&'static str>,
    /// Where a replica failed: how.
    pub class: Option<Class>,
    /// When the same request would be served.
    pub wait: Option<Duration>,
}

impl Refusal {
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), param: None, class: None, wait: None }
    }

    /// Blames this field of the request.
    #[must_use]
    pub fn about(self, param: Option<&'static str>) -> Self {
        Self { param, ..self }
    }

    /// Tells the client when to return.
    #[must_use]
    pub fn until(self, wait: Duration) -> Self {
        Self { wait: Some(wait), ..self }
    }

    /// A replica failed so.
    #[must_use]
    pub fn caused_by(self, class: Class) -> Self {
        Self { class: Some(class), ..self }
    }
}

/// Why an exchange stops before its end.
#[derive(Debug)]
pub enum Stop {
    /// Answer so.
    Refused(Refusal),
    /// The client left.
    Gone,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Unrouted> for Refusal {
    /// Why no model answers.
    fn from(why: Unrouted) -> Self {
        match why {
            Unrouted::NoRoute => {
                Refusal::new(RefusalCode::NoRoute, "no route matches this host, path and method")
            }
            Unrouted::ModelRequired => Refusal::new(
                RefusalCode::ModelRequired,
                "the request names no model: set `model` in the JSON body or the path",
            )
            .about(Some("model")),
            Unrouted::ModelNotFound { name, nearest } => {
                let shown: String = name.chars().take(200).collect();
                let hint = match nearest.as_slice() {
                    [] => "see /v1/models for those that exist".to_owned(),
                    near => format!("did you mean `{}`?", near.join("` or `")),
                };
                let message = format!("the model `{shown}` does not exist; {hint}");
                Refusal::new(RefusalCode::ModelNotFound, message).about(Some("model"))
            }
            Unrouted::Unidentified(problem) => {
                Refusal::new(problem.code(), problem.to_string()).about(problem.param())
            }
        }
    }
}
