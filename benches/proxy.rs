//! What a request costs through Evener: beside a direct call, and beside nginx where it is installed.
//!
//! `cargo bench --bench proxy` (`-- --requests N` for a longer or shorter run). Everything runs on this machine
//! and in the same minutes, so that ratios mean something where absolute numbers do not.
#![expect(clippy::print_stdout, reason = "a table is what it is for")]
#![expect(clippy::disallowed_methods, reason = "real time is what it measures")]

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, iter, thread};

const CONNECTIONS: usize = 8;
const ROUNDS: usize = 5;
const IDLE: usize = 2_000;
const STREAMS: usize = 500;
const GET: &str = "GET of 120 B";
const POST: &str = "POST of 1 KB, model in its body";

// ---- the backend: a thread a connection, which costs the proxy nothing

fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback can be bound");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::Builder::new().stack_size(64 << 10).spawn(|| answer(client)).expect("a thread");
        }
    });
    address
}

fn answer(client: TcpStream) {
    let json = format!("{{\"id\":\"1\",\"text\":\"{}\"}}", "x".repeat(120 - 22));
    let whole = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{json}",
        json.len()
    );
    let stream = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
                  12\r\ndata: {\"id\":\"1\"}\n\n\r\n";
    let mut connection = Connection::new(client);
    while let Some(request) = connection.message() {
        let streams = find(request, b"\"stream\":true").is_some();
        let answer = if streams { stream } else { &whole };
        if connection.socket.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// One end of an HTTP/1.1 connection. Messages have a length, or end with their head.
struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
    taken: usize,
}

impl Connection {
    fn new(socket: TcpStream) -> Self {
        socket.set_nodelay(true).expect("a socket that is open");
        Self { socket, buffer: vec![0; 4096], filled: 0, taken: 0 }
    }

    fn open(to: SocketAddr) -> Self {
        Self::new(TcpStream::connect(to).expect("it listens"))
    }

    /// The next message, or nothing when the other side has closed.
    fn message(&mut self) -> Option<&[u8]> {
        self.buffer.copy_within(self.taken..self.filled, 0);
        self.filled -= self.taken;
        loop {
            if let Some(end) = length(&self.buffer[..self.filled]).filter(|end| *end <= self.filled)
            {
                self.taken = end;
                return Some(&self.buffer[..end]);
            }
            self.taken = 0;
            match self.socket.read(&mut self.buffer[self.filled..]) {
                Ok(0) | Err(_) => return None,
                Ok(n) => self.filled += n,
            }
        }
    }

    fn ask(&mut self, request: &str) {
        self.socket.write_all(request.as_bytes()).expect("it is open");
        let answer = self.message().expect("an answer");
        assert!(
            answer.starts_with(b"HTTP/1.1 200"),
            "not served: {}",
            String::from_utf8_lossy(answer)
        );
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn length(message: &[u8]) -> Option<usize> {
    let head = find(message, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&message[..head]).to_ascii_lowercase();
    let value = text.split_once("content-length: ").and_then(|(_, rest)| rest.split_once('\r'));
    Some(head + value.map_or(0, |(n, _)| n.parse().expect("a number")))
}

// ---- what is measured

/// A proxy in front of the backend, or the backend itself.
struct Site {
    name: &'static str,
    address: SocketAddr,
    process: Option<Child>,
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill().ok();
            process.wait().ok();
        }
    }
}

fn evener(name: &'static str, telemetry: &str, backend: SocketAddr, folder: &Path) -> Site {
    let folder = folder.join(name.replace(' ', "-"));
    fs::create_dir(&folder).expect("a new folder");
    let config = folder.join("evener.yaml");
    let text = format!(
        "threads: 1\nlisteners: [{{name: public, address: 127.0.0.1:0}}]\nadmin: {{address: 127.0.0.1:0}}\n\
         state: {{dir: {}}}\n{telemetry}\nmodels: {{chat: {{health: false, versions: {{v1: [http://{backend}]}}}}}}\n",
        folder.join("state").display()
    );
    fs::write(&config, text).expect("a file");
    let said = folder.join("stdout");
    let process = Command::new(env!("CARGO_BIN_EXE_evener"))
        .args(["run".as_ref(), "-c".as_ref(), config.as_os_str()])
        .stdout(File::create(&said).expect("a file"))
        .stderr(File::create(folder.join("stderr")).expect("a file"))
        .spawn()
        .expect("evener starts");
    let address = wait_for(|| {
        let text = fs::read_to_string(&said).ok()?;
        text.contains("\nready\n").then_some(())?;
        text.split_once("listening public http://")?.1.lines().next()?.parse().ok()
    });
    Site { name, address, process: Some(process) }
}

fn nginx(backend: SocketAddr, folder: &Path) -> Option<Site> {
    // Free a moment ago, which is as good as nginx can have it.
    let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).ok()?;
    let folder = folder.join("nginx");
    fs::create_dir(&folder).expect("a new folder");
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", folder.display()))
        .concat();
    let text = format!(
        "daemon off; master_process off; pid {}/pid; error_log stderr warn; worker_rlimit_nofile 20000;\n\
         events {{ worker_connections 8000; }}\n\
         http {{ access_log off; keepalive_requests 100000000; {paths}\n\
         upstream backend {{ server {backend}; keepalive 64; keepalive_requests 100000000; }}\n\
         server {{ listen {address} backlog=4096; location / {{ proxy_pass http://backend; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_set_header X-Forwarded-For $remote_addr;\n\
         proxy_set_header X-Request-Id $request_id; proxy_buffering off; }} }} }}\n",
        folder.display()
    );
    fs::write(folder.join("nginx.conf"), text).expect("a file");
    let path = format!("{}:/usr/sbin", env::var("PATH").unwrap_or_default());
    let process = Command::new("nginx")
        .env("PATH", path)
        .arg("-p")
        .arg(&folder)
        .args(["-e", "stderr", "-c", "nginx.conf"])
        .stderr(File::create(folder.join("stderr")).expect("a file"))
        .spawn()
        .ok()?;
    wait_for(|| TcpStream::connect(address).ok());
    Some(Site { name: "nginx", address, process: Some(process) })
}

fn wait_for<T>(condition: impl Fn() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "it did not start");
        thread::sleep(Duration::from_millis(5));
    }
}

impl Site {
    /// CPU time of the process so far. The unit of /proc is 10 ms on all Linux machines.
    fn cpu(&self) -> Duration {
        let Some(pid) = self.pid() else { return Duration::ZERO };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        let (_, fields) = stat.rsplit_once(')').expect("the name is in parentheses");
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks = ticks.map(|ticks| ticks.parse::<u64>().expect("a number"));
        Duration::from_millis(10 * ticks.sum::<u64>())
    }

    fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Resident memory in KiB.
    fn resident(&self) -> Option<i64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()?;
        status.split_once("VmRSS:")?.1.split_whitespace().next()?.parse().ok()
    }

    /// Each connection asks again as soon as it is answered.
    fn load(&self, request: &str, connections: usize, requests: usize) -> Run {
        let cpu = self.cpu();
        let begin = Instant::now();
        let mut times: Vec<Duration> = thread::scope(|scope| {
            let ask = || {
                let mut connection = Connection::open(self.address);
                let each = |_| {
                    let begin = Instant::now();
                    connection.ask(request);
                    begin.elapsed()
                };
                (0..requests / connections).map(each).collect::<Vec<_>>()
            };
            let clients: Vec<_> =
                iter::repeat_with(|| scope.spawn(ask)).take(connections).collect();
            clients.into_iter().flat_map(|c| c.join().expect("a client that ends")).collect()
        });
        let elapsed = begin.elapsed();
        times.sort_unstable();
        let count = times.len() as f64;
        let at = |q: f64| micros(times[((count * q) as usize).min(times.len() - 1)]);
        Run {
            p50: at(0.5),
            p99: at(0.99),
            rate: count / elapsed.as_secs_f64(),
            cpu: (micros(self.cpu()) - micros(cpu)) / count,
        }
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Times in microseconds; `cpu` is for each request.
#[derive(Clone, Copy)]
struct Run {
    p50: f64,
    p99: f64,
    rate: f64,
    cpu: f64,
}

/// Median of the rounds, with the lowest and the highest.
fn middle(runs: &[Run], of: impl Fn(&Run) -> f64) -> (f64, String) {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_unstable_by(f64::total_cmp);
    let median = values[values.len() / 2];
    (median, format!("{median:.0} ({:.0}..{:.0})", values[0], values[values.len() - 1]))
}

// ---- the tables

fn latency(sites: &[Site], title: &str, request: &str, connections: usize, requests: usize) {
    let mut runs = vec![Vec::new(); sites.len()];
    for _ in 0..ROUNDS {
        for (site, runs) in sites.iter().zip(&mut runs) {
            runs.push(site.load(request, connections, requests / ROUNDS));
        }
    }
    println!(
        "\n{title}, {connections} at once, {requests} requests; µs, median (lowest..highest) of {ROUNDS} rounds"
    );
    println!(
        "{:<18}{:>20}{:>20}{:>10}{:>10}{:>20}{:>10}{:>24}",
        "", "p50", "p99", "+p50", "+p99", "CPU/request", "/nginx", "requests/s"
    );
    let nginx = sites.iter().position(|site| site.name == "nginx");
    let nginx = nginx.map(|i| middle(&runs[i], |run| run.cpu).0);
    let (base50, base99) = (middle(&runs[0], |run| run.p50).0, middle(&runs[0], |run| run.p99).0);
    for (site, runs) in sites.iter().zip(&runs) {
        let (p50, p50_text) = middle(runs, |run| run.p50);
        let (p99, p99_text) = middle(runs, |run| run.p99);
        let (cpu, cpu_text) = middle(runs, |run| run.cpu);
        let ratio = nginx.filter(|_| site.process.is_some()).map(|nginx| cpu / nginx);
        println!(
            "{:<18}{p50_text:>20}{p99_text:>20}{:>10.0}{:>10.0}{cpu_text:>20}{:>10}{:>24}",
            site.name,
            p50 - base50,
            p99 - base99,
            ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}x")),
            middle(runs, |run| run.rate).1,
        );
    }
}

/// System calls of a request, counted by strace where it may.
fn syscalls(site: &Site, request: &str, folder: &Path) -> Option<f64> {
    const REQUESTS: usize = 2_000;
    let out = folder.join("strace");
    let mut strace = Command::new("strace")
        .args(["-f", "-c", "-o"])
        .arg(&out)
        .args(["-p", &site.pid()?.to_string()])
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    // It is attached to the last thread when a tracer shows there.
    let tasks = format!("/proc/{}/task", site.pid()?);
    wait_for(|| {
        let traced = |task: fs::DirEntry| {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            !status.contains("TracerPid:\t0\n")
        };
        fs::read_dir(&tasks).ok()?.flatten().all(traced).then_some(())
    });
    site.load(request, 1, REQUESTS);
    kill_process(Pid::from_child(&strace), Signal::INT).ok()?;
    strace.wait().ok()?;
    let table = fs::read_to_string(&out).ok()?;
    let total = table.lines().rev().find(|line| line.trim_end().ends_with("total"))?;
    total.split_whitespace().nth(3)?.parse::<f64>().ok().map(|calls| calls / REQUESTS as f64)
}

fn memory(site: &Site, request: &str, count: usize) -> Option<f64> {
    let served = || {
        let mut connection = Connection::open(site.address);
        connection.ask(request);
        connection
    };
    drop(served()); // what a first request makes once is not a connection's
    let before = site.resident()?;
    let open: Vec<Connection> = iter::repeat_with(served).take(count).collect();
    let grown = site.resident()? - before;
    drop(open);
    Some(grown as f64 / count as f64)
}

fn post(extra: &str) -> String {
    let text = "x".repeat(1024 - 70);
    let body = format!(
        "{{\"model\":\"chat\",{extra}\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}]}}"
    );
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let wanted = arguments.iter().skip_while(|word| *word != "--requests").nth(1);
    // `cargo test --benches` passes no `--bench`, and only asks whether it runs.
    let usual = if arguments.iter().any(|word| word == "--bench") { 160_000 } else { 800 };
    let requests = wanted.map_or(usual, |n| n.parse().expect("--requests takes a number"));
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files })
        .expect("more files may be opened");

    let folder = tempfile::tempdir().expect("a temporary folder");
    let backend = backend();
    let mut sites = vec![Site { name: "direct", address: backend, process: None }];
    sites.extend(nginx(backend, folder.path()));
    sites.push(evener("evener", "telemetry: {access_log: null}", backend, folder.path()));
    sites.push(evener("evener with log", "", backend, folder.path()));
    if sites.len() < 4 {
        println!("nginx is not installed: no ratios to it");
    }

    let get = "GET /v1/models/chat HTTP/1.1\r\nhost: bench\r\n\r\n";
    let requests_of = [(GET, get.to_owned()), (POST, post(""))];
    for (title, request) in &requests_of {
        latency(&sites, title, request, 1, requests / 8);
        latency(&sites, title, request, CONNECTIONS, requests);
    }
    println!();
    for site in sites.iter().filter(|site| site.process.is_some()) {
        let mut line = format!("{:<18}", site.name);
        for (title, request) in &requests_of {
            if let Some(calls) = syscalls(site, request, folder.path()) {
                write!(line, "{calls:.1} system calls a {}; ", &title[..4]).expect("memory");
            }
        }
        let idle = memory(site, &requests_of[0].1, IDLE).unwrap_or_default();
        let stream = memory(site, &post("\"stream\":true,"), STREAMS).unwrap_or_default();
        println!("{line}{idle:.1} KiB an idle connection, {stream:.1} KiB a stream");
    }
}
