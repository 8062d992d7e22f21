//! Two Eveners on one state directory: the old gives its sockets and its state away, then drains.
//!
//! ```text
//! new                                   old
//! hello {protocol, version}      ──►
//!                                ◄──    offer {listeners, admin}, then a descriptor for each
//! (binds what is new, opens logs)
//! ready                          ──►    (writes the state a last time)
//!                                ◄──    yours
//! (reads the state, accepts)
//! started                        ──►
//!                                ◄──    farewell (stops accepting, drains)
//!                                ◄──    the end of the connection (it has ended)
//! ```
//!
//! Both hold the same sockets, so none is closed and nobody is refused. The old one goes on accepting until `farewell`:
//! until then a new one that fails or falls silent is forgotten, and nothing has to be taken back but the state file. An
//! old one that keeps everything says so; one that ends without a word has died, and the new one goes on alone.
//! The state is written by one of them at a time: by the old one before `yours`, by the new one from then on.
mod gate;
mod give;
mod link;
mod take;

pub(super) use gate::Gate;
pub(super) use give::{Bequest, Estate, Heir, Parted};
pub use link::Broken;
pub(super) use take::{Parting, Taking, Willed};

#[cfg(test)]
mod tests {
    use super::link::{Link, Message, PROTOCOL};
    use super::*;
    use std::fs::File;
    use std::io::{Read as _, Seek as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;

    /// Plain files stand in for sockets: each tells by its text which it is.
    struct Things {
        lock: File,
        gate: File,
        admin: File,
        listeners: Vec<File>,
    }

    fn file(text: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn text(descriptor: std::os::fd::OwnedFd) -> String {
        let (mut file, mut text) = (File::from(descriptor), String::new());
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    }

    impl Things {
        fn new(listeners: usize) -> Self {
            let listeners = (0..listeners).map(|i| file(&format!("socket {i}"))).collect();
            Self { lock: file("lock"), gate: file("gate"), admin: file("admin"), listeners }
        }

        fn estate(&self) -> Estate<'_> {
            let listeners = self.listeners.iter().enumerate().map(|(i, socket)| Bequest {
                name: format!("l{i}"),
                configured: "127.0.0.1:0".to_owned(),
                owns_file: i == 1,
                socket: socket.as_fd(),
            });
            Estate {
                lock: self.lock.as_fd(),
                gate: self.gate.as_fd(),
                admin: ("127.0.0.1:9900".to_owned(), self.admin.as_fd()),
                listeners: listeners.collect(),
            }
        }
    }

    /// The old one, as far as it gets.
    async fn old(stream: UnixStream, things: Things) -> Result<Parted, Broken> {
        let heir = Heir::greet(stream, None).await?;
        heir.offer(things.estate()).await?.yours().await?.farewell().await
    }

    fn hello() -> Message {
        Message::Hello { protocol: PROTOCOL, version: "9".to_owned() }
    }

    #[tokio::test]
    async fn everything_arrives_in_its_place_however_many_there_are() {
        let (a, b) = UnixStream::pair().unwrap();
        let giving = tokio::spawn(old(a, Things::new(300)));
        let (mut taking, willed) = Taking::with(b).await.unwrap();
        assert_eq!((text(willed.lock), text(willed.gate)), ("lock".into(), "gate".into()));
        assert_eq!(willed.admin.0, "127.0.0.1:9900");
        assert_eq!(text(willed.admin.1), "admin");
        assert_eq!(willed.listeners.len(), 300);
        for (i, (name, configured, owns_file, socket)) in willed.listeners.into_iter().enumerate() {
            assert_eq!((name, configured.as_str()), (format!("l{i}"), "127.0.0.1:0"));
            assert_eq!((owns_file, text(socket)), (i == 1, format!("socket {i}")));
        }
        taking.ready().await.unwrap();
        let parting = taking.started().await.unwrap();
        let parted = giving.await.unwrap().unwrap();
        let ended = tokio::spawn(parting.ended());
        tokio::task::yield_now().await;
        assert!(!ended.is_finished(), "it still finishes what it runs");
        drop(parted);
        ended.await.unwrap();
    }

    #[tokio::test]
    async fn a_new_one_that_goes_is_noticed_at_every_step() {
        for steps in 0..3 {
            let (a, b) = UnixStream::pair().unwrap();
            let giving = tokio::spawn(old(a, Things::new(2)));
            if steps == 0 {
                drop(b);
            } else {
                let (mut taking, _willed) = Taking::with(b).await.unwrap();
                if steps == 2 {
                    taking.ready().await.unwrap();
                }
            }
            let ended = giving.await.unwrap();
            assert!(matches!(ended, Err(Broken::Gone)), "{steps}: {ended:?}");
        }
    }

    #[tokio::test]
    async fn an_old_one_that_dies_has_its_heir_once_it_has_offered_everything() {
        for steps in 0..3 {
            let (a, b) = UnixStream::pair().unwrap();
            let things = Things::new(1);
            let dying = tokio::spawn(async move {
                let heir = Heir::greet(a, None).await.unwrap();
                if steps > 0 {
                    let prepared = heir.offer(things.estate()).await.unwrap();
                    if steps > 1 {
                        prepared.yours().await.unwrap();
                    }
                }
            });
            let broken = async {
                let (mut taking, _willed) = Taking::with(b).await?;
                taking.ready().await?;
                taking.started().await
            };
            let ended = broken.await;
            assert_eq!(ended.is_ok(), steps > 0, "{steps}: {ended:?}");
            dying.await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_old_one_that_serves_on_says_so() {
        let (a, b) = UnixStream::pair().unwrap();
        let things = Things::new(1);
        let keeping = tokio::spawn(async move {
            let heir = Heir::greet(a, None).await.unwrap();
            heir.offer(things.estate()).await.unwrap().refuse("the disk is full".to_owned()).await;
        });
        let (mut taking, _willed) = Taking::with(b).await.unwrap();
        let ended = taking.ready().await;
        assert!(
            matches!(&ended, Err(Broken::Refused(why)) if why == "the disk is full"),
            "{ended:?}"
        );
        keeping.await.unwrap();
    }

    #[tokio::test]
    async fn one_of_another_protocol_is_told_what_to_do() {
        let (a, b) = UnixStream::pair().unwrap();
        let giving = tokio::spawn(old(a, Things::new(0)));
        let mut link = Link::new(b, Duration::from_secs(5));
        link.say(&Message::Hello { protocol: PROTOCOL + 1, version: "9".to_owned() })
            .await
            .unwrap();
        let Err(Broken::Refused(why)) = link.hear().await else { panic!("it was let in") };
        assert!(why.contains("stop the old one and start the new one"), "{why}");
        assert!(giving.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn nonsense_ends_the_conversation() {
        for nonsense in ["GET / HTTP/1.1\r\n", "\"ready\"\n", "\n", "{\"hello\":{}}\n"] {
            let (a, mut b) = UnixStream::pair().unwrap();
            b.write_all(nonsense.as_bytes()).await.unwrap();
            let ended = old(a, Things::new(0)).await;
            assert!(matches!(ended, Err(Broken::Nonsense(_))), "{nonsense:?}: {ended:?}");
        }
        // In the middle, too: a step may not be left out.
        let (a, b) = UnixStream::pair().unwrap();
        let giving = tokio::spawn(old(a, Things::new(0)));
        let mut link = Link::new(b, Duration::from_secs(5));
        link.say(&hello()).await.unwrap();
        link.say(&Message::Started).await.unwrap();
        assert!(matches!(giving.await.unwrap(), Err(Broken::Nonsense(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_says_nothing_is_waited_for_no_longer_than_a_while() {
        let (a, mut b) = UnixStream::pair().unwrap();
        let ended = old(a, Things::new(0)).await;
        assert!(matches!(ended, Err(Broken::Late(_))), "{ended:?}");
        assert_eq!(b.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_byte_without_a_descriptor_is_nonsense() {
        let (a, mut b) = UnixStream::pair().unwrap();
        b.write_all(b"+").await.unwrap();
        let mut link = Link::new(a, Duration::from_secs(5));
        assert!(matches!(link.receive().await, Err(Broken::Nonsense(_))));
    }
}
