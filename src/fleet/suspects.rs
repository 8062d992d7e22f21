//! Replicas that wait for a ruling of the control path: seldom any, so that one lock for all is no burden.
use super::replica::Replica;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub struct Suspects {
    waiting: Mutex<Vec<Arc<Replica>>>,
    news: Notify,
}

impl Suspects {
    /// Asks for a ruling; once, until it is given.
    pub fn add(&self, replica: &Arc<Replica>) {
        if !replica.suspected.swap(true, Relaxed) {
            self.waiting.lock().push(Arc::clone(replica));
            self.news.notify_one();
        }
    }

    /// Waits until somebody waits.
    pub async fn wait(&self) {
        self.news.notified().await;
    }

    /// All that wait.
    pub fn take(&self) -> Vec<Arc<Replica>> {
        let all = std::mem::take(&mut *self.waiting.lock());
        for replica in &all {
            replica.suspected.store(false, Relaxed);
        }
        all
    }
}
