//! Replicas: the library's mock for ordinary ones, scripts on a bare socket for the others.
use crate::site::until;
use evener::mock::{Knobs, serve};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// A mock model server; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Mock {
    pub(crate) address: SocketAddr,
    task: AbortHandle,
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Mock {
    /// One that answers with this version at once.
    pub(crate) async fn version(version: &str) -> Self {
        Self::start(Knobs { version: version.to_owned(), ..Knobs::default() }).await
    }

    pub(crate) async fn start(knobs: Knobs) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), knobs).await
    }

    pub(crate) async fn at(address: SocketAddr, knobs: Knobs) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(serve(listener, knobs, std::future::pending())).abort_handle();
        Self { address, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A request as a scripted replica saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// The value of a header; empty when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut named = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.next().map_or("", |(_, value)| value.trim())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        let mut names = self.head.lines().filter_map(|line| line.split_once(':'));
        names.any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// `POST /path HTTP/1.1`
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }
}

/// One accepted connection, in the hands of a script.
#[derive(Debug)]
pub(crate) struct Talk {
    tcp: TcpStream,
    left: Vec<u8>,
    seen: Arc<Mutex<Vec<Seen>>>,
    closed: Arc<AtomicUsize>,
}

impl Talk {
    /// Reads a head; `None` at the end of the connection.
    pub(crate) async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.left.windows(4).position(|w| w == b"\r\n\r\n") {
                let rest = self.left.split_off(end + 4);
                let head = std::mem::replace(&mut self.left, rest);
                return Some(String::from_utf8_lossy(&head).into_owned());
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Option<()> {
        let n = self.tcp.read_buf(&mut self.left).await.ok()?;
        (n > 0).then_some(())
    }

    async fn take(&mut self, n: usize) -> Option<Vec<u8>> {
        while self.left.len() < n {
            self.more().await?;
        }
        let rest = self.left.split_off(n);
        Some(std::mem::replace(&mut self.left, rest))
    }

    /// Reads a whole request, and notes it.
    pub(crate) async fn request(&mut self) -> Option<Seen> {
        let mut seen = Seen { head: self.head().await?, body: Vec::new() };
        if seen.header("transfer-encoding") == "chunked" {
            loop {
                while !self.left.windows(2).any(|w| w == b"\r\n") {
                    self.more().await?;
                }
                let end = self.left.windows(2).position(|w| w == b"\r\n")?;
                let line = self.take(end + 2).await?;
                let size = String::from_utf8_lossy(&line[..end]).into_owned();
                let size = usize::from_str_radix(&size, 16).ok()?;
                let chunk = self.take(size + 2).await?;
                if size == 0 {
                    break;
                }
                seen.body.extend_from_slice(&chunk[..size]);
            }
        } else if let Ok(length) = seen.header("content-length").parse() {
            seen.body = self.take(length).await?;
        }
        self.seen.lock().push(seen.clone());
        Some(seen)
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.tcp.write_all(bytes.as_ref()).await.ok();
    }

    /// Answers 200 with this body.
    pub(crate) async fn answer(&mut self, body: &str) {
        let length = body.len();
        self.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}")).await;
    }

    /// Writes this again and again, so far apart, until the other side closes, and counts that.
    pub(crate) async fn pour(&mut self, bytes: &[u8], pause: Duration) {
        while self.tcp.write_all(bytes).await.is_ok() {
            tokio::time::sleep(pause).await;
        }
        self.closed.fetch_add(1, SeqCst);
    }

    /// Waits until the other side closes, and counts it.
    pub(crate) async fn wait_for_close(&mut self) {
        while self.more().await.is_some() {}
        self.closed.fetch_add(1, SeqCst);
    }

    /// The first bytes of what comes, which stay to be read.
    pub(crate) async fn begins(&mut self, n: usize) -> String {
        while self.left.len() < n && self.more().await.is_some() {}
        String::from_utf8_lossy(&self.left).into_owned()
    }

    /// Drops the first bytes of what came.
    pub(crate) fn skip(&mut self, n: usize) {
        self.left.drain(..n);
    }

    /// Ends its own sending, and goes on reading.
    pub(crate) async fn finish(&mut self) {
        self.tcp.shutdown().await.ok();
    }

    /// What comes until the other side ends its sending.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await.is_some() {}
        std::mem::take(&mut self.left)
    }

    /// Ends the connection with RST.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Writes back whatever comes.
    pub(crate) async fn echo(&mut self) {
        let left = std::mem::take(&mut self.left);
        self.write(left).await;
        let (mut read, mut write) = self.tcp.split();
        tokio::io::copy(&mut read, &mut write).await.ok();
    }
}

/// A replica whose every connection runs a script; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    closed: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Upstream {
    /// Answers `ok`, but thinks for ever over paths with `/hang`.
    pub(crate) async fn hanging_where_asked() -> Self {
        Self::start(|mut talk| async move {
            while let Some(seen) = talk.request().await {
                if seen.line().contains("/hang") {
                    talk.wait_for_close().await;
                    return;
                }
                talk.answer("ok").await;
            }
        })
        .await
    }

    /// Answers each request with `half`, whose second part comes when it is notified.
    pub(crate) async fn halting(finish: Arc<Notify>) -> Self {
        Self::start(move |mut talk| {
            let finish = Arc::clone(&finish);
            async move {
                while talk.request().await.is_some() {
                    talk.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhal").await;
                    finish.notified().await;
                    talk.write("f").await;
                }
            }
        })
        .await
    }

    /// Several that answer `ok` after thinking as long as `think` says to each, by its place; `None`: for ever.
    pub(crate) async fn pool<F>(size: usize, think: F) -> Vec<Self>
    where
        F: Fn(usize) -> Option<Duration> + Clone + Send + 'static,
    {
        let mut pool = Vec::new();
        for place in 0..size {
            let think = think.clone();
            let script = move |mut talk: Talk| {
                let think = think.clone();
                async move {
                    while talk.request().await.is_some() {
                        let Some(time) = think(place) else { return talk.wait_for_close().await };
                        tokio::time::sleep(time).await;
                        talk.answer("ok").await;
                    }
                }
            };
            pool.push(Self::start(script).await);
        }
        pool
    }

    pub(crate) async fn start<F, R>(script: F) -> Self
    where
        F: Fn(Talk) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let (closed, accepted) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let notes = (Arc::clone(&seen), Arc::clone(&closed), Arc::clone(&accepted));
        let task = tokio::spawn(async move {
            let mut scripts = tokio::task::JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                tcp.set_nodelay(true).unwrap();
                notes.2.fetch_add(1, SeqCst);
                let (seen, closed) = (Arc::clone(&notes.0), Arc::clone(&notes.1));
                scripts.spawn(script(Talk { tcp, left: Vec::new(), seen, closed }));
                while scripts.try_join_next().is_some() {}
            }
        });
        Self { address, seen, closed, accepted, task: task.abort_handle() }
    }

    /// Answers every request with these bytes.
    pub(crate) async fn answering(bytes: &'static str) -> Self {
        Self::start(move |mut talk| async move {
            while talk.request().await.is_some() {
                talk.write(bytes).await;
            }
        })
        .await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    /// How many connections it took.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }

    /// Waits until scripts saw so many closes.
    pub(crate) async fn until_closed(&self, times: usize) {
        until("the replica sees the close", || self.closed.load(SeqCst) >= times).await;
    }

    /// The one request it saw.
    pub(crate) fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:#?}");
        seen.into_iter().next().unwrap()
    }
}
