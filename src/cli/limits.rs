//! The limit of open files: each connection is one.
use rustix::process::{Resource, getrlimit, setrlimit};

/// The most that a process here may have.
pub(super) fn highest() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// Takes as many as the system allows. Returns how many those are.
pub(super) fn raise() -> u64 {
    let before = getrlimit(Resource::Nofile);
    let mut wanted = before;
    wanted.current = wanted.maximum;
    let has = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => wanted.current,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files stays as it is");
            before.current
        }
    };
    has.unwrap_or(u64::MAX)
}
