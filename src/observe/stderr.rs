//! The log goes to stderr through a bounded queue: a reader that is slow or gone never holds up who logs.
//!
//! A thread of its own writes, so only that thread waits for a full pipe. A line that finds no room, or that stderr
//! refuses, is lost and counted, and the log says how many were lost as soon as lines get through again.
use super::lines::{Lost, write_lines};
use parking_lot::{Condvar, Mutex};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes that may wait for the writer.
const ROOM: usize = 1 << 20;
/// A pipe takes so many bytes at once or none (`PIPE_BUF`), so lines of two processes do not mix.
const CHUNK: usize = 4096;

/// The queue of this process.
static QUEUE: LogQueue = LogQueue::new(ROOM);

/// Where a subscriber of `tracing` writes: each call of `write` is one event.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        QUEUE.push(event);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Log lines of this process that were lost.
pub fn log_lines_dropped() -> u64 {
    QUEUE.lost.load(Relaxed)
}

/// The thread that writes to stderr what [`LogWriter`] is given.
#[derive(Debug)]
pub struct LogThread(JoinHandle<()>);

/// Starts that thread.
pub fn write_log_to_stderr() -> io::Result<LogThread> {
    // A descriptor of its own: the lock of the standard library would be held as long as a write waits.
    let mut stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let thread = std::thread::Builder::new().name("log".to_owned());
    let thread = thread.spawn(move || {
        // The writer logs its own losses, and what formats them is code as any other.
        let mut write = || catch_unwind(AssertUnwindSafe(|| QUEUE.write_next(&mut stderr, say)));
        while write().unwrap_or(true) {}
    })?;
    Ok(LogThread(thread))
}

impl LogThread {
    /// Waits until everything logged so far is written or lost, but no longer than `limit`, and ends the thread.
    pub fn end(self, limit: Duration) {
        if QUEUE.flush(limit) {
            QUEUE.end();
            self.0.join().ok();
        }
    }
}

fn say(lost: u64) {
    tracing::warn!(lost, "log lines were lost, because stderr did not take them");
}

/// Lines on their way to a writer.
#[derive(Debug)]
struct LogQueue {
    room: usize,
    state: Mutex<State>,
    /// Something waits.
    filled: Condvar,
    /// Nothing waits, and nothing is being written.
    emptied: Condvar,
    lost: AtomicU64,
    /// Lost lines that the log has not mentioned yet.
    unsaid: AtomicU64,
}

#[derive(Debug)]
struct State {
    waiting: Vec<u8>,
    writing: bool,
    ended: bool,
    /// The last byte that was written ended a line.
    at_line_start: bool,
}

impl LogQueue {
    const fn new(room: usize) -> Self {
        let state =
            State { waiting: Vec::new(), writing: false, ended: false, at_line_start: true };
        Self {
            room,
            state: Mutex::new(state),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            lost: AtomicU64::new(0),
            unsaid: AtomicU64::new(0),
        }
    }

    /// Adds one or more whole lines, or loses them.
    fn push(&self, lines: &[u8]) {
        let mut state = self.state.lock();
        if state.waiting.len() + lines.len() > self.room {
            drop(state);
            return self.lose(1);
        }
        state.waiting.extend_from_slice(lines);
        drop(state);
        self.filled.notify_one();
    }

    fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Relaxed);
        self.unsaid.fetch_add(lines, Relaxed);
    }

    /// Waits for lines and writes them. `say` is told how many were lost, once lines get through again. Returns whether
    /// more may come.
    fn write_next(&self, out: &mut impl Write, say: impl FnOnce(u64)) -> bool {
        let mut state = self.state.lock();
        state.writing = false;
        while state.waiting.is_empty() {
            self.emptied.notify_all();
            if state.ended {
                return false;
            }
            self.filled.wait(&mut state);
        }
        let lines = std::mem::take(&mut state.waiting);
        state.writing = true;
        let mut at_line_start = state.at_line_start;
        drop(state);
        let written = write_lines(&lines, out, CHUNK, &mut at_line_start);
        self.state.lock().at_line_start = at_line_start;
        if let Err(Lost { lines, .. }) = written {
            self.lose(lines);
            return true;
        }
        let unsaid = self.unsaid.swap(0, Relaxed);
        if unsaid > 0 {
            say(unsaid);
        }
        true
    }

    fn end(&self) {
        self.state.lock().ended = true;
        self.filled.notify_one();
    }

    /// Returns whether all is written or lost.
    fn flush(&self, limit: Duration) -> bool {
        let mut state = self.state.lock();
        // Only an empty queue wakes this, so the limit holds for the whole and not for each batch.
        while state.writing || !state.waiting.is_empty() {
            if self.emptied.wait_for(&mut state, limit).timed_out() {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then nothing until it is told to.
    #[derive(Default)]
    struct Disk {
        room: usize,
        text: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = bytes.len().min(self.room);
            if n == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= n;
            self.text.extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Disk {
        fn text(&self) -> &str {
            std::str::from_utf8(&self.text).unwrap()
        }
    }

    #[test]
    fn what_finds_no_room_is_lost_and_counted() {
        let queue = LogQueue::new(10);
        for line in ["one\n", "two\n", "three\n", "4\n"] {
            queue.push(line.as_bytes());
        }
        let (mut disk, mut said) = (Disk { room: 100, ..Disk::default() }, 0);
        queue.write_next(&mut disk, |lost| said = lost);
        assert_eq!(disk.text(), "one\ntwo\n4\n");
        assert_eq!((queue.lost.load(Relaxed), said), (1, 1));
    }

    #[test]
    fn after_a_full_disk_lines_begin_at_the_line_start_and_the_lost_ones_are_told() {
        let queue = LogQueue::new(1000);
        let mut disk = Disk { room: 6, ..Disk::default() };
        queue.push(b"one\ntwo\nthree\n");
        queue.write_next(&mut disk, |_| panic!("nothing gets through"));
        assert_eq!(disk.text(), "one\ntw");
        queue.push(b"lost\n");
        queue.write_next(&mut disk, |_| panic!("nothing gets through"));
        disk.room = 100;
        queue.push(b"four\n");
        let mut said = 0;
        queue.write_next(&mut disk, |lost| said = lost);
        assert_eq!(disk.text(), "one\ntw\nfour\n");
        assert_eq!((queue.lost.load(Relaxed), said), (3, 3));
        queue.push(b"five\n");
        queue.write_next(&mut disk, |_| panic!("it was said already"));
    }

    #[test]
    fn a_flush_returns_when_all_is_written_or_its_time_is_over() {
        let queue: &'static LogQueue = Box::leak(Box::new(LogQueue::new(1000)));
        assert!(queue.flush(Duration::from_mins(1)));
        queue.push(b"one\n");
        assert!(!queue.flush(Duration::from_millis(1)));
        let (wrote, written) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut disk = Disk { room: 100, ..Disk::default() };
            while queue.write_next(&mut disk, |_| {}) {}
            wrote.send(disk.text).unwrap();
        });
        assert!(queue.flush(Duration::from_mins(1)));
        queue.end();
        assert_eq!(written.recv().unwrap(), b"one\n");
    }
}
