//! Panics of tasks: counted by what panicked, logged with their place.
//!
//! A task has a name while it runs, which the panic hook of the process reads. So a panic is counted and logged once,
//! wherever it is caught afterwards.
use super::repeats::Repeats;
use crate::stats::{Clock as _, MonotonicClock};
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Before what panicked starts again; doubled while it panics again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Between two log lines of panics at one place.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// What runs, as the label `task` of `evener_panics_total` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Requests of clients, and the connections that they come on.
    Exchange,
    /// Copies of requests.
    Mirror,
    /// Accepting connections on a listener.
    Accept,
    /// Health checks.
    Probe,
    /// Orders, reloads, canaries, ejections: the one writer.
    Control,
    /// Watching the configuration file.
    Watch,
    /// Watching the files of certificates.
    Certificates,
    Webhook,
    /// Waiting for a process that takes over.
    Takeover,
    /// The admin API and its page.
    Admin,
    /// Writing the access log or the decision log.
    Log,
    /// Sending traces.
    Traces,
    /// Everything without a name.
    Other,
}

impl Task {
    pub const ALL: [Self; 13] = [
        Self::Exchange,
        Self::Mirror,
        Self::Accept,
        Self::Probe,
        Self::Control,
        Self::Watch,
        Self::Certificates,
        Self::Webhook,
        Self::Takeover,
        Self::Admin,
        Self::Log,
        Self::Traces,
        Self::Other,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Mirror => "mirror",
            Self::Accept => "accept",
            Self::Probe => "probe",
            Self::Control => "control",
            Self::Watch => "watch",
            Self::Certificates => "certificates",
            Self::Webhook => "webhook",
            Self::Takeover => "takeover",
            Self::Admin => "admin",
            Self::Log => "log",
            Self::Traces => "traces",
            Self::Other => "other",
        }
    }

    /// Panics so far in this process.
    pub fn panics(self) -> u64 {
        PANICS[self as usize].load(Relaxed)
    }

    /// Message and place of the last one; empty: there was none.
    pub fn last_panic(self) -> String {
        WHAT[self as usize].lock().clone()
    }

    /// Runs `work` under this name.
    pub fn run<T>(self, work: impl FnOnce() -> T) -> T {
        let _name = Name::set(self);
        work()
    }

    /// The future under this name.
    pub fn name_of<F: Future>(self, future: F) -> Named<F> {
        Named { task: self, future }
    }

    /// The future under this name, whose panic is an error.
    pub async fn caught<F: Future>(self, future: F) -> Result<F::Output, Panicked> {
        Caught { future: self.name_of(future) }.await
    }

    /// Starts a task under this name.
    pub fn spawn<F>(self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        tokio::spawn(self.name_of(future))
    }

    /// Runs what `make` makes until it ends by itself. What panics starts again, after a pause that grows while it
    /// panics soon after each start.
    pub async fn keep_running<F: Future>(self, mut make: impl FnMut() -> F) -> F::Output {
        let clock = MonotonicClock::new();
        let mut pause = FIRST_PAUSE;
        loop {
            let began = clock.now();
            if let Ok(ended) = self.caught(make()).await {
                return ended;
            }
            if clock.now().since(began) > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            tracing::warn!(task = self.name(), ?pause, "the task starts again after a panic");
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// A future that panicked. The panic hook has counted and logged it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it panicked; the log says where")]
pub struct Panicked;

static PANICS: [AtomicU64; Task::ALL.len()] = [const { AtomicU64::new(0) }; Task::ALL.len()];
static WHAT: [Mutex<String>; Task::ALL.len()] =
    [const { Mutex::new(String::new()) }; Task::ALL.len()];

/// A panic of one place in a loop must not fill the log. The clock begins with the first panic.
static LOGGED: Mutex<Option<(MonotonicClock, Repeats<String>)>> = Mutex::new(None);

thread_local! {
    static RUNNING: Cell<Task> = const { Cell::new(Task::Other) };
}

/// Gives the thread this name until it is dropped.
struct Name(Task);

impl Name {
    fn set(task: Task) -> Self {
        Self(RUNNING.replace(task))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        RUNNING.set(self.0);
    }
}

pin_project! {
    /// A future that runs under a name.
    #[derive(Debug)]
    pub struct Named<F> {
        task: Task,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Named<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.task.run(|| this.future.poll(cx))
    }
}

pin_project! {
    struct Caught<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Caught<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.project().future;
        // Whoever is told of the panic decides what may still be used.
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    }
}

/// Counts and logs panics from now on, in place of Rust's own message, which could wait for stderr. The log says where
/// a backtrace stands if `RUST_BACKTRACE` asks for one.
pub fn watch_panics() {
    std::panic::set_hook(Box::new(note));
}

fn note(panic: &PanicHookInfo<'_>) {
    let task = RUNNING.get();
    PANICS[task as usize].fetch_add(1, Relaxed);
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload_as_str().unwrap_or("no message");
    *WHAT[task as usize].lock() = format!("{message} ({place})");
    let unlogged = {
        let mut logged = LOGGED.lock();
        let (clock, repeats) =
            logged.get_or_insert_with(|| (MonotonicClock::new(), Repeats::new(BETWEEN_LINES)));
        repeats.note(place.clone(), clock.now())
    };
    let Some(unlogged) = unlogged else { return };
    let (task, backtrace) = (task.name(), Backtrace::capture());
    if backtrace.status() == BacktraceStatus::Captured {
        tracing::error!(task, place, unlogged, "panicked: {message}\n{backtrace}");
    } else {
        tracing::error!(task, place, unlogged, "panicked: {message}");
    }
}

/// As [`watch_panics`], where the messages of other tests are still shown.
#[cfg(test)]
pub(crate) fn watch_panics_in_tests() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            note(panic);
            before(panic);
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_counts_for_its_task_and_says_its_place() {
        watch_panics_in_tests();
        let before = Task::Webhook.panics();
        let ended = Task::Webhook.caught(async { panic!("as {}", "asked") }).await;
        assert_eq!(ended.map(|()| "no panic"), Err(Panicked));
        let what = Task::Webhook.last_panic();
        assert!(what.starts_with("as asked (src/observe/panics.rs:"), "{what}");
        assert_eq!(Task::Webhook.panics(), before + 1);
        assert_eq!(Task::Webhook.caught(async { 1 }).await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_panics_starts_again_until_it_ends_by_itself() {
        let mut starts = 0;
        let ended = Task::Takeover.keep_running(|| {
            starts += 1;
            let start = starts;
            async move { if start < 9 { panic!("start {start}") } else { start } }
        });
        assert_eq!(ended.await, 9);
    }

    #[tokio::test]
    async fn a_name_holds_while_its_future_runs_and_no_longer() {
        let named = Task::Probe.name_of(async {
            let outside = RUNNING.get();
            let inside = Task::Log.run(|| RUNNING.get());
            tokio::task::yield_now().await;
            (outside, inside, RUNNING.get())
        });
        assert_eq!(named.await, (Task::Probe, Task::Log, Task::Probe));
        assert_eq!(RUNNING.get(), Task::Other);
    }
}
