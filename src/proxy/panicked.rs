//! An exchange that panicked: its client is told so, and nothing of it stays behind.
use super::exchange::{End, Exchange};
use crate::dialect::RefusalCode;
use crate::flow::{Happened, Refusal};

impl Exchange<'_> {
    /// Answers 500 where no answer has begun, and cuts the connection otherwise. The replica is not blamed.
    pub(super) async fn end_after_panic(&mut self) -> End {
        self.original = None;
        let code = RefusalCode::InternalError;
        if self.begun() {
            self.record.course.note(Happened::Refused { error: code, class: None });
            return End::Cut;
        }
        // How far the request was read is not known any more.
        self.session.set_keepalive(None);
        let message = "Evener failed at this request; its log says where";
        self.refuse(Refusal::new(code, message)).await
    }

    /// A step of an exchange, which the tests of this file let panic. It does nothing in any other build.
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "only tests look"))]
    #[inline]
    pub(super) fn checkpoint(&self, step: &str) {
        let _ = step;
        #[cfg(test)]
        tests::panic_where_asked(self, step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::control::{Heritage, Runner, Started};
    use crate::mock::{Knobs, serve};
    use crate::observe::{Task, watch_panics_in_tests};
    use crate::table::ListenAddress;
    use std::net::SocketAddr;
    use std::os::fd::OwnedFd;
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    const ASKED: &str = "x-panic";

    pub(super) fn panic_where_asked(exchange: &Exchange<'_>, step: &str) {
        let asked = exchange.session.req_header().headers.get(ASKED);
        assert!(
            asked.is_none_or(|asked| asked.as_bytes() != step.as_bytes()),
            "as asked at {step}"
        );
    }

    struct Site {
        _dir: TempDir,
        started: Started,
        _runner: Runner,
        address: SocketAddr,
    }

    impl Site {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let replica = listener.local_addr().unwrap();
            tokio::spawn(serve(listener, Knobs::default(), std::future::pending()));
            let dir = tempfile::tempdir().unwrap();
            let text = format!(
                "listeners: [{{address: '127.0.0.1:0'}}]\nstate: {{dir: {}/state}}\n\
                 telemetry: {{access_log: null}}\n\
                 models: {{m: {{versions: {{v: ['http://{replica}']}}, health: false}}}}\n",
                dir.path().display()
            );
            let checked = config::parse_text(text, "test.yaml", &|_| None).unwrap();
            let state = checked.plan.state_dir.clone();
            let mut heritage = Heritage::claim(&state, false, Vec::new()).await.unwrap();
            let admin = OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
            let file = dir.path().join("test.yaml");
            let runner =
                Runner::start(file, checked, |_| None, &mut heritage, admin).await.unwrap();
            let started = runner.started();
            let ListenAddress::Tcp(address) = started.addresses.load()[0].1 else { unreachable!() };
            Self { _dir: dir, started, _runner: runner, address }
        }

        /// Everything that is answered until the connection ends.
        async fn ask(&self, step: &str) -> String {
            let mut tcp = TcpStream::connect(self.address).await.unwrap();
            let request = format!("GET /headers HTTP/1.1\r\nhost: x\r\n{ASKED}: {step}\r\n\r\n");
            tcp.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            tcp.read_to_end(&mut answer).await.ok();
            String::from_utf8(answer).unwrap()
        }
    }

    #[tokio::test]
    async fn an_exchange_that_panics_is_answered_or_cut_and_leaves_nothing_behind() {
        watch_panics_in_tests();
        let site = Site::start().await;
        let table = site.started.proxy.current.load_full();
        let version = &table.models[0].versions[0];
        let replica = &version.members[0].replica;
        for (i, step) in ["head", "attempt", "chunk"].into_iter().enumerate() {
            let before = Task::Exchange.panics();
            let answer = site.ask(step).await;
            assert!(Task::Exchange.panics() > before, "{step}");
            if step == "chunk" {
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            } else {
                assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
                assert!(answer.contains("x-evener-error: internal_error"), "{answer}");
            }
            assert_eq!(replica.in_flight(), 0, "{step}");
            let connections = site.started.proxy.connections();
            assert!(connections <= 1, "{step}: {connections} connections");
            let refused: u64 =
                [&table.models[0].state.refusals, &site.started.proxy.meters.nameless.refusals]
                    .iter()
                    .flat_map(|refusals| refusals.counts())
                    .filter(|(code, _)| *code == RefusalCode::InternalError)
                    .map(|(_, n)| n)
                    .sum();
            assert_eq!(refused, 1 + i as u64, "{step}");
        }
        for class in crate::health::Class::ALL {
            assert_eq!(replica.outcomes.of_class(class), 0, "the replica is not blamed");
        }
        // The other test of this file panics, too.
        let last = Task::Exchange.last_panic();
        let told = last.starts_with("as asked at ") && last.contains(" (src/proxy/panicked.rs:");
        assert!(told, "{last}");
    }

    #[tokio::test]
    async fn other_streams_of_the_connection_go_on() {
        watch_panics_in_tests();
        let site = Site::start().await;
        let tcp = TcpStream::connect(site.address).await.unwrap();
        let (client, connection) = h2::client::handshake(tcp).await.unwrap();
        tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let mut ask = |step: &str| {
            let path = "http://x/v1/chat/completions";
            let request = http::Request::post(path).header(ASKED, step).body(()).unwrap();
            let (answer, mut body) = client.send_request(request, false).unwrap();
            body.send_data(r#"{"model":"m","stream":true}"#.into(), true).unwrap();
            answer
        };
        let asked = [ask("none"), ask("attempt"), ask("none")];
        let mut statuses = Vec::new();
        for answer in asked {
            statuses.push(answer.await.unwrap().status().as_u16());
        }
        assert_eq!(statuses, [200, 500, 200]);
        // The reset may overtake the head.
        let mut broken = true;
        if let Ok(answer) = ask("chunk").await {
            let mut body = answer.into_body();
            broken = false;
            while let Some(part) = body.data().await {
                broken |= part.is_err();
            }
        }
        assert!(broken, "an answer that is cut is no whole one");
        assert_eq!(ask("none").await.unwrap().status(), 200);
    }
}
