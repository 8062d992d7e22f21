//! Each fuzz target with seeded mutations: a bounded run of what `cargo fuzz` does without end.
//!
//! `EVENER_FUZZ_RUNS` sets how many of them there are (50000), `EVENER_FUZZ_SEED` draws others.
#![expect(clippy::panic, reason = "an input that breaks a promise ends its test")]
#![expect(clippy::print_stdout, reason = "and is shown")]
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::Duration;

#[path = "../fuzz/targets.rs"]
mod targets;
use targets::{TARGETS, Target};

/// No input takes so long, on any machine.
const HANG: Duration = Duration::from_mins(1);
/// The configuration parser takes a thousand times what the others do.
const DEAR: usize = 20;

#[expect(clippy::disallowed_methods, reason = "the size of a test is given by whoever starts it")]
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// One to six mistakes: bytes changed, lost, doubled, put in, or taken from another seed.
fn mutated(seed: &[u8], others: &[&[u8]], rng: &mut SmallRng) -> Vec<u8> {
    const ODD: &[&[u8]] = &[
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b":",
        b",",
        b";",
        b"%",
        b"/",
        b"..",
        b"  ",
        b"\t",
        b"\xff",
        b"\xc3",
        b"\xe2\x82\xac",
        b"0",
        b"-1",
        b"18446744073709551616",
        b"\\u0000",
        b"\\ud800",
        b"data: ",
        b"\x80",
        b"\x7f",
        b"&a",
        b"*a",
        b"!!",
        b"<<",
        b"|",
        b"#",
        b"chunked",
        b"model",
    ];
    let mut bytes = seed.to_vec();
    for _ in 0..rng.random_range(1..=6) {
        let at = rng.random_range(0..=bytes.len());
        let end = (at + rng.random_range(0..20)).min(bytes.len());
        match rng.random_range(0..7) {
            0 => {
                bytes.splice(at..at, ODD[rng.random_range(0..ODD.len())].iter().copied());
            }
            1 => {
                bytes.splice(at..end, []);
            }
            2 => {
                let doubled = bytes[at..end].to_vec();
                bytes.splice(end..end, doubled);
            }
            3 if at < bytes.len() => bytes[at] = rng.random(),
            4 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            5 => {
                let other = others[rng.random_range(0..others.len())];
                let from = rng.random_range(0..=other.len());
                let to = (from + rng.random_range(0..60)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            _ => bytes.truncate(at.max(bytes.len() / 2)),
        }
    }
    bytes
}

fn run(target: &Target, runs: u64, seed: u64) {
    let (done, waits) = mpsc::channel();
    let (run, seeds, name) = (target.run, target.seeds, target.name);
    let work = move || {
        let mut rng = SmallRng::seed_from_u64(seed);
        for seed in seeds {
            run(seed);
        }
        for i in 0..runs {
            let input = mutated(seeds[rng.random_range(0..seeds.len())], seeds, &mut rng);
            if i % 16 == 0 && done.send(input.clone()).is_err() {
                return;
            }
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(&input))) {
                println!("{name}, input {i} of seed {seed}: b\"{}\"", input.escape_ascii());
                std::panic::resume_unwind(panic);
            }
        }
    };
    let worker = std::thread::spawn(work);
    let mut last = Vec::new();
    loop {
        match waits.recv_timeout(HANG) {
            Ok(input) => last = input,
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                panic!("{name} hangs at or soon after b\"{}\"", last.escape_ascii())
            }
        }
    }
    assert!(worker.join().is_ok(), "{name} broke a promise");
}

#[test]
fn no_input_breaks_a_promise() {
    let (runs, seed) = (number("EVENER_FUZZ_RUNS", 50_000), number("EVENER_FUZZ_SEED", 7));
    let shares = TARGETS.len() as u64;
    for target in TARGETS {
        let dear = if target.name == "config" { DEAR as u64 } else { 1 };
        run(target, runs / shares / dear, seed);
    }
}

#[test]
fn each_target_has_a_file_for_cargo_fuzz() {
    for target in TARGETS {
        let file = format!("fuzz/fuzz_targets/{}.rs", target.name);
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(text.contains(&format!("targets::{}", target.name)), "{file} runs its target");
        let manifest = std::fs::read_to_string("fuzz/Cargo.toml").unwrap_or_default();
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{}", target.name);
    }
}
