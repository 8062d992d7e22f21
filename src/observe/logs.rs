//! What is written of requests: the access log, and their decisions.
use super::decisions::Decisions;
use super::log::LineLog;
use super::meters::Meters;
use crate::table::Plan;
use std::io;
use std::sync::Arc;

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
        logs.follow(plan).map_err(|(_, error)| error)?;
        Ok(logs)
    }

    /// Opens, moves or closes them, all or none: an error names the key whose file cannot be used.
    pub fn follow(&self, plan: &Plan) -> Result<(), (&'static str, io::Error)> {
        let access = self.access.prepare(plan.access_log.as_ref());
        let access = access.map_err(|error| ("access_log", error))?;
        let decisions = self.decisions.log.prepare(plan.decision_log.as_ref());
        let decisions = decisions.map_err(|error| ("decision_log", error))?;
        self.access.commit(access);
        self.decisions.log.commit(decisions);
        Ok(())
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
