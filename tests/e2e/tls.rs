//! What clients see of TLS.
use crate::client::{Client, Raw, Request, exchange, status_of};
use crate::secure::{Authority, Drawer, Echo, Shown, replace};
use crate::site::{Setup, Site, Stopwatch};
use crate::upstream::{Mock, Upstream};
use std::fmt::Write as _;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const NAME: &str = "evener.test";

fn models(url: &str) -> String {
    format!("models: {{m: {{health: false, versions: {{v1: [{url}]}}}}}}\n")
}

/// A site whose listener shows one certificate for [`NAME`].
async fn secure_site(authority: &Authority, drawer: &Drawer, rest: &str) -> Site {
    authority.issue(&[NAME]).write(drawer.path(), "a");
    Site::with(Setup::new(rest).listener(&format!("tls: {}", drawer.named("a")))).await
}

#[tokio::test]
async fn the_name_asked_for_chooses_the_certificate() {
    let (authority, drawer, mock) =
        (Authority::new("ca"), Drawer::new(), Mock::version("v1").await);
    let names: [&[&str]; 3] = [&["first.example"], &["second.example"], &["*.third.example"]];
    let pairs = names.map(|names| authority.issue(names));
    for (i, pair) in pairs.iter().enumerate() {
        pair.write(drawer.path(), &i.to_string());
    }
    let listed: Vec<_> = (0..3).map(|i| drawer.named(&i.to_string())).collect();
    let setup = Setup::new(models(&mock.url())).listener(&format!("tls: [{}]", listed.join(", ")));
    let site = Site::with(setup).await;
    for (asked, place) in [
        ("first.example", 0),
        ("SECOND.example", 1),
        ("a.third.example", 2),
        ("third.example", 0),
        ("a.b.third.example", 0),
        ("unknown.example", 0),
        ("127.0.0.1", 0),
    ] {
        let tls = authority.client().connect(site.address, asked).await;
        let shown = match tls {
            Ok(tls) => tls.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned(),
            // Whoever gets the default by an unknown name is told by it.
            Err(error) => {
                assert_eq!(place, 0, "{asked}: {error}");
                assert!(format!("{error:?}").contains("first.example"), "{asked}: {error:?}");
                continue;
            }
        };
        assert_eq!(shown, pairs[place].leaf(), "{asked}");
    }
}

#[tokio::test]
async fn the_protocol_is_agreed_on_and_the_replica_is_told_of_https() {
    let (authority, drawer, echo) = (Authority::new("ca"), Drawer::new(), Echo::plain().await);
    let site = secure_site(&authority, &drawer, &models(&format!("http://{}", echo.address))).await;
    assert!(site.said("listening public https://127.0.0.1:").is_some());
    for (offered, agreed, protocol) in [
        (&["h2", "http/1.1"][..], Some(&b"h2"[..]), "HTTP/2"),
        (&["http/1.1"], Some(b"http/1.1"), "HTTP/1.1"),
        (&[], None, "HTTP/1.1"),
    ] {
        let client = authority.client().offers(offered);
        let tls = client.connect(site.address, NAME).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), agreed);
        let reply = client.send(site.address, NAME, Request::post("/x", "{}")).await.unwrap();
        assert_eq!((reply.status, reply.text()), (200, "{}".to_owned()), "{offered:?}");
        let logged = |line: &serde_json::Value| line["protocol"] == protocol && line["tls"] == true;
        site.logged("the access log says how", logged).await;
    }
    let seen = echo.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|head| head.headers["x-forwarded-proto"] == "https"));
    let unknown = authority.client().offers(&["spdy/3"]).connect(site.address, NAME).await;
    assert!(unknown.is_err());
}

#[tokio::test]
async fn tls_1_2_is_spoken_too() {
    let (authority, drawer, mock) =
        (Authority::new("ca"), Drawer::new(), Mock::version("v1").await);
    let site = secure_site(&authority, &drawer, &models(&mock.url())).await;
    let client = authority.client().only_tls12().offers(&["h2"]);
    let reply = client.send(site.address, NAME, Request::get("/v2/models/m")).await.unwrap();
    assert_eq!(reply.version(), "v1");
}

#[tokio::test]
async fn clients_show_certificates_where_they_must() {
    let (authority, drawer, mock) =
        (Authority::new("ca"), Drawer::new(), Mock::version("v1").await);
    authority.issue(&[NAME]).write(drawer.path(), "a");
    let of_clients = Authority::new("clients");
    replace(&drawer.file("clients.crt"), &of_clients.pem());
    let tls = drawer
        .named("a")
        .replace('}', &format!(", client_ca: {}}}", drawer.file("clients.crt").display()));
    let setup = Setup::new(models(&mock.url())).listener(&format!("tls: {tls}"));
    let site = Site::with(setup).await;
    let ask = || Request::get("/v2/models/m");
    let client = authority.client();
    assert!(client.send(site.address, NAME, ask()).await.is_err(), "it has none");
    let stranger = client.clone().shows(&authority.issue(&["x"]));
    assert!(stranger.send(site.address, NAME, ask()).await.is_err(), "it has another");
    let known = client.shows(&of_clients.issue(&["x"]));
    assert_eq!(known.send(site.address, NAME, ask()).await.unwrap().version(), "v1");
    let failed = site.metric("evener_refusals_total", r#"code="tls_handshake_failed""#).await;
    assert!((failed - 2.0).abs() < 0.1, "{failed}");
}

#[tokio::test]
async fn a_slow_handshake_is_cut() {
    let (authority, drawer, mock) =
        (Authority::new("ca"), Drawer::new(), Mock::version("v1").await);
    authority.issue(&[NAME]).write(drawer.path(), "a");
    let setup = Setup::new(models(&mock.url()))
        .listener(&format!("tls: {}", drawer.named("a")))
        .listener("client: {header_timeout: 500ms}");
    let site = Site::with(setup).await;
    let watch = Stopwatch::start();
    let mut raw = Raw::connect(site.address).await;
    // The beginning of a ClientHello that never ends.
    raw.write([22, 3, 1, 2, 0, 1, 0, 1, 252]).await;
    raw.read_to_end().await;
    let took = watch.elapsed();
    assert!(took > Duration::from_millis(400) && took < Duration::from_secs(5), "{took:?}");
    let failed = site.metric("evener_refusals_total", r#"code="tls_handshake_failed""#).await;
    assert!((failed - 1.0).abs() < 0.1, "{failed}");
}

#[tokio::test]
async fn the_wrong_kind_of_client_is_told_so() {
    let (authority, drawer, mock) =
        (Authority::new("ca"), Drawer::new(), Mock::version("v1").await);
    let site = secure_site(&authority, &drawer, &models(&mock.url())).await;
    let answer = exchange(site.address, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(status_of(&answer), 400);
    assert!(answer.contains("x-evener-error: tls_expected"), "{answer}");
    assert!(answer.contains("this port speaks HTTPS"), "{answer}");
    let plain = Site::start(models(&mock.url())).await;
    let error = authority.client().connect(plain.address, NAME).await.unwrap_err();
    assert!(!error.to_string().is_empty());
    site.logged("it is logged", |line| line["error"] == "tls_expected").await;
    plain.logged("it is logged", |line| line["error"] == "tls_unexpected").await;
    for (site, code) in [(&site, "tls_expected"), (&plain, "tls_unexpected")] {
        let refused = site.metric("evener_refusals_total", &format!(r#"code="{code}""#)).await;
        assert!((refused - 1.0).abs() < 0.1, "{code}: {refused}");
    }
}

#[tokio::test]
async fn a_cut_answer_does_not_pass_for_a_whole_one() {
    let (authority, drawer) = (Authority::new("ca"), Drawer::new());
    let replica = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.write("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
    })
    .await;
    let site = secure_site(&authority, &drawer, &models(&replica.url())).await;
    let mut tls = authority.client().connect(site.address, NAME).await.unwrap();
    // To HTTP/1.0 the end of the connection is the end of the answer.
    tls.write_all(b"GET /v2/models/m HTTP/1.0\r\nhost: x\r\n\r\n").await.unwrap();
    let mut read = Vec::new();
    let ended = tls.read_to_end(&mut read).await;
    assert!(ended.is_err(), "no goodbye: {}", String::from_utf8_lossy(&read));
    // A whole one ends with one.
    let mock = Mock::version("v1").await;
    let site = secure_site(&authority, &drawer, &models(&mock.url())).await;
    let mut tls = authority.client().connect(site.address, NAME).await.unwrap();
    tls.write_all(b"GET /v2/models/m HTTP/1.0\r\nhost: x\r\n\r\n").await.unwrap();
    let mut read = Vec::new();
    tls.read_to_end(&mut read).await.unwrap();
    assert_eq!(status_of(&String::from_utf8_lossy(&read)), 200);
}

/// A client that reads nothing for a while, with megabytes under way in both directions.
#[tokio::test]
async fn a_client_that_dawdles_gets_all_bytes() {
    let (authority, drawer) = (Authority::new("ca"), Drawer::new());
    let body: Vec<u8> = (0_u32..6_000_000).map(|i| (i % 251) as u8).collect();
    let length = body.len();
    let replica = Upstream::start(move |mut talk| async move {
        talk.head().await;
        talk.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n")).await;
        talk.echo().await;
    })
    .await;
    let site = secure_site(&authority, &drawer, &models(&replica.url())).await;
    let tls = authority.client().connect(site.address, NAME).await.unwrap();
    let (mut reading, mut writing) = tokio::io::split(tls);
    let head = format!(
        "POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/octet-stream\r\ncontent-length: {length}\r\n\r\n"
    );
    let sent = body.clone();
    let writer = tokio::spawn(async move {
        writing.write_all(head.as_bytes()).await.unwrap();
        writing.write_all(&sent).await.unwrap();
        writing.flush().await.unwrap();
        writing
    });
    // The way fills up while nobody reads at its end.
    site.in_flight(1).await;
    let mut read = Vec::new();
    reading.read_to_end(&mut read).await.unwrap();
    drop(writer.await.unwrap());
    let start = read.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    assert!(read.starts_with(b"HTTP/1.1 200"));
    assert!(read[start..] == body, "{} bytes", read.len() - start);
}

#[tokio::test]
async fn every_mix_of_protocols_carries_megabytes_both_ways() {
    let (authority, drawer) = (Authority::new("ca"), Drawer::new());
    replace(&drawer.file("ca.crt"), &authority.pem());
    let pair = authority.issue(&["localhost", "127.0.0.1"]);
    let plain = Echo::plain().await;
    let old = Echo::secure(Shown::new(&pair, &["http/1.1"])).await;
    let new = Echo::secure(Shown::new(&pair, &["h2", "http/1.1"])).await;
    let mut rest = "models:\n".to_owned();
    for (name, url) in [
        ("http", format!("http://{}", plain.address)),
        ("h2c", format!("h2c://{}", plain.address)),
        ("https1", format!("https://{}", old.address)),
        ("https2", format!("https://{}", new.address)),
        ("grpcs", format!("grpcs://{}", new.address)),
    ] {
        let tls = if url.contains("s://") {
            format!("tls: {{ca: {}}}, ", drawer.file("ca.crt").display())
        } else {
            String::new()
        };
        writeln!(rest, "  {name}: {{versions: {{v1: {{{tls}replicas: [\"{url}\"]}}}}}}").unwrap();
    }
    let site = secure_site(&authority, &drawer, &rest).await;
    let body: Vec<u8> = (0_u32..4_000_000).map(|i| (i % 253) as u8).collect();
    for protocols in [&["h2"][..], &["http/1.1"]] {
        let client = authority.client().offers(protocols);
        for (model, spoken) in [
            ("http", "HTTP/1.1"),
            ("h2c", "HTTP/2.0"),
            ("https1", "HTTP/1.1"),
            ("https2", "HTTP/2.0"),
            ("grpcs", "HTTP/2.0"),
        ] {
            // Kept whole, then streamed through.
            for kind in ["application/json", "application/octet-stream"] {
                let path = format!("/v2/models/{model}/infer");
                let request = Request::post(&path, body.clone()).header("content-type", kind);
                let reply = client.send(site.address, NAME, request).await.unwrap();
                let what = format!("{protocols:?} {model} {kind}");
                assert_eq!((reply.status, reply.header("x-spoken")), (200, spoken), "{what}");
                assert!(reply.body == body, "{what}: {} bytes", reply.body.len());
            }
        }
    }
    site.in_flight(0).await;
}

#[tokio::test]
async fn one_that_takes_over_goes_on_with_the_certificate() {
    let (authority, drawer, mock) =
        (Authority::new("ca"), Drawer::new(), Mock::version("v1").await);
    let mut site = secure_site(&authority, &drawer, &models(&mock.url())).await;
    let address = site.address;
    let mut kept = {
        let tls = authority.client().offers(&["h2"]).connect(address, NAME).await.unwrap();
        Client::over(tls, true).await.unwrap()
    };
    let ask = || Request::get("/v2/models/m").secure(true);
    assert_eq!(kept.send(ask()).await.unwrap().status, 200);
    let mut old = site.take_over().await;
    assert_eq!(site.address, address);
    let client = authority.client().offers(&["h2"]);
    assert_eq!(client.send(address, NAME, ask()).await.unwrap().version(), "v1");
    drop(kept);
    assert!(old.ended().await.success());
    assert_eq!(client.send(address, NAME, ask()).await.unwrap().version(), "v1");
}
