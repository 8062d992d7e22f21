//! How many file descriptors are left.
use crate::observe::{most_descriptors, open_descriptors};

/// Seconds between two counts: each lists a folder of as many entries as descriptors are open.
const EVERY: u64 = 5;

/// The last count.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    looks: u64,
    found: Option<(u64, u64)>,
}

impl Descriptors {
    /// Called once a second. Returns those in use and their limit, once four fifths of it are used.
    /// `connections` of clients: each has another one to a replica, at most.
    pub(super) fn look(&mut self, connections: usize) -> Option<(u64, u64)> {
        if self.looks.is_multiple_of(EVERY) {
            self.found = count(connections as u64);
        }
        self.looks += 1;
        self.found
    }
}

fn count(connections: u64) -> Option<(u64, u64)> {
    let limit = most_descriptors()?;
    // Far from it: there is no need to count.
    if 4 * connections < limit && limit > 1024 {
        return None;
    }
    let used = open_descriptors().ok()?;
    (5 * used >= 4 * limit).then_some((used, limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_few_connections_is_far_from_its_limit() {
        assert_eq!(Descriptors::default().look(3), None);
    }
}
