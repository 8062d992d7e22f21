//! The access log: one JSON object a line, written behind the data path's back.
//!
//! The data path hands over a finished line and never waits: when the writer falls behind, lines are dropped and
//! counted. The writer looks for lines many times a second instead of being woken, which spares a system call per
//! request.
use super::meters::Meters;
use crate::table::{AccessLogPlan, LogTarget};
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
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
    sample: f64,
    reopen: Arc<AtomicBool>,
    plan: AccessLogPlan,
}

/// The access log, or nothing where it is switched off.
#[derive(Debug, Default)]
pub struct AccessLog {
    sink: ArcSwapOption<Sink>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl AccessLog {
    /// Follows the plan: opens, moves or closes the log. An error leaves the present log as it is.
    pub fn configure(&self, plan: Option<&AccessLogPlan>) -> io::Result<()> {
        let present = self.sink.load();
        let Some(plan) = plan else {
            self.sink.store(None);
            return Ok(());
        };
        if present.as_ref().is_some_and(|sink| sink.plan == *plan) {
            return Ok(());
        }
        let out = open(&plan.file)?;
        let (lines, waiting) = sync_channel(QUEUE);
        let reopen = Arc::new(AtomicBool::new(false));
        let (target, flag) = (plan.file.clone(), Arc::clone(&reopen));
        let writer = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_lines(&waiting, out, &target, &flag))?;
        *self.writer.lock() = Some(writer);
        self.sink.store(Some(Arc::new(Sink {
            lines,
            sample: plan.sample,
            reopen,
            plan: plan.clone(),
        })));
        Ok(())
    }

    /// Should this request be logged? `chance` is uniform in [0, 1).
    pub fn wants(&self, chance: impl FnOnce() -> f64) -> bool {
        let sink = self.sink.load();
        sink.as_ref().is_some_and(|sink| sink.sample >= 1.0 || chance() < sink.sample)
    }

    /// Hands a line over, without its end; never waits.
    pub fn write(&self, line: Vec<u8>, meters: &Meters) {
        let sink = self.sink.load();
        if let Some(sink) = sink.as_ref()
            && sink.lines.try_send(line).is_err()
        {
            meters.log_dropped.fetch_add(1, Relaxed);
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
                tracing::error!("the access log's writer had panicked");
            }
        }
    }
}

fn open(target: &LogTarget) -> io::Result<Box<dyn Write + Send>> {
    Ok(match target {
        LogTarget::Stdout => Box::new(io::stdout()),
        LogTarget::Stderr => Box::new(io::stderr()),
        LogTarget::File(path) => Box::new(append(path)?),
    })
}

fn append(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot open the access log {}: {error}", path.display()),
        )
    })
}

fn write_lines(
    waiting: &Receiver<Vec<u8>>,
    mut out: Box<dyn Write + Send>,
    target: &LogTarget,
    reopen: &AtomicBool,
) {
    let mut buffer = Vec::with_capacity(CHUNK);
    loop {
        if reopen.swap(false, Relaxed) {
            match open(target) {
                Ok(opened) => out = opened,
                Err(error) => tracing::error!(%error, "the access log stays where it is"),
            }
        }
        let ended = gather(waiting, &mut buffer);
        if !buffer.is_empty() {
            if let Err(error) = out.write_all(&buffer).and_then(|()| out.flush()) {
                tracing::error!(%error, "access log lines are lost");
            }
            buffer.clear();
        }
        if ended {
            return;
        }
    }
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
