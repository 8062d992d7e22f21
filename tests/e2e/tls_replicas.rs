//! Replicas that are spoken to over TLS.
use crate::client::{Raw, Request};
use crate::secure::{Authority, Drawer, Echo, Shown, replace};
use crate::site::{Setup, Site, eventually, until};
use crate::upstream::{Mock, Talk, Upstream};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

fn model(tls: &str, url: &str, more: &str) -> String {
    format!(
        "models: {{m: {{{more}versions: {{v1: {{tls: {{{tls}}}, replicas: [\"{url}\"]}}}}}}}}\n"
    )
}

async fn replica_status(site: &Site) -> Value {
    let status = site.ask(Request::get("/api/v1/status")).await.json();
    status["models"][0]["versions"][0]["replicas"][0].clone()
}

#[tokio::test]
async fn a_replica_with_the_wrong_certificate_is_refused_and_told_why() {
    let (authority, drawer) = (Authority::new("ca"), Drawer::new());
    replace(&drawer.file("ca.crt"), &authority.pem());
    let ca = format!("ca: {}", drawer.file("ca.crt").display());
    let stranger = Authority::new("stranger");
    for (pair, tls, told) in [
        (
            authority.issue(&["other.example"]),
            ca.clone(),
            "is for `other.example`, not `127.0.0.1`",
        ),
        (authority.issue(&NAMES), format!("{ca}, server_name: x.example"), "not `x.example`"),
        (stranger.issue(&NAMES), ca.clone(), "its certificate has an unknown issuer"),
        (authority.until(&NAMES, 2021), ca.clone(), "its certificate expired on 2021-12-31"),
    ] {
        let echo = Echo::secure(Shown::new(&pair, &["h2", "http/1.1"])).await;
        let health =
            "health: {tcp: true, every: 200ms, timeout: 100ms, fall: 1}, timeouts: {connect: 5s}, ";
        let site = Site::start(model(&tls, &format!("https://{}", echo.address), health)).await;
        let reply = site.send(Request::get("/v2/models/m")).await;
        assert_eq!(reply.status, 502, "{told}");
        let status = eventually("its status tells why", async || {
            let status = replica_status(&site).await;
            status["reason"].as_str().is_some_and(|why| why.contains(told)).then_some(status)
        })
        .await;
        assert_eq!(status["state"], "unhealthy");
        assert_eq!(echo.accepted(), 0, "{told}");
        let (_, board, _) = site.evener(&["status"]).await;
        assert!(board.contains(told), "{board}");
        let failed =
            site.metric("evener_replica_requests_total", r#"class="connect_failure""#).await;
        assert!(failed > 0.5, "{told}");
    }
}

#[tokio::test]
async fn insecure_takes_anybody_and_warns() {
    let (authority, echo_pair) = (Authority::new("ca"), Authority::new("other").issue(&["x"]));
    drop(authority);
    let echo = Echo::secure(Shown::new(&echo_pair, &["http/1.1"])).await;
    let site = Site::start(model("insecure: true", &format!("https://{}", echo.address), "")).await;
    let reply = site.send(Request::post("/v2/models/m/infer", "{}")).await;
    assert_eq!((reply.status, reply.text()), (200, "{}".to_owned()));
    assert_eq!(echo.seen()[0].headers["x-forwarded-proto"], "http");
}

#[tokio::test]
async fn a_replica_is_shown_a_certificate_and_new_files_dial_anew() {
    let (authority, drawer) = (Authority::new("ca"), Drawer::new());
    replace(&drawer.file("ca.crt"), &authority.pem());
    authority.issue(&["client"]).write(drawer.path(), "c");
    let shown = Shown::new(&authority.issue(&NAMES), &["h2", "http/1.1"]).asks(&authority);
    let echo = Echo::secure(shown).await;
    let of = |kind: &str| drawer.file(&format!("c.{kind}")).display().to_string();
    let ca = format!("ca: {}", drawer.file("ca.crt").display());
    let tls = format!("{ca}, cert: {}, key: {}", of("crt"), of("key"));
    let url = format!("https://{}", echo.address);
    let site = Site::start(model(&tls, &url, "health: false, ")).await;
    let ask = || Request::post("/v2/models/m/infer", "{}");
    for _ in 0..3 {
        assert_eq!(site.send(ask()).await.status, 200);
    }
    assert_eq!(echo.accepted(), 1, "one HTTP/2 connection for all");
    authority.issue(&["client"]).write(drawer.path(), "c");
    until("the new files are used", || site.count_said("uses the new files") > 0).await;
    assert_eq!(site.send(ask()).await.status, 200);
    assert_eq!(echo.accepted(), 2, "a connection with the new certificate");
    // Without one the replica ends it: with TLS 1.3 that is seen only after the handshake.
    site.reload(&Setup::new(model(&ca, &url, "health: false, retries: false, "))).await;
    assert_eq!(site.send(ask()).await.status, 502);
}

/// Also where nobody probes: what failed last is said of a replica in whatever state.
#[tokio::test]
async fn without_health_checks_requests_tell_why() {
    let (authority, drawer) = (Authority::new("ca"), Drawer::new());
    replace(&drawer.file("ca.crt"), &authority.pem());
    let echo = Echo::secure(Shown::new(&authority.issue(&["x.example"]), &[])).await;
    let ca = format!("ca: {}", drawer.file("ca.crt").display());
    let url = format!("https://{}", echo.address);
    let site = Site::start(model(&ca, &url, "health: false, ")).await;
    assert_eq!(replica_status(&site).await["reason"], Value::Null);
    assert_eq!(site.send(Request::get("/v2/models/m")).await.status, 502);
    let status = replica_status(&site).await;
    assert_eq!(status["reason"], "its certificate is for `x.example`, not `127.0.0.1`");
}

#[tokio::test]
async fn http2_is_insisted_on_where_the_url_says_so() {
    let (authority, drawer) = (Authority::new("ca"), Drawer::new());
    replace(&drawer.file("ca.crt"), &authority.pem());
    let echo = Echo::secure(Shown::new(&authority.issue(&NAMES), &[])).await;
    let ca = format!("ca: {}", drawer.file("ca.crt").display());
    let health = "health: {every: 200ms, timeout: 100ms, fall: 1}, ";
    let site = Site::start(model(&ca, &format!("grpcs://{}", echo.address), health)).await;
    assert_eq!(site.send(Request::get("/v2/models/m")).await.status, 502);
    eventually("its status tells why", async || {
        let status = replica_status(&site).await;
        status["reason"].as_str().is_some_and(|why| why.contains("HTTP/2")).then_some(())
    })
    .await;
}

/// A replica that would speak HTTP/2 is asked for HTTP/1.1 where the client wants a WebSocket.
#[tokio::test]
async fn an_upgrade_reaches_a_replica_that_offers_http2() {
    let (authority, drawer) = (Authority::new("ca"), Drawer::new());
    replace(&drawer.file("ca.crt"), &authority.pem());
    let acceptor = Shown::new(&authority.issue(&NAMES), &["h2", "http/1.1"]).acceptor();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let replica = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut tls = acceptor.accept(tcp).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            tls.read_buf(&mut seen).await.unwrap();
        }
        let switch =
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        tls.write_all(switch.as_bytes()).await.unwrap();
        tls.flush().await.unwrap();
        let mut word = [0; 4];
        tls.read_exact(&mut word).await.unwrap();
        tls.write_all(&word).await.unwrap();
        tls.shutdown().await.unwrap();
    });
    let ca = format!("ca: {}", drawer.file("ca.crt").display());
    let site = Site::start(model(&ca, &format!("https://{address}"), "health: false, ")).await;
    let mut client = Raw::connect(site.address).await;
    client
        .write("GET /v2/models/m HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        .await;
    assert!(client.read_until("\r\n\r\n").await.contains(" 101 "));
    client.write("ping").await;
    assert!(client.read_until("ping").await.contains("ping"));
    replica.await.unwrap();
}

#[tokio::test]
async fn health_checks_and_tests_go_the_same_way() {
    let (authority, drawer) = (Authority::new("ca"), Drawer::new());
    replace(&drawer.file("ca.crt"), &authority.pem());
    let echo = Echo::secure(Shown::new(&authority.issue(&NAMES), &["h2"])).await;
    let ca = format!("ca: {}", drawer.file("ca.crt").display());
    let health = "health: {path: /health, every: 200ms, timeout: 100ms}, ";
    let site = Site::start(model(&ca, &format!("https://{}", echo.address), health)).await;
    until("it is probed", || echo.seen().iter().any(|head| head.uri.path() == "/health")).await;
    eventually("it is healthy", async || {
        (replica_status(&site).await["state"] == "healthy").then_some(())
    })
    .await;
    let probe = echo.seen().into_iter().find(|head| head.uri.path() == "/health").unwrap();
    assert_eq!(probe.uri.scheme_str(), Some("https"));
    let test = r#"{"method":"POST","path":"/v2/models/m/infer","body":"{}"}"#;
    let reply = site.ask(Request::post("/api/v1/test", test)).await;
    assert_eq!(reply.json()["status"], 200, "{}", reply.text());
}

#[tokio::test]
async fn plain_and_secure_replicas_stand_beside_each_other() {
    let (authority, drawer) = (Authority::new("ca"), Drawer::new());
    replace(&drawer.file("ca.crt"), &authority.pem());
    let (secure, mock) = (
        Echo::secure(Shown::new(&authority.issue(&NAMES), &["h2", "http/1.1"])).await,
        Mock::version("v1").await,
    );
    let ca = drawer.file("ca.crt").display().to_string();
    let site = Site::start(format!(
        "models: {{m: {{balance: round_robin, versions: {{v1: {{tls: {{ca: {ca}}}, replicas: [\"https://{}\", \"{}\"]}}}}}}}}\n",
        secure.address,
        mock.url()
    ))
    .await;
    for _ in 0..10 {
        assert_eq!(site.send(Request::get("/v2/models/m")).await.status, 200);
    }
    let asked = |head: &&http::request::Parts| head.uri.path() == "/v2/models/m";
    assert_eq!(secure.seen().iter().filter(asked).count(), 5);
}

/// Their heads are made before it is known which protocol the replica chooses.
#[tokio::test]
async fn copies_and_hedges_go_over_tls_too() {
    let (authority, drawer) = (Authority::new("ca"), Drawer::new());
    replace(&drawer.file("ca.crt"), &authority.pem());
    let pair = authority.issue(&NAMES);
    let ca = drawer.file("ca.crt").display().to_string();
    for (protocols, version) in
        [(&["h2"][..], http::Version::HTTP_2), (&["http/1.1"], http::Version::HTTP_11)]
    {
        let echo = Echo::secure(Shown::new(&pair, protocols)).await;
        let (quick, slow) = (Upstream::answering(OK).await, Upstream::start(hang).await);
        let site = Site::start(format!(
            "models:\n  copied:\n    health: false\n    mirror: {{to: v2, percent: 100}}\n    \
             versions: {{v1: [\"{0}\"], v2: {{tls: {{ca: {ca}}}, replicas: [\"https://{1}\"]}}}}\n    \
             split: {{v1: 100, v2: 0}}\n  hedged:\n    health: false\n    balance: round_robin\n    \
             hedge: {{after: 20ms, budget: 100%}}\n    \
             versions: {{v1: {{tls: {{ca: {ca}}}, replicas: [\"{2}\", \"https://{1}\"]}}}}\n",
            quick.url(),
            echo.address,
            slow.url(),
        ))
        .await;
        let ask = |model: &str| Request::post(&format!("/v2/models/{model}/infer"), "{}");
        assert_eq!(site.send(ask("copied")).await.status, 200);
        let came = |model: &str| {
            let path = format!("/v2/models/{model}/infer");
            echo.seen().into_iter().find(|head| head.uri.path() == path)
        };
        until("the copy came", || came("copied").is_some()).await;
        assert_eq!(came("copied").unwrap().version, version);
        eventually("a hedge wins", async || {
            assert_eq!(site.send(ask("hedged")).await.status, 200);
            let won = site.metric("evener_hedges_total", r#"result="won""#).await;
            (won > 0.5).then_some(())
        })
        .await;
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn hang(mut talk: Talk) {
    talk.request().await;
    talk.wait_for_close().await;
}
