//! The look at everything, once a second, shared by all who read.
use super::{Frame, Live, block, facts, message};
use crate::admin::office::Office;
use crate::observe::Level;
use crate::problems::{Change, Problem, Severity};
use crate::stats::Clock as _;
use crate::table::Table;
use axum::body::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

const EVERY: Duration = Duration::from_secs(1);

/// Looks once a second, for as long as it is polled; the first time a second from now.
pub(in crate::admin) async fn watch(office: &Office) {
    let mut seconds = interval(EVERY);
    seconds.reset();
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        seconds.tick().await;
        look(office);
    }
}

/// Looks at everything, and tells those who read. What a version served before the first look at it is in no percentile.
pub(in crate::admin) fn look(office: &Office) {
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

    fn frame(&self, office: &Office, table: &Table) -> Frame {
        let looked_at: Vec<String> = self.looked_at.lock().keys().cloned().collect();
        let with_name = |name: String| Some((self.closeup(office, table, &name)?, name));
        let closeups = looked_at.into_iter().filter_map(with_name);
        Frame {
            overview: self.overview(office, table),
            closeups: closeups.map(|(bytes, name)| (name, bytes)).collect(),
        }
    }

    pub(super) fn overview(&self, office: &Office, table: &Table) -> Bytes {
        let past = self.past.lock();
        let told = past.complaints.told();
        let problems = past.problems.list();
        block("tick", &message::overview(office, table, &past.history, told, problems))
    }

    /// `None`: there is no such model.
    pub(super) fn closeup(&self, office: &Office, table: &Table, name: &str) -> Option<Bytes> {
        let model = table.models.iter().find(|model| *model.name == *name)?;
        let past = self.past.lock();
        Some(block("model", &message::closeup(office, model, &past.history)))
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
