//! What is written of requests: the access log, and their decisions.
use super::decisions::Decisions;
use super::log::{Change, LineLog};
use super::meters::Meters;
use crate::table::Plan;
use std::io;
use std::sync::Arc;

/// What a plan changes in the logs; dropped, it closes what it opened.
#[derive(Debug, Default)]
pub struct LogChanges {
    access: Change,
    decisions: Change,
}

#[derive(Debug)]
pub struct Logs {
    pub access: LineLog,
    pub decisions: Decisions,
}

impl Logs {
    /// Opens what the plan has.
    pub fn open(plan: &Plan, meters: &Meters) -> io::Result<Self> {
        let access = LineLog::new("access log", Arc::clone(&meters.log_dropped));
        let logs =
            Self { access, decisions: Decisions::new(Arc::clone(&meters.decisions_dropped)) };
        let changes = logs.prepare(plan).map_err(|(_, error)| error)?;
        logs.commit(changes);
        Ok(logs)
    }

    /// Opens what the plan has where that is not open already; nothing changes until [`Self::commit`]. An error names
    /// the key whose file cannot be used.
    pub fn prepare(&self, plan: &Plan) -> Result<LogChanges, (&'static str, io::Error)> {
        let access = self.access.prepare(plan.access_log.as_ref());
        let access = access.map_err(|error| ("access_log", error))?;
        let decisions = self.decisions.log.prepare(plan.decision_log.as_ref());
        let decisions = decisions.map_err(|error| ("decision_log", error))?;
        Ok(LogChanges { access, decisions })
    }

    /// Moves or closes them.
    pub fn commit(&self, LogChanges { access, decisions }: LogChanges) {
        self.access.commit(access);
        self.decisions.log.commit(decisions);
    }

    /// Opens the files anew, after they were rotated away.
    pub fn reopen(&self) {
        self.access.reopen();
        self.decisions.log.reopen();
    }

    /// Closes them and waits until their lines are written.
    pub fn close(&self) {
        self.access.close();
        self.decisions.log.close();
    }
}
