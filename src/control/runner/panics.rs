//! Panics of tasks on the timeline, where pages and `evener events` show them.
use super::Runner;
use crate::observe::{Level, Repeats, Task};
use crate::stats::{Clock as _, Moment};
use std::time::Duration;

/// Between two events about one task: a request that makes a task panic may be sent again and again.
const BETWEEN_EVENTS: Duration = Duration::from_mins(1);

/// Which panics were told.
#[derive(Debug)]
pub(super) struct PanicNews {
    told: [u64; Task::ALL.len()],
    repeats: Repeats<Task>,
}

impl Default for PanicNews {
    fn default() -> Self {
        Self { told: [0; Task::ALL.len()], repeats: Repeats::new(BETWEEN_EVENTS) }
    }
}

impl PanicNews {
    /// A sentence for each task that panicked since the last look. `counts`: the panics of each task so far.
    fn sentences(
        &mut self,
        counts: [u64; Task::ALL.len()],
        what: impl Fn(Task) -> String,
        now: Moment,
    ) -> Vec<String> {
        let mut sentences = Vec::new();
        for (i, task) in Task::ALL.into_iter().enumerate() {
            let new = counts[i] - self.told[i];
            if new > 0 && self.repeats.note(task, now).is_some() {
                self.told[i] = counts[i];
                let times = if new == 1 { String::new() } else { format!(" {new} times") };
                let name = task.name();
                sentences.push(format!("`{name}` panicked{times}: {}", what(task)));
            }
        }
        sentences
    }
}

impl Runner {
    /// Tells what panicked since this was called before.
    pub(super) fn tell_panics(&mut self) {
        let counts = Task::ALL.map(Task::panics);
        for sentence in self.panics.sentences(counts, Task::last_panic, self.clock.now()) {
            let message = format!("{sentence}; please report it, with the log");
            self.started.events.tell(Level::Error, "panic", message, "evener", None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_that_panicked_is_told_once_a_minute() {
        let mut news = PanicNews::default();
        let mut look = |probes: u64, exchanges: u64, at: u64| {
            let counts = Task::ALL.map(|task| match task.name() {
                "probe" => probes,
                "exchange" => exchanges,
                _ => 0,
            });
            news.sentences(
                counts,
                |task| format!("x ({}.rs:1)", task.name()),
                Moment::from_millis(at),
            )
        };
        assert_eq!(look(0, 0, 0), [""; 0]);
        assert_eq!(look(1, 0, 1000), ["`probe` panicked: x (probe.rs:1)"]);
        assert_eq!(look(5, 2, 2000), ["`exchange` panicked 2 times: x (exchange.rs:1)"]);
        assert_eq!(look(9, 2, 61_000), ["`probe` panicked 8 times: x (probe.rs:1)"]);
        assert_eq!(look(9, 2, 200_000), [""; 0]);
    }
}
