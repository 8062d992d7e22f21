//! Certificates that change while Evener serves.
use crate::client::Request;
use crate::secure::{Authority, Drawer, Pair, replace};
use crate::site::{Setup, Site, Stopwatch, eventually};
use crate::upstream::Mock;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

const NAME: &str = "evener.test";

async fn site_with(drawer: &Drawer, mock: &Mock) -> Site {
    let models =
        format!("models: {{m: {{health: false, versions: {{v1: [\"{}\"]}}}}}}\n", mock.url());
    Site::with(Setup::new(models).listener(&format!("tls: {}", drawer.named("a")))).await
}

/// Waits until this certificate is shown. Returns how long that took.
async fn shown(authority: &Authority, site: &Site, pair: &Pair) -> Duration {
    let watch = Stopwatch::start();
    eventually("the new certificate is shown", async || {
        let tls = authority.client().connect(site.address, NAME).await.unwrap();
        let leaf = tls.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
        (leaf == pair.leaf()).then_some(())
    })
    .await;
    watch.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_swapped_under_load_without_a_failed_handshake() {
    let (authority, drawer, mock) =
        (Arc::new(Authority::new("ca")), Drawer::new(), Mock::version("v1").await);
    authority.issue(&[NAME]).write(drawer.path(), "a");
    let site = site_with(&drawer, &mock).await;
    let (address, stop) = (site.address, Arc::new(AtomicBool::default()));
    let (served, failed) = (Arc::new(AtomicUsize::default()), Arc::new(AtomicUsize::default()));
    let mut clients = Vec::new();
    for offered in [&["h2"][..], &["http/1.1"], &["h2"]] {
        let client = authority.client().offers(offered);
        let (stop, served, failed) = (Arc::clone(&stop), Arc::clone(&served), Arc::clone(&failed));
        clients.push(tokio::spawn(async move {
            while !stop.load(SeqCst) {
                let reply = client.send(address, NAME, Request::get("/v2/models/m")).await;
                let counted = if matches!(&reply, Ok(reply) if reply.status == 200) {
                    &served
                } else {
                    &failed
                };
                counted.fetch_add(1, SeqCst);
            }
        }));
    }
    for _ in 0..5 {
        let pair = authority.issue(&[NAME]);
        pair.write(drawer.path(), "a");
        let took = shown(&authority, &site, &pair).await;
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    stop.store(true, SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(failed.load(SeqCst), 0);
    assert!(served.load(SeqCst) > 10, "{served:?}");
    let refused = site.metric("evener_refusals_total", "tls_handshake_failed").await;
    assert!(refused < 0.5, "{refused}");
}

#[tokio::test]
async fn files_of_no_use_are_told_and_the_old_certificate_stays() {
    let (authority, drawer, mock) =
        (Authority::new("ca"), Drawer::new(), Mock::version("v1").await);
    let first = authority.issue(&[NAME]);
    first.write(drawer.path(), "a");
    let site = site_with(&drawer, &mock).await;
    let other = authority.issue(&[NAME]);
    let (empty, long_gone) = (String::new(), authority.until(&[NAME], 2021));
    for (cert, key, told) in [
        (&empty, &first.key, "a.crt` is empty"),
        (&"not PEM\n".to_owned(), &first.key, "holds no certificate"),
        (&other.cert, &first.key, "is not the key of the certificate"),
        (&long_gone.cert, &long_gone.key, "expired on 2021-12-31"),
    ] {
        replace(&drawer.file("a.crt"), cert);
        replace(&drawer.file("a.key"), key);
        let event = eventually("it is an event", async || {
            let events = site.ask(Request::get("/api/v1/events")).await.json();
            let said = |event: &serde_json::Value| {
                event["kind"] == "certificate"
                    && event["message"].as_str().is_some_and(|message| message.contains(told))
            };
            events["events"].as_array().unwrap().iter().find(|event| said(event)).cloned()
        })
        .await;
        assert!(event["message"].as_str().unwrap().contains("listener `public`"), "{event}");
        let status = site.ask(Request::get("/api/v1/status")).await.json();
        let listener = &status["listeners"][0];
        assert_eq!(listener["scheme"], "https");
        assert_eq!(listener["certificates"][0]["name"], NAME);
        let fault = listener["certificates"][0]["fault"]
            .as_str()
            .unwrap_or_else(|| panic!("{told}: {event} {status}"));
        assert!(fault.contains(told), "{fault}");
        let (_, board, _) = site.evener(&["status"]).await;
        assert!(board.contains(told), "{board}");
        eventually("it is a problem", async || {
            let (exit, check, _) = site.evener(&["status", "--check"]).await;
            let named = check.contains("stays, because its new files") && check.contains(told);
            (exit == Some(1) && named).then_some(())
        })
        .await;
        let renewed = site.metric("evener_tls_last_reload_successful", "public").await;
        assert!(renewed < 0.5, "{told}");
        shown(&authority, &site, &first).await;
    }
    let ends = site.metric("evener_tls_not_after_seconds", r#"name="evener.test""#).await;
    assert!((ends - 4_102_358_400.0).abs() < 1.0, "{ends}");
    other.write(drawer.path(), "a");
    shown(&authority, &site, &other).await;
    eventually("it is good again", async || {
        let renewed = site.metric("evener_tls_last_reload_successful", "public").await;
        (renewed > 0.5).then_some(())
    })
    .await;
}

/// As Kubernetes mounts secrets: the files are links into a folder behind a link that is swapped.
#[tokio::test]
async fn swapped_links_are_followed() {
    let (authority, drawer, mock) =
        (Authority::new("ca"), Drawer::new(), Mock::version("v1").await);
    let pairs = [authority.issue(&[NAME]), authority.issue(&[NAME])];
    for (i, pair) in pairs.iter().enumerate() {
        let folder = drawer.file(&format!("..{i}"));
        std::fs::create_dir(&folder).unwrap();
        pair.write(&folder, "a");
    }
    symlink("..0", drawer.file("..data")).unwrap();
    for file in ["a.crt", "a.key"] {
        symlink(format!("..data/{file}"), drawer.file(file)).unwrap();
    }
    let site = site_with(&drawer, &mock).await;
    shown(&authority, &site, &pairs[0]).await;
    symlink("..1", drawer.file("..fresh")).unwrap();
    std::fs::rename(drawer.file("..fresh"), drawer.file("..data")).unwrap();
    let took = shown(&authority, &site, &pairs[1]).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_reload_may_bring_tls_and_take_it_away() {
    let (authority, drawer, mock) =
        (Authority::new("ca"), Drawer::new(), Mock::version("v1").await);
    let pair = authority.issue(&[NAME]);
    pair.write(drawer.path(), "a");
    let models =
        format!("models: {{m: {{health: false, versions: {{v1: [\"{}\"]}}}}}}\n", mock.url());
    let (plain, secure) = (
        Setup::new(models.clone()),
        Setup::new(models).listener(&format!("tls: {}", drawer.named("a"))),
    );
    let site = Site::with(plain.clone()).await;
    site.reload(&secure).await;
    shown(&authority, &site, &pair).await;
    let next = authority.issue(&[NAME]);
    next.write(drawer.path(), "a");
    let took = shown(&authority, &site, &next).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    site.reload(&plain).await;
    assert_eq!(site.send(Request::get("/v2/models/m")).await.status, 200);
}
