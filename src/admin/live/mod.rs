//! What pages follow: one look a second at everything, shared by all who read, and a short history for those who come.
mod complaints;
mod descriptors;
mod distribution;
mod facts;
mod figures;
mod history;
mod latencies;
mod message;
mod served;
mod stream;

pub use figures::Figures;
pub(super) use stream::follow;

use super::office::Office;
use crate::observe::Level;
use crate::problems::{Change, Problem, Problems, Severity};
use crate::stats::Clock as _;
use crate::table::{Model, Table};
use axum::body::Bytes;
use complaints::Complaints;
use descriptors::Descriptors;
use history::History;
use parking_lot::Mutex;
use serde::Serialize;
use served::Served;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

const EVERY: Duration = Duration::from_secs(1);

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
    frames: watch::Sender<Arc<Frame>>,
}

/// Looks once a second, for as long as it is polled; the first time a second from now.
pub(super) async fn watch(office: &Office) {
    let mut seconds = interval(EVERY);
    seconds.reset();
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        seconds.tick().await;
        look(office);
    }
}

/// Looks at everything, and tells those who read. What a version served before the first look at it is in no percentile.
pub(super) fn look(office: &Office) {
    let table = office.current.load_full();
    office.live.look(office, &table);
    if office.live.frames.receiver_count() > 0 {
        let frame = office.live.frame(office, &table);
        office.live.frames.send_replace(Arc::new(frame));
    }
}

impl Live {
    fn look(&self, office: &Office, table: &Table) {
        let now = office.clock.now();
        let unix_ms = office.wall(now).as_millisecond();
        let mut past = self.past.lock();
        past.history.look(table, now, unix_ms);
        past.complaints.look(table, &office.meters, unix_ms);
        let connections = office.meters.connections().iter().map(|(_, n)| n).sum();
        let descriptors = past.descriptors.look(connections);
        let facts = facts::gather(office, table, &self.served, descriptors);
        let changes = past.problems.look(&facts);
        let ask = past.problems.ask().to_vec();
        office.meters.troubles.list_is(past.problems.list().iter().map(labels));
        drop(past);
        self.served.ask(&ask, table);
        for change in changes {
            tell(office, change);
        }
    }

    /// What is wrong, worst first.
    pub(super) fn problems(&self) -> Vec<Problem> {
        self.past.lock().problems.list().to_vec()
    }

    fn frame(&self, office: &Office, table: &Table) -> Frame {
        let looked_at: Vec<String> = self.looked_at.lock().keys().cloned().collect();
        let with_name = |name: String| Some((self.closeup(office, table, &name)?, name));
        let closeups = looked_at.into_iter().filter_map(with_name);
        Frame {
            overview: self.overview(office, table),
            closeups: closeups.map(|(bytes, name)| (name, bytes)).collect(),
        }
    }

    fn overview(&self, office: &Office, table: &Table) -> Bytes {
        let past = self.past.lock();
        let told = past.complaints.told();
        let problems = past.problems.list();
        block("tick", &message::overview(office, table, &past.history, told, problems))
    }

    /// `None`: there is no such model.
    fn closeup(&self, office: &Office, table: &Table, name: &str) -> Option<Bytes> {
        let model = table.models.iter().find(|model| *model.name == *name)?;
        let past = self.past.lock();
        Some(block("model", &message::closeup(office, model, &past.history)))
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

fn labels(problem: &Problem) -> [String; 3] {
    let model = problem.model.clone().unwrap_or_default();
    [model, problem.code.clone(), problem.severity.name().to_owned()]
}

fn tell(office: &Office, change: Change) {
    let (level, kind, message) = match change {
        Change::Came(problem) => {
            let critical = problem.severity == Severity::Critical;
            let level = if critical { Level::Error } else { Level::Warning };
            (level, "problem", problem.text)
        }
        Change::Over(sentence) => (Level::Info, "recovery", sentence),
    };
    office.events.tell(level, kind, message, "evener", None);
}

/// One event of a stream.
fn block(name: &str, data: &impl Serialize) -> Bytes {
    let mut text = format!("event: {name}\ndata: ").into_bytes();
    serde_json::to_writer(&mut text, data).expect("plain structs are JSON");
    text.extend_from_slice(b"\n\n");
    Bytes::from(text)
}
