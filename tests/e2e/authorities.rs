//! Client certificates of several authorities on one listener: each opens the hosts of its own certificate, and no other.
use crate::client::{Client, Request};
use crate::grpc_client::INFER;
use crate::secure::{Authority, Drawer, Visitor, replace};
use crate::site::{Setup, Site};
use crate::upstream::Mock;
use http::Version;

/// Names of the listener's certificates, and the authority whose clients each lets in.
const ENTRIES: [(&str, &[&str], &str); 3] = [
    ("a", &["a.test", "also.test"], "clients-a"),
    ("b", &["b.test"], "clients-b"),
    ("w", &["*.wild.test"], "clients-a"),
];

struct Place {
    site: Site,
    /// Clients of the first authority, and of the second.
    clients: [Visitor; 2],
    _mocks: [Mock; 2],
}

/// Two models: one for hosts of the first authority, one for those of the second.
async fn place(routes: &str) -> Place {
    let (servers, drawer) = (Authority::new("servers"), Drawer::new());
    let authorities = ["clients-a", "clients-b"].map(Authority::new);
    for (name, authority) in ["clients-a", "clients-b"].iter().zip(&authorities) {
        replace(&drawer.file(&format!("{name}.crt")), &authority.pem());
    }
    let mut listed = Vec::new();
    for (file, names, authority) in ENTRIES {
        servers.issue(names).write(drawer.path(), file);
        let ca = drawer.file(&format!("{authority}.crt"));
        listed.push(drawer.named(file).replace('}', &format!(", client_ca: {}}}", ca.display())));
    }
    let mocks = [Mock::version("a").await, Mock::version("b").await];
    let [a, b] = mocks.each_ref().map(Mock::url);
    let setup = Setup::new(format!(
        "models:\n  a: {{versions: {{v: [\"{a}\"]}}, health: false}}\n  b: {{versions: {{v: [\"{b}\"]}}, health: false}}\n{routes}"
    ));
    let site = Site::with(setup.listener(&format!("tls: [{}]", listed.join(", ")))).await;
    let clients =
        authorities.each_ref().map(|authority| servers.client().shows(&authority.issue(&["x"])));
    Place { site, clients, _mocks: mocks }
}

const ROUTES: &str = "routes:\n  - {match: {host: a.test}, model: a}\n  - {match: {host: also.test}, model: a}\n  \
                      - {match: {host: b.test}, model: b}\n  - {match: {host: \"*.wild.test\"}, model: a}\n";

#[tokio::test]
async fn a_certificate_opens_the_hosts_of_its_own_authority_and_no_other() {
    let Place { site, clients: [a, b], _mocks } = place(ROUTES).await;
    for protocol in ["http/1.1", "h2"] {
        let ask = async |client: &Visitor, name: &str, host: &str| {
            let client = client.clone().offers(&[protocol]);
            let reply =
                client.send(site.address, name, Request::get("/headers").at(host)).await.unwrap();
            (reply.status, reply.version().to_owned(), reply.header("x-evener-error").to_owned())
        };
        for (client, name, host, version) in [
            (&a, "a.test", "a.test", "a"),
            (&a, "a.test", "A.test:8443", "a"),
            (&a, "a.test", "also.test", "a"),
            (&a, "a.test", "x.wild.test", "a"),
            (&a, "x.wild.test", "a.test", "a"),
            (&b, "b.test", "b.test", "b"),
            (&b, "b.test", "b.test.", "b"),
        ] {
            let served = (200, version.to_owned(), String::new());
            assert_eq!(ask(client, name, host).await, served, "{protocol} {name} {host}");
        }
        for (client, name, host) in [
            (&a, "a.test", "b.test"),
            (&a, "a.test", "B.TEST:443"),
            (&a, "a.test", "b.test."),
            (&a, "x.wild.test", "b.test"),
            (&b, "b.test", "a.test"),
            (&b, "b.test", "x.wild.test"),
            // What no certificate names belongs to the first.
            (&b, "b.test", "unknown.test"),
            (&b, "b.test", "127.0.0.1"),
        ] {
            let refused = (421, String::new(), "misdirected_request".to_owned());
            assert_eq!(ask(client, name, host).await, refused, "{protocol} {name} {host}");
        }
        assert_eq!(ask(&a, "a.test", "unknown.test").await.0, 404, "{protocol}: no route");
    }
    // Evener's own answers are no exception, and a connection serves on after a refusal.
    let tls = a.clone().connect(site.address, "a.test").await.unwrap();
    let mut client = Client::over(tls, false).await.unwrap();
    for (path, host, status) in
        [("/v1/models", "b.test", 421), ("/healthz", "b.test", 421), ("/v1/models", "a.test", 200)]
    {
        assert_eq!(client.send(Request::get(path).at(host)).await.unwrap().status, status);
    }
}

#[tokio::test]
async fn a_call_is_refused_as_a_call() {
    let Place { site, clients: [a, _], _mocks } = place(ROUTES).await;
    let tls = a.offers(&["h2"]).connect(site.address, "a.test").await.unwrap();
    let (mut send, connection) = h2::client::handshake(tls).await.unwrap();
    tokio::spawn(connection);
    let call = http::Request::post(format!("https://b.test{INFER}")).version(Version::HTTP_2);
    let call = call.header("content-type", "application/grpc").header("te", "trailers");
    let (answer, _) = send.send_request(call.body(()).unwrap(), true).unwrap();
    let head = answer.await.unwrap();
    assert_eq!(head.headers()["grpc-status"], "7");
    assert_eq!(head.headers()["x-evener-error"], "misdirected_request");
}

#[tokio::test]
async fn a_session_carries_its_leave_to_no_other_certificate() {
    let Place { site, clients: [a, _], _mocks } = place(ROUTES).await;
    for client in [a.clone(), a.only_tls12()] {
        let client = client.resumes_anywhere();
        for _ in 0..2 {
            let reply =
                client.send(site.address, "a.test", Request::get("/headers").at("a.test")).await;
            assert_eq!(reply.unwrap().status, 200);
        }
        let tls = client.connect(site.address, "a.test").await.unwrap();
        let kind = tls.get_ref().1.handshake_kind();
        assert_eq!(kind, Some(rustls::HandshakeKind::Resumed), "its own session is resumed");
        let reply =
            client.send(site.address, "b.test", Request::get("/headers").at("b.test")).await;
        assert!(reply.is_err(), "{reply:?}");
    }
}

#[tokio::test]
async fn routes_that_mix_authorities_are_told_at_the_start() {
    let place = place("").await;
    let said = place.site.count_said("mixed-client-ca");
    assert_eq!(said, 1);
}
