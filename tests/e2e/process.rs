//! A process under test, who reads what it says, and what it may use.
use crate::site::{eventually, until};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

/// Who reads stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reader {
    #[default]
    Collects,
    /// Nobody, from the start.
    Leaves,
    /// It is there, and its pipe of 4 KiB fills up.
    ReadsNothing,
    IsSlow,
    FullDisk,
}

/// How an Evener is started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Launch {
    pub(crate) flags: &'static [&'static str],
    pub(crate) reader: Reader,
    /// Logs each request.
    pub(crate) debug: bool,
    /// The limit of open files.
    pub(crate) files: Option<u32>,
    /// Its disk hangs while this file is in its directory.
    pub(crate) hangs_while: Option<&'static str>,
}

impl Launch {
    pub(crate) fn read_by(reader: Reader) -> Self {
        Self { reader, ..Self::default() }
    }

    pub(crate) const TAKEOVER: Self = Self {
        flags: &["--takeover"],
        reader: Reader::Collects,
        debug: false,
        files: None,
        hangs_while: None,
    };
}

/// A process, and what it said.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    stdout: Arc<Mutex<Vec<String>>>,
    stderr: Arc<Mutex<Vec<String>>>,
    /// The threads that read both.
    readers: Vec<JoinHandle<()>>,
    _unread: Option<ChildStderr>,
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "a failed test shows what the process said last")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.stderr.lock();
            let status = self.child.try_wait();
            eprintln!("{status:?}\n{}", said[said.len().saturating_sub(15)..].join("\n"));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Process {
    pub(crate) fn spawn(file: &Path, cwd: &Path, launch: &Launch) -> Self {
        // Another binary may be put to the test: one of a release, an installed one.
        let binary = std::env::var_os("EVENER_BINARY")
            .map_or_else(|| env!("CARGO_BIN_EXE_evener").into(), PathBuf::from);
        let binary = binary.canonicalize().unwrap();
        let mut command = match launch.files {
            None => Command::new(binary),
            Some(files) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")]).arg(binary);
                shell
            }
        };
        command.arg("run").args(launch.flags).arg("-c").arg(file).stdin(Stdio::null());
        if launch.debug {
            command.env("EVENER_LOG", "debug");
        }
        if let Some(name) = launch.hangs_while {
            command.env("LD_PRELOAD", hanging_disk()).env("HANGS_WHILE", cwd.join(name));
        }
        Self::read_by(launch.reader, command, cwd)
    }

    /// Starts a command whose input a test may have set.
    pub(crate) fn begin(command: Command, cwd: &Path) -> Self {
        Self::read_by(Reader::Collects, command, cwd)
    }

    fn read_by(reader: Reader, mut command: Command, cwd: &Path) -> Self {
        let stderr = match reader {
            Reader::FullDisk => OpenOptions::new().write(true).open("/dev/full").unwrap().into(),
            Reader::Collects | Reader::Leaves | Reader::ReadsNothing | Reader::IsSlow => {
                Stdio::piped()
            }
        };
        command.current_dir(cwd).env_remove("STATE_DIRECTORY");
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let mut readers = vec![collect(child.stdout.take().unwrap(), &stdout)];
        let mut unread = None;
        match (child.stderr.take(), reader) {
            (None, _) => {}
            (Some(pipe), Reader::Collects) => readers.push(collect(pipe, &stderr)),
            (Some(pipe), Reader::IsSlow) => read_slowly(pipe),
            (Some(pipe), Reader::ReadsNothing) => {
                rustix::pipe::fcntl_setpipe_size(&pipe, 4096).unwrap();
                unread = Some(pipe);
            }
            (Some(pipe), Reader::Leaves | Reader::FullDisk) => drop(pipe),
        }
        Self { child, stdout, stderr, readers, _unread: unread }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The lines of stdout so far.
    pub(crate) fn printed(&self) -> Vec<String> {
        self.stdout.lock().clone()
    }

    /// What was said on stderr since so many lines.
    pub(crate) fn warnings(&self, since: usize) -> String {
        self.stderr.lock()[since..].join("\n")
    }

    /// What it wrote to stderr so far, line by line.
    pub(crate) fn logged(&self) -> Vec<String> {
        self.stderr.lock().clone()
    }

    pub(crate) fn count_warnings(&self, word: &str) -> usize {
        self.stderr.lock().iter().filter(|line| line.contains(word)).count()
    }

    pub(crate) fn said(&self, word: &str) -> Option<String> {
        self.stdout.lock().iter().find(|line| line.starts_with(word)).cloned()
    }

    pub(crate) fn warned(&self, word: &str) -> bool {
        self.count_warnings(word) > 0
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has ended and all that it said was read.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let status = eventually("the process ends", async || child.try_wait().unwrap()).await;
        let all_read = || self.readers.iter().all(JoinHandle::is_finished);
        until("what it said last is read", all_read).await;
        status
    }
}

/// A library whose `fsync` returns only once the file that `HANGS_WHILE` names is gone, and which opens a file only once
/// no file stands beside it that is called the same and `.hangs`.
fn hanging_disk() -> &'static Path {
    const SOURCE: &str = "#define _GNU_SOURCE\n#include <fcntl.h>\n#include <stdarg.h>\n\
        #include <stdio.h>\n#include <stdlib.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n\
        int fsync(int fd) {\n\
        const char *file = getenv(\"HANGS_WHILE\");\n\
        while (file && access(file, F_OK) == 0) usleep(5000);\n\
        return syscall(SYS_fsync, fd);\n}\n\
        int open64(const char *path, int flags, ...) {\n\
        char hangs[4096];\n\
        va_list more; va_start(more, flags); int mode = va_arg(more, int); va_end(more);\n\
        snprintf(hangs, sizeof hangs, \"%s.hangs\", path);\n\
        while (access(hangs, F_OK) == 0) usleep(5000);\n\
        return syscall(SYS_openat, AT_FDCWD, path, flags, mode);\n}\n";
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let stem = format!("hanging-disk-{}", std::process::id());
        let (source, library) = (dir.join(&stem).with_extension("c"), dir.join(&stem));
        std::fs::write(&source, SOURCE).unwrap();
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
        assert!(cc.status().unwrap().success());
        library
    })
}

fn collect(from: impl Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let lines = Arc::clone(lines);
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            lines.lock().push(String::from_utf8_lossy(&line).into_owned());
        }
    })
}

/// Reads a hundred bytes now and then.
fn read_slowly(mut from: impl Read + Send + 'static) {
    std::thread::spawn(move || {
        while from.read(&mut [0; 100]).is_ok_and(|n| n > 0) {
            std::thread::park_timeout(Duration::from_millis(10));
        }
    });
}
