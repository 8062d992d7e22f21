//! The thread that writes the state. It alone waits for the disk: one that hangs keeps nothing from being decided.
use super::state::StateDir;
use crate::observe::Task;
use crate::stats::Moment;
use crate::table::Overrides;
use parking_lot::{Condvar, Mutex};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

/// A disk that has not answered for so long hangs, as far as anybody who waits for it is told.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What is to be done. However long the disk takes, it is no more than this: of several states the newest counts.
#[derive(Debug, Default)]
struct Todo {
    /// The number of the job that was given last.
    number: u64,
    save: Option<Box<Overrides>>,
    /// Somebody else may have written: the next save writes whatever is there.
    forget: bool,
    /// Nobody gives work any more.
    over: bool,
}

/// Where work is given, and taken.
#[derive(Debug, Default)]
struct Desk {
    todo: Mutex<Todo>,
    given: Condvar,
}

/// What became of a job, and of all before it.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) number: u64,
    /// Nothing was to be written.
    pub(super) only_checked: bool,
    pub(super) result: io::Result<()>,
}

/// Who writes the state.
#[derive(Debug)]
pub(super) struct Scribe {
    desk: Arc<Desk>,
    written: UnboundedReceiver<Written>,
    lock: OwnedFd,
    /// The number of the last job.
    last: u64,
    answered: u64,
    /// Since when the disk owes an answer, where it owes one.
    since: Moment,
}

impl Scribe {
    /// Begins to write into this directory. `before`: who wrote until now, which ends when its disk lets it.
    pub(super) fn start(state: StateDir, before: Option<&Self>) -> io::Result<Self> {
        let last = before.map_or(0, |before| before.last);
        let lock = state.lock().try_clone_to_owned()?;
        let (desk, (tell, written)) = (Arc::<Desk>::default(), unbounded_channel());
        let todo = Arc::clone(&desk);
        thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || Task::Control.run(|| write_all(state, &todo, &tell)))?;
        Ok(Self { desk, written, lock, last, answered: last, since: Moment::ZERO })
    }

    /// Has this written, unless something newer is to be when its turn comes. Returns the job's number.
    pub(super) fn save(&mut self, overrides: &Overrides, now: Moment) -> u64 {
        let overrides = Box::new(overrides.clone());
        self.give(|todo| todo.save = Some(overrides), now)
    }

    /// The number of the next job.
    pub(super) fn next(&self) -> u64 {
        self.last + 1
    }

    /// Finds out whether the state could be written, unless that is about to be seen anyway.
    pub(super) fn check(&mut self, now: Moment) {
        if self.last == self.answered {
            self.give(|_| {}, now);
        }
    }

    pub(super) fn forget(&mut self, now: Moment) {
        self.give(|todo| todo.forget = true, now);
    }

    fn give(&mut self, job: impl FnOnce(&mut Todo), now: Moment) -> u64 {
        if self.last == self.answered {
            self.since = now;
        }
        self.last += 1;
        let mut todo = self.desk.todo.lock();
        todo.number = self.last;
        job(&mut todo);
        self.desk.given.notify_one();
        self.last
    }

    /// What became of a job, when that is known. Dropping the future loses nothing.
    pub(super) async fn answers(&mut self) -> Option<Written> {
        self.written.recv().await
    }

    /// Waits for the answer to this job, as long as a disk may take that does not hang.
    pub(super) async fn answer_to(&mut self, number: u64) -> io::Result<Written> {
        let answering = async {
            while let Some(written) = self.answers().await {
                if written.number >= number {
                    return Some(written);
                }
            }
            None
        };
        let answered = timeout(PATIENCE, answering).await;
        answered.ok().flatten().ok_or_else(|| hangs(PATIENCE))
    }

    /// Takes note of an answer that came at `now`.
    pub(super) fn note(&mut self, written: &Written, now: Moment) {
        (self.answered, self.since) = (written.number, now);
    }

    /// How long the disk has owed an answer.
    pub(super) fn silence(&self, now: Moment) -> Option<Duration> {
        (self.answered < self.last).then(|| now.since(self.since))
    }

    /// For whoever takes the directory over.
    pub(super) fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

/// What is told of a disk that has not answered for so long.
pub(super) fn hangs(silence: Duration) -> io::Error {
    let why = format!("the disk has not answered for {} s", silence.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, why)
}

impl Drop for Scribe {
    fn drop(&mut self) {
        self.desk.todo.lock().over = true;
        self.desk.given.notify_one();
    }
}

impl Desk {
    /// The next work; `None`: there will be none after that of the number `done`.
    fn next(&self, done: u64) -> Option<Todo> {
        let mut todo = self.todo.lock();
        while todo.number <= done && !todo.over {
            self.given.wait(&mut todo);
        }
        if todo.number <= done {
            return None;
        }
        let Todo { number, over, .. } = *todo;
        Some(std::mem::replace(&mut *todo, Todo { number, over, ..Todo::default() }))
    }
}

/// Works until nobody gives work any more, and all of it is done.
fn write_all(mut state: StateDir, desk: &Desk, tell: &UnboundedSender<Written>) {
    let mut done = 0;
    while let Some(Todo { number, save, forget, .. }) = desk.next(done) {
        done = number;
        if forget {
            state.forget_written();
        }
        let only_checked = save.is_none();
        let writing = || {
            state.check()?;
            save.map_or(Ok(()), |overrides| state.save(&overrides))
        };
        let result = catch_unwind(AssertUnwindSafe(writing)).unwrap_or_else(|_| {
            Err(io::Error::other("Evener panicked while it wrote; its log says where"))
        });
        // Who gave the work may have left.
        tell.send(Written { number, only_checked, result }).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Hold;

    fn drained(reason: &str) -> Overrides {
        let mut overrides = Overrides::default();
        let hold = Hold { ends: None, reason: Some(reason.to_owned()) };
        overrides.drained.0.insert(("m".into(), "v".into(), None), hold);
        overrides
    }

    fn loaded(path: &std::path::Path) -> Overrides {
        let mut state = StateDir::open(path).unwrap();
        state.load(Moment::ZERO, jiff::Timestamp::UNIX_EPOCH).unwrap()
    }

    #[tokio::test]
    async fn the_newest_is_written_and_its_number_told() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let mut scribe = Scribe::start(state, None).unwrap();
        let last = ["first", "second", "last"]
            .map(|reason| scribe.save(&drained(reason), Moment::ZERO))[2];
        loop {
            let written = scribe.answers().await.unwrap();
            written.result.as_ref().unwrap();
            assert!(!written.only_checked);
            scribe.note(&written, Moment::from_millis(7));
            if written.number == last {
                break;
            }
        }
        assert_eq!(scribe.silence(Moment::from_millis(9)), None);
        drop(scribe);
        // The thread lets go of the directory when it ends.
        while StateDir::open(dir.path()).is_err() {
            tokio::task::yield_now().await;
        }
        assert_eq!(loaded(dir.path()).drained, drained("last").drained);
    }

    #[tokio::test]
    async fn a_disk_owes_an_answer_from_the_first_job_that_it_has_not_answered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let mut scribe = Scribe::start(StateDir::open(&path).unwrap(), None).unwrap();
        std::fs::remove_dir_all(&path).unwrap();
        let at = Moment::from_millis;
        assert_eq!(scribe.silence(at(1_000)), None);
        scribe.check(at(1_000));
        // It is asked already.
        scribe.check(at(2_000));
        assert_eq!(scribe.silence(at(5_000)), Some(Duration::from_secs(4)));
        let written = scribe.answers().await.unwrap();
        assert!(written.only_checked && written.result.is_err());
        scribe.note(&written, at(6_000));
        assert_eq!(scribe.silence(at(9_000)), None);
    }
}
