//! Exchanges over a pair of sockets.
use super::*;
use crate::wire::Raw;
use tokio::net::UnixStream;

fn pair() -> (Http1, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    (Http1::new(Box::new(Conn::http1(Raw::Unix(near)))), far)
}

async fn answered(says: &str) -> Http1 {
    let (mut http1, mut far) = pair();
    far.write_all(says.as_bytes()).await.unwrap();
    http1.write_head(&RequestHeader::build("GET", b"/", None).unwrap(), false).await.unwrap();
    http1.read_head().await.unwrap();
    while http1.read_body().await.unwrap().is_some() {}
    drop(far);
    http1
}

#[tokio::test]
async fn a_head_leaves_with_the_body_behind_it() {
    let (mut http1, far) = pair();
    let mut head = RequestHeader::build("POST", b"/", None).unwrap();
    head.insert_header("content-length", "2").unwrap();
    http1.write_head(&head, true).await.unwrap();
    let nothing = far.try_read(&mut [0]).unwrap_err();
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    http1.write_body(Bytes::from_static(b"hi")).await.unwrap();
    let mut seen = [0; 100];
    far.readable().await.unwrap();
    let n = far.try_read(&mut seen).unwrap();
    assert!(seen[..n].ends_with(b"\r\n\r\nhi"), "without a flush: its length is reached");
}

#[tokio::test]
async fn chunks_are_written_and_a_body_that_is_too_short_is_an_error() {
    let (mut http1, mut far) = pair();
    let mut head = RequestHeader::build("POST", b"/", None).unwrap();
    head.insert_header("transfer-encoding", "chunked").unwrap();
    http1.write_head(&head, false).await.unwrap();
    http1.write_body(Bytes::from_static(b"0123456789")).await.unwrap();
    http1.finish().await.unwrap();
    drop(http1);
    let mut seen = String::new();
    far.read_to_string(&mut seen).await.unwrap();
    assert!(seen.ends_with("\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n"), "{seen}");
    let (mut http1, _far) = pair();
    head.remove_header("transfer-encoding");
    head.insert_header("content-length", "2").unwrap();
    http1.write_head(&head, false).await.unwrap();
    assert_eq!(*http1.finish().await.unwrap_err().etype(), CUT_SHORT);
}

#[tokio::test]
async fn only_a_connection_in_step_is_kept() {
    for (says, kept) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", true),
        ("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", true),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", false),
        ("HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 2\r\n\r\nok", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP", false),
    ] {
        assert_eq!(answered(says).await.into_kept().await.is_some(), kept, "{says:?}");
    }
}

#[tokio::test]
async fn how_a_connection_ends_tells_what_broke() {
    let (mut http1, far) = pair();
    drop(far);
    assert_eq!(*http1.read_head().await.unwrap_err().etype(), ConnectionClosed);
    let (mut http1, mut far) = pair();
    far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok").await.unwrap();
    drop(far);
    http1.read_head().await.unwrap();
    assert_eq!(http1.read_body().await.unwrap().unwrap(), "ok");
    assert_eq!(*http1.read_body().await.unwrap_err().etype(), ConnectionClosed);
}
