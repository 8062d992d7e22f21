//! What the operating system knows of this process, under the names that Prometheus's client libraries share.
use super::exposition::Page;
use super::metrics::{Metric, MetricKind};
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::sync::LazyLock;
use std::{fs, io};

const fn metric(name: &'static str, kind: MetricKind, help: &'static str) -> Metric {
    Metric { name, kind, help, labels: &[] }
}

const CPU: Metric = metric(
    "process_cpu_seconds_total",
    MetricKind::Counter,
    "Seconds of processors that all threads took.",
);
const OPEN_FDS: Metric = metric("process_open_fds", MetricKind::Gauge, "Open file descriptors.");
const MAX_FDS: Metric =
    metric("process_max_fds", MetricKind::Gauge, "File descriptors that may be open.");
const VIRTUAL: Metric =
    metric("process_virtual_memory_bytes", MetricKind::Gauge, "Virtual memory.");
const RESIDENT: Metric =
    metric("process_resident_memory_bytes", MetricKind::Gauge, "Resident memory.");
const START: Metric = metric(
    "process_start_time_seconds",
    MetricKind::Gauge,
    "When the process began, in seconds since 1970.",
);
const THREADS: Metric =
    metric("process_threads", MetricKind::Gauge, "Threads of the operating system.");

/// When this process began, in seconds since 1970. Read once: on a machine of many cores `/proc/stat` is long.
static BEGAN: LazyLock<Option<u64>> = LazyLock::new(|| {
    let ticks = Stat::of_this_process()?.start_ticks;
    let booted = boot_time(&fs::read_to_string("/proc/stat").ok()?)?;
    Some(booted + ticks / clock_ticks_per_second())
});

/// File descriptors that are open, with the one that lists them.
pub fn open_descriptors() -> io::Result<u64> {
    Ok(fs::read_dir("/proc/self/fd")?.count() as u64)
}

/// How many may be open. `None`: any number.
pub fn most_descriptors() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Adds what is known. What cannot be read is left out.
pub(super) fn add(page: &mut Page) {
    page.family(&CPU).total(&[], cpu_seconds());
    if let Ok(open) = open_descriptors() {
        page.family(&OPEN_FDS).gauge(&[], open.saturating_sub(1) as f64);
    }
    if let Some(most) = most_descriptors() {
        page.family(&MAX_FDS).gauge(&[], most as f64);
    }
    if let Some(began) = *BEGAN {
        page.family(&START).gauge(&[], began as f64);
    }
    let Some(stat) = Stat::of_this_process() else { return };
    page.family(&VIRTUAL).gauge(&[], stat.virtual_bytes as f64);
    page.family(&RESIDENT).gauge(&[], (stat.resident_pages * page_size() as u64) as f64);
    page.family(&THREADS).gauge(&[], stat.threads as f64);
}

/// In hundredths.
fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = used.tv_sec as f64 + used.tv_nsec as f64 / 1e9;
    (seconds * 100.0).round() / 100.0
}

/// Of `/proc/PID/stat`, as `man 5 proc_pid_stat` tells it.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    threads: u64,
    /// Since the machine started.
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn of_this_process() -> Option<Self> {
        Self::read(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    fn read(text: &str) -> Option<Self> {
        // The second field is the program's name in brackets, which may have blanks and brackets in it.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // The first of these is the third field.
        let field = |number: usize| fields.get(number - 3)?.parse().ok();
        Some(Self {
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// When the machine started, in seconds since 1970, out of `/proc/stat`.
fn boot_time(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_fields() {
        let text = "77 (a) b (c 1 2) S 1 77 77 0 -1 4194304 900 0 5 0 31 12 0 0 20 0 9 0 4242 \
                    123456789 512 18446744073709551615 1 1 0 0 0 0 0 0 0\n";
        let read =
            Stat { threads: 9, start_ticks: 4242, virtual_bytes: 123_456_789, resident_pages: 512 };
        assert_eq!(Stat::read(text), Some(read));
        for cut in ["", "77 (a", "77 (a) S 1 77", "77 (a) S x"] {
            assert_eq!(Stat::read(cut), None, "{cut}");
        }
    }

    #[test]
    fn the_machine_says_when_it_started() {
        assert_eq!(boot_time("cpu 1 2 3\nbtime 1700000000\nprocesses 9\n"), Some(1_700_000_000));
        assert_eq!(boot_time("cpu 1 2 3\n"), None);
    }

    #[test]
    fn all_of_this_process_is_told() {
        let mut page = Page::default();
        add(&mut page);
        let text = page.render();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            line.unwrap_or_else(|| panic!("{name} is missing:\n{text}")).parse().unwrap()
        };
        for counted in [CPU, OPEN_FDS, MAX_FDS, VIRTUAL, RESIDENT, START, THREADS] {
            assert!(value(counted.name) >= 0.0);
        }
        assert!(value(OPEN_FDS.name) >= 3.0 && value(OPEN_FDS.name) <= value(MAX_FDS.name));
        assert!(value(RESIDENT.name) > 1e6 && value(RESIDENT.name) < value(VIRTUAL.name));
        let now = crate::observe::stamp().as_second() as f64;
        let age = now - value(START.name);
        assert!((-2.0..86_400.0).contains(&age), "it began {age} s ago");
    }
}
