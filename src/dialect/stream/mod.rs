//! Answers that come in pieces: where one piece ends, what it says of a failure, and how to end one that broke.
mod broken;
mod failure;
mod reader;
mod watch;

pub use broken::broken_stream;
pub use failure::Failure;
pub use watch::StreamWatch;

use super::media::{JsonForm, is_coded};

/// How a stream is cut into pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamForm {
    /// Server-sent events.
    Events,
    /// A JSON document a line.
    Lines,
}

impl StreamForm {
    /// From an answer's head. `None`: it is no stream, or compressed, so that nobody may look inside or add to it.
    pub fn of(content_type: Option<&str>, content_encoding: Option<&str>) -> Option<Self> {
        if is_coded(content_encoding) {
            return None;
        }
        match JsonForm::of(content_type)? {
            JsonForm::Events => Some(Self::Events),
            JsonForm::Lines => Some(Self::Lines),
            JsonForm::Document => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_read_in_any_spelling() {
        for events in
            ["text/event-stream", "Text/Event-Stream ; charset=x", " TEXT/EVENT-STREAM;a=b"]
        {
            assert_eq!(StreamForm::of(Some(events), None), Some(StreamForm::Events), "{events}");
        }
        let lines = StreamForm::of(Some("application/X-NDJSON"), Some("identity"));
        assert_eq!(lines, Some(StreamForm::Lines));
        for other in ["text/event-streams", "application/json", "text/plain; a=text/event-stream"] {
            assert_eq!(StreamForm::of(Some(other), None), None, "{other}");
        }
        assert_eq!(StreamForm::of(Some("text/event-stream"), Some("gzip")), None);
        assert_eq!(StreamForm::of(None, None), None);
    }
}
