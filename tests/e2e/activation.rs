//! Sockets that were bound before Evener was started, passed as systemd passes them.
use crate::client::{Request, send};
use crate::site::{Process, Setup, text_of, until};
use crate::upstream::Mock;
use rustix::process::Signal;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Starts Evener with one socket under this name. `exec` keeps the process id, which `LISTEN_PID` must be.
async fn activated(dir: &Path, text: &str, name: &str, socket: impl Into<OwnedFd>) -> Process {
    let file = dir.join("evener.yaml");
    std::fs::write(&file, text.replace("../state", "state")).unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"exec 3<&0 </dev/null; LISTEN_PID=$$ exec "$0" run -c "$1""#])
        .arg(env!("CARGO_BIN_EXE_evener"))
        .arg(&file)
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", name)
        .stdin(Stdio::from(socket.into()));
    let process = Process::begin(command, dir);
    until("ready", || process.said("ready").is_some()).await;
    process
}

async fn mock_and_text() -> (Mock, String) {
    let mock = Mock::version("v").await;
    let models =
        format!("models: {{m: {{versions: {{v: [\"{}\"]}}, health: false}}}}\n", mock.url());
    (mock, text_of(&Setup::new(models)))
}

async fn answers(address: SocketAddr, path: &str) {
    let reply = send(address, Request::get(path).header("host", "localhost")).await;
    assert_eq!(reply.unwrap().status, 200);
}

#[tokio::test]
async fn a_socket_is_found_by_its_name_or_by_its_address() {
    let (_mock, text) = mock_and_text().await;
    for by_name in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (name, text) = if by_name {
            ("public", text.clone())
        } else {
            ("evener.socket", text.replacen("127.0.0.1:0", &address.to_string(), 1))
        };
        let process = activated(dir.path(), &text, name, socket).await;
        let line = process.said("listening public").unwrap();
        assert_eq!(line, format!("listening public http://{address}"), "the socket's own address");
        answers(address, "/headers").await;
        assert!(!process.warned("systemd passed"));
    }
}

#[tokio::test]
async fn the_admin_listener_takes_the_socket_that_is_called_admin() {
    let (_mock, text) = mock_and_text().await;
    let dir = tempfile::tempdir().unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let process = activated(dir.path(), &text, "admin", socket).await;
    assert_eq!(
        process.said("listening admin").unwrap(),
        format!("listening admin http://{address}")
    );
    answers(address, "/api/v1/status").await;
}

#[tokio::test]
async fn a_socket_that_nobody_names_is_warned_about() {
    let (_mock, text) = mock_and_text().await;
    let dir = tempfile::tempdir().unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let process = activated(dir.path(), &text, "other", socket).await;
    let warning = format!("systemd passed the socket `other` ({address})");
    until("it says so", || process.warned(&warning)).await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody waits in it for ever");
}

#[tokio::test]
async fn the_file_of_a_unix_socket_of_systemd_stays() {
    let (_mock, text) = mock_and_text().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("e.sock");
    let text = text.replacen("127.0.0.1:0", &format!("unix:{}", path.display()), 1);
    let mut process =
        activated(dir.path(), &text, "public", UnixListener::bind(&path).unwrap()).await;
    let mut unix = tokio::net::UnixStream::connect(&path).await.unwrap();
    unix.write_all(b"GET /headers HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    unix.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    process.signal(Signal::TERM);
    assert!(process.ended().await.success());
    assert!(path.exists(), "systemd listens there on");
}

#[tokio::test]
async fn what_is_no_listening_socket_is_warned_about_and_left() {
    let (_mock, text) = mock_and_text().await;
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(dir.path().join("a file")).unwrap();
    let process = activated(dir.path(), &text, "public", file).await;
    until("it says so", || process.warned("systemd passed what cannot be listened on")).await;
}
