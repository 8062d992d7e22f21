//! How a connection reads and writes, as its reins say.
use super::*;
use std::future::poll_fn;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A connection and its peer.
async fn pair() -> (Conn, TcpStream) {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (Conn::http1(Raw::Tcp(listener.accept().await.unwrap().0)), peer)
}

/// A read that gives what it gives now.
async fn poll_read(conn: &mut Conn) -> Poll<io::Result<Vec<u8>>> {
    let mut room = [0; 100];
    poll_fn(|cx| {
        let mut buf = ReadBuf::new(&mut room);
        let read = Pin::new(&mut *conn).poll_read(cx, &mut buf);
        Poll::Ready(read.map_ok(|()| buf.filled().to_vec()))
    })
    .await
}

/// A read that waits.
async fn read(conn: &mut Conn) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 100];
    let n = conn.read(&mut bytes).await?;
    bytes.truncate(n);
    Ok(bytes)
}

#[tokio::test]
async fn a_head_and_the_first_of_its_body_leave_together() {
    let (mut conn, mut peer) = pair().await;
    let reins = conn.reins();
    reins.direct(true);
    reins.cork(true);
    conn.write_all(b"head ").await.unwrap();
    conn.flush().await.unwrap();
    reins.cork(false);
    assert_eq!(reins.written(), 0, "it waits for the body");
    conn.write_all(b"body").await.unwrap();
    assert_eq!(reins.written(), 9, "it needs no flush");
    let mut got = [0; 9];
    peer.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"head body");
    conn.write_all(b"more").await.unwrap();
    assert_eq!(reins.written(), 13);
}

#[tokio::test]
async fn small_writes_are_gathered_unless_they_go_directly() {
    let (mut conn, _peer) = pair().await;
    conn.write_all(b"one").await.unwrap();
    conn.write_all(b"two").await.unwrap();
    assert_eq!(conn.reins().written(), 0);
    conn.flush().await.unwrap();
    assert_eq!(conn.reins().written(), 6);
}

#[tokio::test]
async fn what_is_read_ahead_is_given_later_in_its_order() {
    let (mut conn, mut peer) = pair().await;
    let reins = conn.reins();
    reins.read_as(Reading::Watch);
    for piece in ["the next ", "request"] {
        peer.write_all(piece.as_bytes()).await.unwrap();
        let before = conn.prefix.len();
        while conn.prefix.len() < before + piece.len() {
            assert!(poll_read(&mut conn).await.is_pending());
            tokio::task::yield_now().await;
        }
    }
    reins.reset();
    peer.write_all(b" is here").await.unwrap();
    assert_eq!(read(&mut conn).await.unwrap(), b"the next request");
    assert_eq!(read(&mut conn).await.unwrap(), b" is here");
}

#[tokio::test]
async fn no_more_is_read_ahead_than_there_is_room_for() {
    let (mut conn, mut peer) = pair().await;
    conn.reins().read_as(Reading::Watch);
    let flood = tokio::spawn(async move { peer.write_all(&vec![b'x'; 10 * READ_AHEAD]).await });
    while conn.prefix.len() < READ_AHEAD {
        assert!(poll_read(&mut conn).await.is_pending());
        tokio::task::yield_now().await;
    }
    flood.await.unwrap().unwrap();
    assert!(poll_read(&mut conn).await.is_pending());
    assert!(conn.prefix.len() < READ_AHEAD + 512);
}

#[tokio::test]
async fn chunks_that_were_read_ahead_are_checked_when_they_are_given() {
    let (mut conn, mut peer) = pair().await;
    conn.reins().read_as(Reading::Watch);
    peer.write_all(b"2\nhi\r\n").await.unwrap();
    while conn.prefix.is_empty() {
        assert!(poll_read(&mut conn).await.is_pending());
        tokio::task::yield_now().await;
    }
    conn.reins().reset();
    conn.expect_chunks(Some(Chunks::default()));
    assert_eq!(read(&mut conn).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn an_end_is_told_or_noted() {
    let (mut conn, mut peer) = pair().await;
    conn.reins().read_as(Reading::WatchHalf);
    peer.shutdown().await.unwrap();
    while !conn.reins().has_ended() {
        assert!(poll_read(&mut conn).await.is_pending());
        tokio::task::yield_now().await;
    }
    assert!(poll_read(&mut conn).await.is_pending(), "it was noted");
    conn.reins().read_as(Reading::Watch);
    assert_eq!(read(&mut conn).await.unwrap(), b"", "it is told");
    conn.reins().read_as(Reading::Plain);
    assert_eq!(read(&mut conn).await.unwrap(), b"");
    conn.write_all(b"answer").await.unwrap();
    conn.flush().await.unwrap();
    drop(conn);
    let mut got = Vec::new();
    peer.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"answer");
}

#[tokio::test]
async fn a_reset_ends_a_watch_after_the_end() {
    for reading in [Reading::WatchHalf, Reading::Tunnel] {
        let (mut conn, mut peer) = pair().await;
        conn.reins().read_as(reading);
        peer.shutdown().await.unwrap();
        while !conn.reins().has_ended() {
            assert!(poll_read(&mut conn).await.is_pending());
            tokio::task::yield_now().await;
        }
        let watching = tokio::spawn(async move { read(&mut conn).await });
        socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        let told = tokio::time::timeout(Duration::from_secs(10), watching).await.unwrap().unwrap();
        assert_eq!(told.unwrap_err().kind(), io::ErrorKind::ConnectionReset, "{reading:?}");
    }
}

#[tokio::test]
async fn an_end_is_sent_behind_what_is_queued() {
    let (mut conn, mut peer) = pair().await;
    let reins = conn.reins();
    reins.duplex(true);
    reins.read_as(Reading::Tunnel);
    conn.write_all(&vec![b'x'; 3_000_000]).await.unwrap();
    reins.finish();
    let reading = tokio::spawn(async move {
        let mut got = Vec::new();
        peer.read_to_end(&mut got).await.unwrap();
        peer.write_all(b"heard").await.unwrap();
        got.len()
    });
    // Reading goes on, and pushes the queue.
    assert_eq!(read(&mut conn).await.unwrap(), b"heard");
    assert_eq!(reading.await.unwrap(), 3_000_000);
}
