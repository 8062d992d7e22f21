//! What the two say to each other: lines of JSON over a unix socket, and file descriptors between them.
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Grows when a message changes its meaning; two that differ do not hand over.
pub(super) const PROTOCOL: u32 = 1;
/// Far more than thousands of listeners need.
const LONGEST_LINE: usize = 1 << 20;
/// Goes with each descriptor: a message must have at least a byte.
const MARK: u8 = b'+';

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Message {
    Hello { protocol: u32, version: String },
    Refused { why: String },
    Offer { listeners: Vec<Offered>, admin: String },
    Ready,
    Yours,
    Started,
    Farewell,
}

/// What is told of a listener; its descriptor follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Offered {
    pub(super) name: String,
    /// As the file says it: a port 0 stays 0.
    pub(super) configured: String,
    /// A unix socket's file is removed by whoever has it last, unless systemd made it.
    pub(super) owns_file: bool,
}

/// How a handover fails.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("the other one ended, or let go")]
    Gone,
    #[error("the other one did not answer within {0:?}")]
    Late(Duration),
    #[error("the other one says {0}, which is not understood here")]
    Nonsense(String),
    #[error("the other one refuses: {0}")]
    Refused(String),
    #[error("the connection fails: {0}")]
    Failed(#[from] io::Error),
}

impl Broken {
    pub(super) fn nonsense(message: &Message) -> Self {
        Self::Nonsense(serde_json::to_string(message).unwrap_or_default())
    }
}

/// One end of the conversation.
#[derive(Debug)]
pub(super) struct Link {
    stream: UnixStream,
    /// How long each answer may take.
    patience: Duration,
}

impl Link {
    pub(super) fn new(stream: UnixStream, patience: Duration) -> Self {
        Self { stream, patience }
    }

    pub(super) async fn say(&mut self, message: &Message) -> Result<(), Broken> {
        let mut line = serde_json::to_vec(message).map_err(io::Error::other)?;
        line.push(b'\n');
        self.in_time(async |link| link.stream.write_all(&line).await.map_err(gone_or_failed)).await
    }

    pub(super) async fn hear(&mut self) -> Result<Message, Broken> {
        let line = self.in_time(Self::line).await?;
        match serde_json::from_slice(&line) {
            Ok(Message::Refused { why }) => Err(Broken::Refused(why)),
            Ok(message) => Ok(message),
            Err(_) => {
                let text = String::from_utf8_lossy(&line);
                Err(Broken::Nonsense(format!(
                    "`{}`",
                    text.escape_debug().take(80).collect::<String>()
                )))
            }
        }
    }

    /// Returns when the other end is closed.
    pub(super) async fn closed(mut self) {
        let mut nothing = [0; 64];
        while self.stream.read(&mut nothing).await.is_ok_and(|read| read > 0) {}
    }

    /// Waits for one message, and no other.
    pub(super) async fn expect(&mut self, expected: &Message) -> Result<(), Broken> {
        let heard = self.hear().await?;
        if heard == *expected { Ok(()) } else { Err(Broken::nonsense(&heard)) }
    }

    /// Byte by byte: one read too far would lose a descriptor that follows, and tokio would take a read that ends
    /// before it for all that there is.
    async fn line(&mut self) -> Result<Vec<u8>, Broken> {
        let mut line = Vec::new();
        while line.len() < LONGEST_LINE {
            match self.stream.read_u8().await {
                Ok(b'\n') => return Ok(line),
                Ok(byte) => line.push(byte),
                Err(error) => return Err(gone_or_failed(error)),
            }
        }
        Err(Broken::Nonsense("a line without an end".to_owned()))
    }

    pub(super) async fn give(&mut self, descriptor: BorrowedFd<'_>) -> Result<(), Broken> {
        let send = |stream: &UnixStream| {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut with = SendAncillaryBuffer::new(&mut space);
            let descriptors = [descriptor];
            with.push(SendAncillaryMessage::ScmRights(&descriptors));
            sendmsg(stream, &[IoSlice::new(&[MARK])], &mut with, SendFlags::NOSIGNAL)
        };
        self.in_time(async |link| {
            let stream = &link.stream;
            let sent = stream.async_io(Interest::WRITABLE, || Ok(send(stream)?)).await;
            sent.map(|_| ()).map_err(gone_or_failed)
        })
        .await
    }

    pub(super) async fn receive(&mut self) -> Result<OwnedFd, Broken> {
        self.in_time(async |link| {
            let stream = &link.stream;
            let received = stream.async_io(Interest::READABLE, || Ok(receive(stream)?)).await?;
            match received {
                (0, _) => Err(Broken::Gone),
                (_, Some(descriptor)) => Ok(descriptor),
                (_, None) => Err(Broken::Nonsense("a byte without a descriptor".to_owned())),
            }
        })
        .await
    }

    async fn in_time<T>(
        &mut self,
        act: impl AsyncFnOnce(&mut Self) -> Result<T, Broken>,
    ) -> Result<T, Broken> {
        let patience = self.patience;
        timeout(patience, act(self)).await.unwrap_or(Err(Broken::Late(patience)))
    }
}

/// One byte, and the descriptor that came with it.
fn receive(stream: &UnixStream) -> Result<(usize, Option<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut with = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let got = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut with, flags)?;
    let mut descriptor = None;
    for message in with.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            descriptor = descriptors.next();
        }
    }
    Ok((got.bytes, descriptor))
}

fn gone_or_failed(error: io::Error) -> Broken {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    let gone = matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof);
    if gone { Broken::Gone } else { Broken::Failed(error) }
}
