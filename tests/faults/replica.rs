//! A replica of HTTP/1 that does to each request what its plan says.
use crate::fault::Ending;
use crate::ledger::Ledger;
use crate::plan::Plan;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// A listener whose connections are served until it is dropped.
#[derive(Debug)]
pub(crate) struct Faulty {
    pub(crate) address: SocketAddr,
    task: AbortHandle,
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Faulty {
    pub(crate) async fn start<F, R>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                tcp.set_nodelay(true).ok();
                open.spawn(serve(tcp));
                while open.try_join_next().is_some() {}
            }
        });
        Self { address, task: task.abort_handle() }
    }

    /// Does what the plans say.
    pub(crate) async fn http1(ledger: &Arc<Ledger>) -> Self {
        let ledger = Arc::clone(ledger);
        Self::start(move |tcp| {
            let ledger = Arc::clone(&ledger);
            async move {
                serve(Talk { tcp, left: Vec::new() }, &ledger).await;
            }
        })
        .await
    }

    /// Ends every connection at once, or reads on it without a word.
    pub(crate) async fn closing(ending: Ending) -> Self {
        Self::start(move |tcp| async move {
            match ending {
                Ending::Close => {}
                Ending::Reset => reset_on_close(&tcp),
                Ending::Hang => Talk { tcp, left: Vec::new() }.until_closed().await,
            }
        })
        .await
    }
}

/// Makes the close that follows an RST.
pub(crate) fn reset_on_close(tcp: &TcpStream) {
    socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO)).ok();
}

/// What follows an answer on its connection.
pub(crate) enum Then {
    Next,
    Close,
    Reset,
    Hang,
}

/// The other side is gone.
pub(crate) struct Gone;

pub(crate) struct Talk {
    tcp: TcpStream,
    left: Vec<u8>,
}

async fn serve(mut talk: Talk, ledger: &Arc<Ledger>) {
    while let Some(head) = talk.head().await {
        let field = |name: &str| {
            let mut fields = head.lines().filter_map(|line| line.split_once(": "));
            fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        let Some(token) = field("x-token").and_then(|token| token.parse().ok()) else {
            return ledger.wrong(format!("a request that no client sent: {head}"));
        };
        let plan = Plan::draw(ledger.seed, token);
        let _open = ledger.enter();
        let length = field("content-length").and_then(|length| length.parse().ok());
        let chunked = field("transfer-encoding").is_some();
        if !head.contains(&plan.path()) {
            ledger.wrong(format!("another path: {head}"));
        }
        let early = plan.fault.is_early();
        if !early && !talk.takes_body(length, chunked, &plan, ledger).await {
            return;
        }
        ledger.handle(&plan);
        match talk.play(&plan, ledger).await {
            Ok(Then::Next) if early => {
                if !talk.takes_body(length, chunked, &plan, ledger).await {
                    return;
                }
            }
            Ok(Then::Next) => {}
            Ok(Then::Hang) => return talk.until_closed().await,
            Ok(Then::Reset) => return reset_on_close(&talk.tcp),
            Ok(Then::Close) | Err(Gone) => return,
        }
    }
}

impl Talk {
    async fn more(&mut self) -> Option<()> {
        let n = self.tcp.read_buf(&mut self.left).await.ok()?;
        (n > 0).then_some(())
    }

    async fn until_closed(&mut self) {
        while self.more().await.is_some() {}
    }

    async fn find(&mut self, end: &[u8]) -> Option<usize> {
        loop {
            if let Some(at) = self.left.windows(end.len()).position(|window| window == end) {
                return Some(at + end.len());
            }
            self.more().await?;
        }
    }

    async fn take(&mut self, n: usize) -> Option<Vec<u8>> {
        while self.left.len() < n {
            self.more().await?;
        }
        let rest = self.left.split_off(n);
        Some(std::mem::replace(&mut self.left, rest))
    }

    async fn head(&mut self) -> Option<String> {
        let n = self.find(b"\r\n\r\n").await?;
        String::from_utf8(self.take(n).await?).ok()
    }

    async fn body(&mut self, length: Option<usize>, chunked: bool) -> Option<Vec<u8>> {
        if !chunked {
            return self.take(length.unwrap_or(0)).await;
        }
        let mut body = Vec::new();
        loop {
            let n = self.find(b"\r\n").await?;
            let line = self.take(n).await?;
            let size = std::str::from_utf8(&line[..n - 2]).ok()?;
            let size = usize::from_str_radix(size, 16).ok()?;
            body.extend_from_slice(&self.take(size + 2).await?[..size]);
            if size == 0 {
                return Some(body);
            }
        }
    }

    /// Reads the request's body. One that ends must be the client's, whole.
    async fn takes_body(
        &mut self,
        length: Option<usize>,
        chunked: bool,
        plan: &Plan,
        ledger: &Ledger,
    ) -> bool {
        let Some(body) = self.body(length, chunked).await else { return false };
        if body != plan.body() {
            ledger.wrong(format!("a replica got {} bytes of another body: {plan:?}", body.len()));
        }
        true
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Gone> {
        self.tcp.write_all(bytes.as_ref()).await.map_err(|_| Gone)
    }
}
