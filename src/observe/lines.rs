//! Writing lines to what may be full: how many were lost is known, and a broken line never runs into the next one.
use std::io::{self, Write};
use std::time::Duration;

/// The pause before something in nonblocking mode is tried again that was full.
const FULL: Duration = Duration::from_millis(20);

/// Lines that could not be written, a line of which only a part was written among them.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) lines: u64,
    pub(super) why: io::Error,
}

/// Writes lines, at most about `chunk` bytes at once. Half a line that an earlier call left is ended first:
/// `at_line_start` is kept by the caller from one call to the next, and is `true` at the beginning.
pub(super) fn write_lines(
    mut lines: &[u8],
    out: &mut impl Write,
    chunk: usize,
    at_line_start: &mut bool,
) -> Result<(), Lost> {
    if !*at_line_start {
        out.write_all(b"\n").map_err(|why| Lost { lines: count(lines), why })?;
        *at_line_start = true;
    }
    while !lines.is_empty() {
        let end = lines.len().min(chunk);
        // A chunk ends with a line where one does.
        let end = memchr::memrchr(b'\n', &lines[..end]).map_or(end, |at| at + 1);
        match out.write(&lines[..end]) {
            Ok(0) => {
                return Err(Lost { lines: count(lines), why: io::ErrorKind::WriteZero.into() });
            }
            Ok(n) => {
                *at_line_start = lines[n - 1] == b'\n';
                lines = &lines[n..];
            }
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                std::thread::park_timeout(FULL);
            }
            Err(why) => return Err(Lost { lines: count(lines), why }),
        }
    }
    Ok(())
}

/// Lines in a text.
pub(super) fn count(text: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', text).count() as u64
}
