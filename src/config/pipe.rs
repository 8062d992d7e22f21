//! Reads a file that may be a pipe, as `<(command)` of a shell gives one, and never waits for ever.
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

/// A command that writes to a pipe may have to ask a vault first.
const PATIENCE: Duration = Duration::from_secs(10);

/// The first `most` bytes of a plain file, or of a pipe that somebody writes to.
///
/// # Errors
/// What the system says; that it is neither file nor pipe; that a pipe was not written to its end within 10 s.
pub(super) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // Opening a pipe waits for a writer otherwise.
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(nonblocking).open(path)?;
    let kind = file.metadata()?.file_type();
    let mut bytes = Vec::new();
    if kind.is_fifo() {
        read_pipe(&file, most, PATIENCE, &mut bytes)?;
    } else if kind.is_file() {
        file.take(most).read_to_end(&mut bytes)?;
    } else if kind.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    } else {
        return Err(io::Error::other("it is neither a file nor a pipe"));
    }
    Ok(bytes)
}

fn read_pipe(
    mut pipe: &File,
    most: u64,
    patience: Duration,
    bytes: &mut Vec<u8>,
) -> io::Result<()> {
    let end = now() + patience;
    let mut buffer = [0; 4096];
    while (bytes.len() as u64) < most {
        let left = end.saturating_sub(now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        // A pipe that nobody has opened for writing yet is neither readable nor at its end.
        let ready = match poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        if ready == 0 {
            let seconds = patience.as_secs();
            let why = format!("it is a pipe, and nobody wrote it to its end within {seconds} s");
            return Err(io::Error::other(why));
        }
        match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    Ok(())
}

fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn fifo(name: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        (dir, path)
    }

    #[test]
    fn a_pipe_is_read_to_its_end_whenever_its_writer_comes() {
        let (_dir, path) = fifo("p");
        let writer = {
            let path = path.clone();
            std::thread::spawn(move || {
                // Waits for the reader.
                let mut pipe = File::options().write(true).open(path).unwrap();
                pipe.write_all(b"se").unwrap();
                pipe.write_all(b"cret\n").unwrap();
            })
        };
        assert_eq!(read(&path, 100).unwrap(), b"secret\n");
        writer.join().unwrap();
    }

    #[test]
    fn a_pipe_without_a_writer_is_given_up() {
        let (_dir, path) = fifo("p");
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let pipe = File::options().read(true).custom_flags(nonblocking).open(path).unwrap();
        let error = read_pipe(&pipe, 9, Duration::from_millis(1), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("nobody wrote it to its end"), "{error}");
    }

    #[test]
    fn what_is_neither_file_nor_pipe_is_refused() {
        let why = |path: &str| read(Path::new(path), 9).unwrap_err().to_string();
        assert!(why("/dev/null").contains("neither a file nor a pipe"));
        assert_eq!(read(Path::new("/"), 9).unwrap_err().kind(), ErrorKind::IsADirectory);
        let (dir, _) = fifo("p");
        let file = dir.path().join("f");
        std::fs::write(&file, "0123456789").unwrap();
        assert_eq!(read(&file, 4).unwrap(), b"0123");
    }
}
