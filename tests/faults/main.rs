//! Faults of every kind at once, by the ten thousand: every client sees one honest outcome, and nothing is left.
//!
//! `EVENER_FAULT_REQUESTS` sets how many requests (50 000), `EVENER_FAULT_SEED` which; `EVENER_BINARY` names another
//! `evener` than the one cargo built, one of a release for a million.
#![expect(clippy::unwrap_used, reason = "what starts and asks a proxy is test code too")]
#![expect(clippy::panic, reason = "a condition that never comes ends its test")]

mod answers;
#[expect(dead_code, reason = "shared with the end-to-end tests, which use the rest")]
#[path = "../e2e/client.rs"]
mod client;
mod fault;
mod http1;
mod http2;
mod ledger;
mod plan;
#[expect(dead_code, reason = "shared with the end-to-end tests, which use the rest")]
#[path = "../e2e/process.rs"]
mod process;
mod replica;
#[expect(dead_code, reason = "shared with the end-to-end tests, which use the rest")]
#[path = "../e2e/site.rs"]
mod site;
mod storm;
mod streams;

use ledger::Ledger;
use process::{Launch, Reader};
use rustix::process::Signal;
use site::{Site, until};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::time::Duration;
use storm::{Clients, Replicas, calm, memory, metric, open_files, unrest};
use tokio::sync::Mutex;

/// How often the process is ended in the storm.
const TIMES: u64 = 4;
/// How many requests that storm has at most: more of them would show nothing new.
const MOST: u64 = 8000;
/// So long after the last request every connection is closed; less than conditions are waited for, to say which is not.
const CLOSED: Duration = Duration::from_secs(12);
/// Memory that may come beside half as much again.
const SLACK: u64 = 64 << 20;

#[expect(clippy::disallowed_methods, reason = "the size of a test is given by whoever starts it")]
fn parameter(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn requests() -> u64 {
    parameter("EVENER_FAULT_REQUESTS", 50_000)
}

fn seed() -> u64 {
    parameter("EVENER_FAULT_SEED", 20_261_124)
}

#[expect(clippy::print_stderr, reason = "what a run of a million came to is worth a line")]
fn report(ledger: &Ledger, more: &str) {
    eprintln!("seed {}: {:?} {more}", ledger.seed, ledger.tally);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_storm_of_faults_every_client_sees_one_outcome_and_nothing_is_left() {
    storm(requests(), seed(), Launch::default()).await;
}

/// With a log line for each fault, of which few or none get through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_stderr_closed_full_or_slow_the_storm_is_the_same() {
    let readers = [Reader::Leaves, Reader::ReadsNothing, Reader::IsSlow];
    let each = (requests() / 3).max(1000);
    for (i, reader) in readers.into_iter().enumerate() {
        let launch = Launch { debug: true, ..Launch::read_by(reader) };
        storm(each, seed() + 10 + i as u64, launch).await;
    }
}

/// Storms take the whole machine: one after the other.
static TURN: Mutex<()> = Mutex::const_new(());

async fn storm(requests: u64, seed: u64, launch: Launch) {
    let _turn = TURN.lock().await;
    let ledger = Ledger::new(seed, requests, false);
    let replicas = Replicas::start(&ledger).await;
    let site = Site::launched(replicas.setup(0), launch).await;
    let clients = Clients::new(&ledger);
    let (mut sizes, mut most_files) = (Vec::new(), 0);
    // After a fifth it is warm; the two halves of the rest must take the same.
    for up_to in [requests / 5, requests * 3 / 5, requests] {
        tokio::select! {
            () = clients.go(site.address, up_to) => {}
            () = unrest(&site, &replicas, seed + up_to) => {}
        }
        ledger.assert_right();
        site.reload(&replicas.setup(1)).await;
        site.reload(&replicas.setup(0)).await;
        calm(&site, &ledger).await;
        sizes.push(memory(&site));
        // What a start opens late is open by now.
        if most_files == 0 {
            most_files = open_files(&site).0.len();
        }
    }
    let counted = metric(&site, "evener_requests_total{").await;
    assert_eq!(metric(&site, "evener_access_log_dropped_total").await, 0);
    let log = site.path().join("access.jsonl");
    let (mut lines, mut written) = (BufReader::new(File::open(&log).unwrap()), 0);
    until("the access log is written", || {
        written += lines.by_ref().split(b'\n').count() as u64;
        written >= counted
    })
    .await;
    assert_eq!(ledger.read_log(&log), counted, "lines of the log, requests of the metric");
    report(
        &ledger,
        &format!("{launch:?}, {counted} counted, memory {sizes:?}\n{}", ledger.lates()),
    );
    ledger.assert_right();
    let [late, stale, noticed, unnoticed] = ledger.tally.rare();
    // Is the machine this busy?
    assert!(late <= requests / 100, "{late} good answers came too late:\n{}", ledger.lates());
    assert!(stale <= requests / 1000 + 2, "{stale} were sent on connections that had died");
    assert!(unnoticed <= 1 + noticed / 10, "{unnoticed} clients left unnoticed, {noticed} noticed");
    let [warm, half, all] = sizes[..] else { unreachable!("three measures") };
    let most = warm.max(half);
    assert!(all <= most + most / 2 || all <= most + SLACK, "memory grows: {sizes:?}");
    site.reload(&replicas.farewell()).await;
    let closed = until("it closes what it kept open", || {
        let (files, connections) = open_files(&site);
        connections.is_empty() && files.len() <= most_files
    });
    tokio::time::timeout(CLOSED, closed)
        .await
        .unwrap_or_else(|_| panic!("{most_files} files before, {:#?}", open_files(&site)));
    assert_eq!(metric(&site, "evener_panics_total{").await, 0);
    let lost = metric(&site, "evener_log_dropped_total").await;
    assert_eq!(lost > 0, launch.reader != Reader::Collects, "{lost} lines of the log were lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_in_a_storm_ends_what_began_and_a_restart_goes_on() {
    let (requests, seed) = ((requests() / 25).min(MOST), seed() + 1);
    let ledger = Ledger::new(seed, requests, true);
    let replicas = Replicas::start(&ledger).await;
    let mut site = Site::with(replicas.setup(0)).await;
    let clients = Clients::new(&ledger);
    for time in 1..=TIMES {
        let (up_to, halfway) = (requests * time / TIMES, requests * (2 * time - 1) / (2 * TIMES));
        let address = site.address;
        let going = async {
            clients.go(address, up_to).await;
        };
        let ending = async {
            let half = || clients.begun() >= halfway || ledger.is_hopeless();
            until("half of them were begun", half).await;
            site.signal(Signal::TERM);
            until("it drains", || site.count_said("Evener is ending") > 0).await;
            clients.stop(true);
        };
        tokio::join!(going, ending);
        let status = site.ended().await;
        assert_eq!(status.code(), Some(0), "{status}");
        until("replicas work for nobody", || ledger.open() == 0).await;
        assert_eq!(site.count_said("panicked"), 0);
        clients.stop(false);
        site.restart().await;
    }
    ledger.read_log(&site.path().join("access.jsonl"));
    report(&ledger, "");
    ledger.assert_right();
}
