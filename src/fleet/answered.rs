//! What requests for a model were answered: what finds that nobody gets a good answer, and why.
use crate::health::Reply;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts since the process began.
#[derive(Debug, Default)]
pub struct Answered {
    replies: [AtomicU64; Reply::ALL.len()],
    /// A bit for each client that got no good answer since somebody looked, by its hash.
    clients: AtomicU64,
    unknown_models: AtomicU64,
    /// The paths that were answered well: a bit for each, by its hash.
    good_paths: AtomicU64,
}

fn bit_of(path: &str) -> u64 {
    1 << (xxhash_rust::xxh3::xxh3_64(path.as_bytes()) % 64)
}

impl Answered {
    /// A request of `client` was answered so.
    pub fn note(&self, reply: Reply, client: u64) {
        self.replies[reply as usize].fetch_add(1, Relaxed);
        if reply != Reply::Good {
            self.clients.fetch_or(1 << (client % 64), Relaxed);
        }
    }

    /// By [`Reply::ALL`].
    pub fn replies(&self) -> [u64; Reply::ALL.len()] {
        std::array::from_fn(|i| self.replies[i].load(Relaxed))
    }

    /// A bit for each client that got no good answer since the last call.
    pub fn take_clients(&self) -> u64 {
        self.clients.swap(0, Relaxed)
    }

    /// A request for a model was answered well.
    pub fn note_good(&self, path: &str) {
        let bit = bit_of(path);
        if self.good_paths.load(Relaxed) & bit == 0 {
            self.good_paths.fetch_or(bit, Relaxed);
        }
    }

    /// Were other paths answered well, and this one never? Then a 404 says that the replica lacks the path.
    pub fn lacks(&self, path: &str) -> bool {
        let good = self.good_paths.load(Relaxed);
        good != 0 && good & bit_of(path) == 0
    }

    /// A request for a model was answered with 404 on a path that is there: the replica may serve another model.
    pub fn note_unknown_model(&self) {
        self.unknown_models.fetch_add(1, Relaxed);
    }

    /// Answers that may say that the model is unknown.
    pub fn unknown_models(&self) -> u64 {
        self.unknown_models.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_missing_says_nothing_of_the_model() {
        let (chat, embeddings) = ("/v1/chat/completions", "/v1/embeddings");
        let answered = Answered::default();
        assert!(!answered.lacks(embeddings), "nothing is known to work");
        answered.note_good(chat);
        assert!(answered.lacks(embeddings) && !answered.lacks(chat));
        answered.note_good(embeddings);
        assert!(!answered.lacks(embeddings));
    }
}
