//! What pages follow: one look a second at everything, shared by all who read, and a short history for those who come.
mod complaints;
mod descriptors;
mod distribution;
mod facts;
mod figures;
mod history;
mod latencies;
mod look;
mod message;
mod served;
mod stream;

pub use figures::Figures;
pub(super) use look::{look, watch};
pub(super) use stream::follow;

use crate::problems::{Problem, Problems};
use crate::table::Model;
use axum::body::Bytes;
use complaints::Complaints;
use descriptors::Descriptors;
use history::History;
use parking_lot::Mutex;
use serde::Serialize;
use served::Served;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch::Sender;

/// Kept by the second, whether somebody reads or not.
#[derive(Debug, Default)]
struct Past {
    history: History,
    complaints: Complaints,
    problems: Problems,
    descriptors: Descriptors,
}

/// What all who read are told of one second, as events of a stream.
#[derive(Debug, Default)]
struct Frame {
    overview: Bytes,
    /// Of models that somebody looks at.
    closeups: BTreeMap<String, Bytes>,
}

/// The live view of everything.
#[derive(Debug, Default)]
pub struct Live {
    past: Mutex<Past>,
    /// How many look at each model.
    looked_at: Mutex<BTreeMap<String, usize>>,
    served: Served,
    /// Holds one frame: a reader that is slow misses those between.
    frames: Sender<Arc<Frame>>,
}

impl Live {
    /// What is wrong, worst first.
    pub(super) fn problems(&self) -> Vec<Problem> {
        self.past.lock().problems.list().to_vec()
    }

    /// How a model and each of its versions do now.
    pub(super) fn present(&self, model: &Model) -> (Figures, Vec<Figures>) {
        let past = self.past.lock();
        let (whole, of_version) = past.history.now(&model.name);
        let versions = model.versions.iter().map(|version| of_version(&version.name).now);
        (whole.now, versions.collect())
    }

    fn lines(&self, model: Option<&str>) -> Bytes {
        block("history", &self.past.lock().history.lines(model))
    }
}

/// One event of a stream.
fn block(name: &str, data: &impl Serialize) -> Bytes {
    let mut text = format!("event: {name}\ndata: ").into_bytes();
    serde_json::to_writer(&mut text, data).expect("plain structs are JSON");
    text.extend_from_slice(b"\n\n");
    Bytes::from(text)
}
