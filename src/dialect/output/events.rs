//! Server-sent events out of bytes, wherever these are cut.

/// Data of one event beyond this is passed over.
const LONGEST: usize = 64 << 10;
/// No name that means something is longer.
const LONGEST_NAME: usize = 64;

/// One event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event<'a> {
    /// What `event:` said; empty when nothing.
    pub(super) name: &'a [u8],
    /// The lines of `data:`, joined. `None`: too long to be kept.
    pub(super) data: Option<&'a [u8]>,
}

/// Where in a stream of events we are.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts of the line and of the event")]
pub(super) struct Events {
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// The line is too long, and what is left of it is passed over.
    line_cut: bool,
    after_return: bool,
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    cut: bool,
}

impl Events {
    /// Takes the next bytes, and gives each event that is complete to `each`.
    pub(super) fn take(&mut self, bytes: &[u8], each: &mut impl FnMut(Event<'_>)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_return) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.keep(rest);
                return;
            };
            self.after_return = rest[end] == b'\r';
            let (line, cut) = (&rest[..end], self.line_cut);
            if self.line.is_empty() && !cut && line.len() <= LONGEST {
                self.line(line, false, each);
            } else {
                self.keep(line);
                let mut kept = std::mem::take(&mut self.line);
                let cut = std::mem::take(&mut self.line_cut);
                self.line(&kept, cut, each);
                kept.clear();
                self.line = kept;
            }
            rest = &rest[end + 1..];
        }
    }

    /// The stream is over: what has no empty line behind it is an event too.
    pub(super) fn end(&mut self, each: &mut impl FnMut(Event<'_>)) {
        self.take(b"\n", each);
        self.line(b"", false, each);
    }

    fn keep(&mut self, part: &[u8]) {
        let room = LONGEST.saturating_sub(self.line.len());
        self.line.extend_from_slice(&part[..part.len().min(room)]);
        self.line_cut |= part.len() > room;
    }

    fn line(&mut self, line: &[u8], cut: bool, each: &mut impl FnMut(Event<'_>)) {
        if line.is_empty() {
            if self.has_data {
                let data = (!self.cut).then_some(self.data.as_slice());
                each(Event { name: &self.name, data });
            }
            self.name.clear();
            self.data.clear();
            (self.has_data, self.cut) = (false, false);
        } else if let Some(data) = field(line, b"data") {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.has_data = true;
            self.cut |= cut || self.data.len() + data.len() > LONGEST;
            if self.cut {
                self.data = Vec::new();
            } else {
                self.data.extend_from_slice(data);
            }
        } else if let Some(name) = field(line, b"event") {
            self.name.clear();
            self.name.extend_from_slice(&name[..name.len().min(LONGEST_NAME)]);
        }
    }
}

/// The value of a field: one space after the colon does not count.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = line.strip_prefix(name)?.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}
