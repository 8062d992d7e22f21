//! Logs of one JSON object a line, each written by a thread of its own: the access log, and that of decisions.
//!
//! The data path hands over a finished line and never waits: when the writer falls behind, or its file cannot be
//! written, lines are dropped and counted. The writer looks for lines many times a second instead of being woken, which spares a system call per
//! request.
use super::lines::{Lost, count, write_lines};
use super::panics::Task;
use crate::table::{LogPlan, LogTarget, Rotation};
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::Thread;
use std::time::Duration;

/// Lines that may wait for the writer.
const QUEUE: usize = 16 * 1024;
/// How long lines may rest before they are written.
const REST: Duration = Duration::from_millis(50);
/// Bytes gathered before a write.
const CHUNK: usize = 64 * 1024;
/// How long the end of the process waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(2);
/// Of files that are made here.
const MODE: u32 = 0o640;

/// Where lines go at present.
#[derive(Debug)]
pub struct Sink {
    lines: SyncSender<Vec<u8>>,
    reopen: Arc<AtomicBool>,
    plan: LogPlan,
}

/// A log, or nothing where it is switched off.
#[derive(Debug)]
pub struct LineLog {
    /// Of its thread, and in messages.
    name: &'static str,
    sink: ArcSwapOption<Sink>,
    writer: Mutex<Option<Writer>>,
    dropped: Arc<AtomicU64>,
}

/// The thread that writes.
#[derive(Debug)]
pub struct Writer {
    thread: Thread,
    /// Never gets a message; it is cut when the thread ends.
    ended: Receiver<()>,
}

impl LineLog {
    /// `dropped` counts the lines that are lost: the writer is too slow, or its file cannot be written.
    pub fn new(name: &'static str, dropped: Arc<AtomicU64>) -> Self {
        let (sink, writer) = (ArcSwapOption::default(), Mutex::default());
        Self { name, sink, writer, dropped }
    }

    /// Opens what the plan asks for, where that is not open already; nothing changes until [`Self::commit`].
    pub fn prepare(&self, plan: Option<&LogPlan>) -> io::Result<Change> {
        let Some(plan) = plan else { return Ok(Change::Off) };
        if self.sink.load().as_ref().is_some_and(|sink| sink.plan == *plan) {
            return Ok(Change::None);
        }
        let reopen = Arc::new(AtomicBool::new(false));
        let mut pen = Pen {
            name: self.name,
            plan: plan.clone(),
            reopen: Arc::clone(&reopen),
            dropped: Arc::clone(&self.dropped),
            out: Out::open(self.name, plan)?,
            buffer: Vec::with_capacity(CHUNK),
            failing: None,
        };
        let (lines, waiting) = sync_channel(QUEUE);
        let (line, ended) = sync_channel(0);
        let thread =
            std::thread::Builder::new().name(self.name.replace(' ', "-")).spawn(move || {
                // After a panic, which is counted and logged, it goes on with what waits.
                let mut write = || Task::Log.run(|| pen.write_lines(&waiting));
                while catch_unwind(AssertUnwindSafe(&mut write)).is_err() {}
                drop(line);
            })?;
        let writer = Writer { thread: thread.thread().clone(), ended };
        Ok(Change::To(Sink { lines, reopen, plan: plan.clone() }, writer))
    }

    pub fn commit(&self, change: Change) {
        match change {
            Change::None => {}
            Change::Off => self.sink.store(None),
            Change::To(sink, writer) => {
                *self.writer.lock() = Some(writer);
                self.sink.store(Some(Arc::new(sink)));
            }
        }
    }

    /// Should this request be logged? `chance` is uniform in [0, 1).
    pub fn wants(&self, chance: impl FnOnce() -> f64) -> bool {
        let sink = self.sink.load();
        sink.as_ref().is_some_and(|sink| sink.plan.sample >= 1.0 || chance() < sink.plan.sample)
    }

    /// Hands a line over, without its end; never waits.
    pub fn write(&self, line: Vec<u8>) {
        let sink = self.sink.load();
        if let Some(sink) = sink.as_ref()
            && sink.lines.try_send(line).is_err()
        {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Opens the file anew, after it was rotated away.
    pub fn reopen(&self) {
        if let Some(sink) = self.sink.load().as_ref() {
            sink.reopen.store(true, Relaxed);
        }
    }

    /// Closes the log and waits until its lines are written, but not for ever: a pipe that nobody reads takes none.
    pub fn close(&self) {
        self.sink.store(None);
        if let Some(Writer { thread, ended }) = self.writer.lock().take() {
            thread.unpark();
            if ended.recv_timeout(LAST_LINES) == Err(RecvTimeoutError::Timeout) {
                tracing::warn!("the last lines of the {} could not be written in time", self.name);
            }
        }
    }
}

/// What follows from a new plan.
#[derive(Debug, Default)]
pub enum Change {
    #[default]
    None,
    Off,
    To(Sink, Writer),
}

/// The file before the newest, and those before it.
pub fn rotated(path: &Path, age: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{age}"));
    name.into()
}

/// What the writer's thread has.
struct Pen {
    name: &'static str,
    plan: LogPlan,
    reopen: Arc<AtomicBool>,
    dropped: Arc<AtomicU64>,
    out: Out,
    /// Taken from the queue, and not written yet.
    buffer: Vec<u8>,
    /// Lines lost since one was written; `None`: the last were written.
    failing: Option<u64>,
}

/// An open file, or a stream.
struct Out {
    to: File,
    /// Bytes in it.
    size: u64,
    at_line_start: bool,
}

impl Out {
    fn open(name: &str, plan: &LogPlan) -> io::Result<Self> {
        // Streams without the buffer of the standard library, which hides what was written and what was not.
        let to = match &plan.file {
            LogTarget::Stdout => File::from(io::stdout().as_fd().try_clone_to_owned()?),
            LogTarget::Stderr => File::from(io::stderr().as_fd().try_clone_to_owned()?),
            LogTarget::File(path) => append(name, path)?,
        };
        let size = if matches!(plan.file, LogTarget::File(_)) { to.metadata()?.len() } else { 0 };
        Ok(Self { to, size, at_line_start: true })
    }
}

/// Others than the owner's group need not read who asked what. Opening a pipe without a reader fails instead of waiting.
fn append(name: &str, path: &Path) -> io::Result<File> {
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(MODE).custom_flags(nonblocking);
    options.open(path).map_err(|error| {
        let message = format!("cannot open the {name} {}: {error}", path.display());
        io::Error::new(error.kind(), message)
    })
}

impl Pen {
    fn write_lines(&mut self, waiting: &Receiver<Vec<u8>>) {
        loop {
            if self.reopen.swap(false, Relaxed) {
                self.renew();
            }
            let ended = gather(waiting, &mut self.buffer);
            if !self.buffer.is_empty() {
                self.write();
            }
            if ended {
                return;
            }
        }
    }

    fn write(&mut self) {
        let written = self.put();
        self.buffer.clear();
        match (written, self.failing) {
            (Ok(()), None) => {}
            (Ok(()), Some(lost)) => {
                tracing::info!(lost, "the {} is written again", self.name);
                self.failing = None;
            }
            (Err(Lost { lines, why }), before) => {
                self.dropped.fetch_add(lines, Relaxed);
                if before.is_none() {
                    let name = self.name;
                    tracing::error!(%why, "the {name} cannot be written; its lines are lost");
                }
                self.failing = Some(before.unwrap_or(0) + lines);
            }
        }
    }

    fn put(&mut self) -> Result<(), Lost> {
        if self.is_removed() {
            // Lines in a file without a name are lost as well.
            self.out = Out::open(self.name, &self.plan)
                .map_err(|why| Lost { lines: count(&self.buffer), why })?;
        }
        self.rotate_for(self.buffer.len());
        let Out { to, size, at_line_start } = &mut self.out;
        *size += self.buffer.len() as u64;
        write_lines(&self.buffer, to, CHUNK, at_line_start)
    }

    /// Was the file removed, or its folder?
    fn is_removed(&self) -> bool {
        matches!(self.plan.file, LogTarget::File(_))
            && self.out.to.metadata().is_ok_and(|file| file.is_file() && file.nlink() == 0)
    }

    fn renew(&mut self) {
        match Out::open(self.name, &self.plan) {
            Ok(opened) => self.out = opened,
            Err(error) => tracing::error!(%error, "the {} stays where it is", self.name),
        }
    }

    /// Puts the file aside when these bytes would make it too large.
    fn rotate_for(&mut self, bytes: usize) {
        let LogPlan { file: LogTarget::File(path), rotate: Some(rotation), .. } = &self.plan else {
            return;
        };
        if self.out.size == 0 || self.out.size + bytes as u64 <= rotation.bytes {
            return;
        }
        if let Err(error) = put_aside(path, rotation) {
            tracing::error!(%error, "the {} cannot be rotated, and grows", self.name);
        }
        self.renew();
    }
}

fn put_aside(path: &Path, rotation: &Rotation) -> io::Result<()> {
    for age in (1..rotation.keep).rev() {
        let older = rotated(path, age);
        if older.exists() {
            std::fs::rename(older, rotated(path, age + 1))?;
        }
    }
    if rotation.keep == 0 {
        return std::fs::remove_file(path);
    }
    std::fs::rename(path, rotated(path, 1))
}

/// Takes what waits, up to a chunk, then rests. Returns whether the log was closed.
fn gather(waiting: &Receiver<Vec<u8>>, buffer: &mut Vec<u8>) -> bool {
    let mut closed = false;
    while buffer.len() < CHUNK {
        match waiting.try_recv() {
            Ok(line) => {
                buffer.extend_from_slice(&line);
                buffer.push(b'\n');
            }
            Err(TryRecvError::Empty) => break,
            Err(TryRecvError::Disconnected) => {
                closed = true;
                break;
            }
        }
    }
    if buffer.is_empty() && !closed {
        std::thread::park_timeout(REST);
    }
    closed
}

#[cfg(test)]
mod tests;
