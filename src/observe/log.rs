//! Logs of one JSON object a line, written behind the data path's back: the access log, and that of decisions.
//!
//! The data path hands over a finished line and never waits: when the writer falls behind, lines are dropped and
//! counted. The writer looks for lines many times a second instead of being woken, which spares a system call per
//! request.
use crate::table::{LogPlan, LogTarget, Rotation};
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Lines that may wait for the writer.
const QUEUE: usize = 16 * 1024;
/// How long lines may rest before they are written.
const REST: Duration = Duration::from_millis(50);
/// Bytes gathered before a write.
const CHUNK: usize = 64 * 1024;

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
    writer: Mutex<Option<JoinHandle<()>>>,
    dropped: Arc<AtomicU64>,
}

impl LineLog {
    /// `dropped` counts the lines that are lost because the writer is too slow.
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
        let pen = Pen { name: self.name, plan: plan.clone(), reopen: Arc::clone(&reopen) };
        let out = pen.open()?;
        let (lines, waiting) = sync_channel(QUEUE);
        let writer = std::thread::Builder::new()
            .name(self.name.replace(' ', "-"))
            .spawn(move || pen.write_lines(&waiting, out))?;
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

    /// Closes the log and waits until its lines are written.
    pub fn close(&self) {
        self.sink.store(None);
        if let Some(writer) = self.writer.lock().take() {
            writer.thread().unpark();
            if writer.join().is_err() {
                tracing::error!("the writer of the {} had panicked", self.name);
            }
        }
    }
}

/// What follows from a new plan.
#[derive(Debug)]
pub enum Change {
    None,
    Off,
    To(Sink, JoinHandle<()>),
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
}

/// An open file, or a stream.
struct Out {
    to: Box<dyn Write + Send>,
    /// Bytes in it.
    size: u64,
}

impl Pen {
    fn open(&self) -> io::Result<Out> {
        Ok(match &self.plan.file {
            LogTarget::Stdout => Out { to: Box::new(io::stdout()), size: 0 },
            LogTarget::Stderr => Out { to: Box::new(io::stderr()), size: 0 },
            LogTarget::File(path) => {
                let file = self.append(path)?;
                Out { size: file.metadata()?.len(), to: Box::new(file) }
            }
        })
    }

    fn append(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(path).map_err(|error| {
            let message = format!("cannot open the {} {}: {error}", self.name, path.display());
            io::Error::new(error.kind(), message)
        })
    }

    fn write_lines(&self, waiting: &Receiver<Vec<u8>>, mut out: Out) {
        let mut buffer = Vec::with_capacity(CHUNK);
        loop {
            if self.reopen.swap(false, Relaxed) {
                self.renew(&mut out);
            }
            let ended = gather(waiting, &mut buffer);
            if !buffer.is_empty() {
                self.rotate_for(buffer.len(), &mut out);
                if let Err(error) = out.to.write_all(&buffer).and_then(|()| out.to.flush()) {
                    tracing::error!(%error, "lines of the {} are lost", self.name);
                }
                out.size += buffer.len() as u64;
                buffer.clear();
            }
            if ended {
                return;
            }
        }
    }

    fn renew(&self, out: &mut Out) {
        match self.open() {
            Ok(opened) => *out = opened,
            Err(error) => tracing::error!(%error, "the {} stays where it is", self.name),
        }
    }

    /// Puts the file aside when these bytes would make it too large.
    fn rotate_for(&self, bytes: usize, out: &mut Out) {
        let LogPlan { file: LogTarget::File(path), rotate: Some(rotation), .. } = &self.plan else {
            return;
        };
        if out.size == 0 || out.size + bytes as u64 <= rotation.bytes {
            return;
        }
        if let Err(error) = put_aside(path, rotation) {
            tracing::error!(%error, "the {} cannot be rotated, and grows", self.name);
        }
        self.renew(out);
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
mod tests {
    use super::*;

    /// The files of a log of lines `0`, `1` and so on, each beginning with the newest.
    fn written(lines: u32, bytes: u64, keep: u32) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let rotate = Some(Rotation { bytes, keep });
        let plan = LogPlan { file: LogTarget::File(path.clone()), sample: 1.0, rotate };
        for line in 0..lines {
            // One that was opened anew counts what is there.
            let log = LineLog::new("test log", Arc::default());
            log.commit(log.prepare(Some(&plan)).unwrap());
            log.write(line.to_string().into_bytes());
            log.close();
        }
        let paths = std::iter::once(path.clone()).chain((1..).map(|age| rotated(&path, age)));
        paths.map_while(|path| std::fs::read_to_string(path).ok()).collect()
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_goes() {
        assert_eq!(written(7, 4, 2), ["6\n", "4\n5\n", "2\n3\n"]);
        assert_eq!(written(2, 100, 2), ["0\n1\n"]);
        assert_eq!(written(3, 1, 0), ["2\n"]);
    }
}
