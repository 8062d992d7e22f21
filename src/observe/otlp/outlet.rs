//! Where finished spans go: a bounded queue that the data path never waits for, and the thread behind it.
use super::sender::Sender;
use super::span::Span;
use crate::observe::meters::{Meters, SpanFate};
use crate::observe::panics::Task;
use crate::stats::{Clock as _, Moment, MonotonicClock};
use crate::table::OtlpPlan;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::Thread;
use std::time::Duration;

/// Requests whose spans may wait for the collector.
const QUEUE: usize = 2048;
/// How long the end of the process waits for the last spans to be taken.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Traces on their way to a collector, or nothing where they are switched off.
#[derive(Debug, Default)]
pub struct Traces {
    outlet: ArcSwapOption<Outlet>,
    /// The last is the present one; those before it send what they still have.
    crews: Mutex<Vec<Crew>>,
}

#[derive(Debug)]
struct Outlet {
    plan: OtlpPlan,
    requests: SyncSender<Vec<Span>>,
}

/// The thread that sends.
#[derive(Debug)]
struct Crew {
    thread: Thread,
    /// Nothing more is coming: it sends what it has, and ends.
    leaving: Arc<AtomicBool>,
    /// Never says a word; it is cut when the thread ends.
    ended: Receiver<()>,
}

impl Traces {
    /// Follows the plan: begins, moves or ends. What waits for the present collector is still sent there.
    pub fn configure(&self, plan: Option<&OtlpPlan>, meters: &Arc<Meters>) {
        if self.outlet.load().as_ref().map(|outlet| &outlet.plan) == plan {
            return;
        }
        let Some(plan) = plan else {
            self.outlet.store(None);
            return self.crews.lock().iter().for_each(Crew::leave);
        };
        let (requests, waiting) = sync_channel(QUEUE);
        let (line, ended) = sync_channel(0);
        let leaving = Arc::<AtomicBool>::default();
        let mut sender = Sender::new(plan, waiting, Arc::clone(&leaving), Arc::clone(meters));
        let spawned = std::thread::Builder::new().name("traces".to_owned()).spawn(move || {
            // After a panic, which is counted and logged, it goes on with what waits.
            let mut send = || Task::Traces.run(|| sender.run());
            while catch_unwind(AssertUnwindSafe(&mut send)).is_err() {}
            drop(line);
        });
        match spawned {
            Ok(handle) => {
                self.outlet.store(Some(Arc::new(Outlet { plan: plan.clone(), requests })));
                let thread = handle.thread().clone();
                let mut crews = self.crews.lock();
                crews.retain(|crew| crew.ended.try_recv() == Err(TryRecvError::Empty));
                crews.iter().for_each(Crew::leave);
                crews.push(Crew { thread, leaving, ended });
            }
            Err(error) => tracing::error!(%error, "no thread for traces; they stay as they are"),
        }
    }

    /// The fraction of new traces that is sampled; `None`: no traces are sent.
    pub fn sample(&self) -> Option<f64> {
        self.outlet.load().as_ref().map(|outlet| outlet.plan.sample)
    }

    /// Hands over the spans of a request; never waits.
    pub fn offer(&self, spans: Vec<Span>, meters: &Meters) {
        let (outlet, count) = (self.outlet.load(), spans.len());
        if let Some(outlet) = outlet.as_ref()
            && outlet.requests.try_send(spans).is_err()
        {
            meters.add_spans(SpanFate::QueueFull, count);
        }
    }

    /// Sends what waits, for a moment at most.
    pub fn close(&self) {
        self.outlet.store(None);
        let (crews, clock) = (std::mem::take(&mut *self.crews.lock()), MonotonicClock::new());
        crews.iter().for_each(Crew::leave);
        let late = |crew: &Crew| {
            let left = LAST_WORDS.saturating_sub(clock.now().since(Moment::ZERO));
            crew.ended.recv_timeout(left) == Err(RecvTimeoutError::Timeout)
        };
        if crews.iter().any(late) {
            tracing::warn!("a collector did not take the last spans in time");
        }
    }
}

impl Crew {
    /// Its queue has ended: it need not rest between attempts any more.
    fn leave(&self) {
        self.leaving.store(true, Relaxed);
        self.thread.unpark();
    }
}
