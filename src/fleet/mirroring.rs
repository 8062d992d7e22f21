//! A request that is being mirrored, and its copy at a replica.
use super::mirror::Mirrored;
use super::model_state::ModelState;
use super::replica::Replica;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A request that is being mirrored. However it ends, it is counted once.
#[derive(Debug)]
pub struct Mirroring {
    model: Arc<ModelState>,
    result: Mirrored,
}

impl Mirroring {
    /// Begins one, if fewer than `most` run.
    pub fn begin(model: &Arc<ModelState>, most: u32) -> Option<Self> {
        let one_more = |running| (running < most).then(|| running + 1);
        if model.mirror.running.fetch_update(Relaxed, Relaxed, one_more).is_err() {
            model.mirror.note(Mirrored::Skipped);
            return None;
        }
        Some(Self { model: Arc::clone(model), result: Mirrored::Abandoned })
    }

    pub fn ended(mut self, result: Mirrored) {
        self.result = result;
    }
}

impl Drop for Mirroring {
    fn drop(&mut self) {
        self.model.mirror.note(self.result);
        self.model.mirror.running.fetch_sub(1, Relaxed);
    }
}

/// A copy at a replica: load, and nothing else. It never speaks for or against a replica that serves clients.
#[derive(Debug)]
pub struct Burden(Arc<Replica>);

impl Burden {
    pub fn on(replica: &Arc<Replica>) -> Self {
        replica.in_flight.fetch_add(1, Relaxed);
        Self(Arc::clone(replica))
    }
}

impl Drop for Burden {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}
