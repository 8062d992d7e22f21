//! Certificates made for a test, and both ends of TLS: clients that trust them, replicas that show them.
use crate::client::{Client, Reply, Request};
use bytes::Bytes;
use http::request::Parts;
use http_body_util::{BodyExt as _, Collected, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::NamedGroup;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// For these names and addresses, until the end of this year.
    pub(crate) fn until(&self, names: &[&str], year: i32) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 12, 31);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap().pem();
        Pair { cert, key: key.serialize_pem() }
    }

    pub(crate) fn issue(&self, names: &[&str]) -> Pair {
        self.until(names, 2099)
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }

    /// A client that trusts what it signs.
    pub(crate) fn client(&self) -> Visitor {
        Visitor {
            roots: self.roots(),
            versions: vec![&version::TLS13, &version::TLS12],
            protocols: Vec::new(),
            identity: None,
            kept: None,
        }
    }
}

impl Pair {
    /// Writes both files as `NAME.crt` and `NAME.key`, each in one step.
    pub(crate) fn write(&self, dir: &Path, name: &str) {
        for (kind, text) in [("crt", &self.cert), ("key", &self.key)] {
            replace(&dir.join(format!("{name}.{kind}")), text);
        }
    }

    pub(crate) fn leaf(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()
    }

    fn secret(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}

/// Renames a new file over an old one.
pub(crate) fn replace(file: &Path, text: &str) {
    let fresh = file.with_extension("fresh");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(fresh, file).unwrap();
}

/// A client that speaks TLS.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    roots: Arc<RootCertStore>,
    versions: Vec<&'static SupportedProtocolVersion>,
    protocols: Vec<Vec<u8>>,
    identity: Option<Pair>,
    /// One for all connections, which resume each other's sessions.
    kept: Option<Arc<ClientConfig>>,
}

/// Offers any server the sessions of any other.
#[derive(Debug)]
pub(crate) struct OneSession(ClientSessionMemoryCache);

impl OneSession {
    fn name() -> ServerName<'static> {
        ServerName::try_from("any.test").unwrap()
    }
}

impl ClientSessionStore for OneSession {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(Self::name(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&Self::name())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(Self::name(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&Self::name())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&Self::name());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(Self::name(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&Self::name())
    }
}

impl Visitor {
    pub(crate) fn offers(mut self, protocols: &[&str]) -> Self {
        self.protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    pub(crate) fn only_tls12(mut self) -> Self {
        self.versions = vec![&version::TLS12];
        self
    }

    pub(crate) fn shows(mut self, pair: &Pair) -> Self {
        self.identity = Some(pair.clone());
        self
    }

    fn config(&self) -> ClientConfig {
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots));
        let mut config = match &self.identity {
            None => config.with_no_client_auth(),
            Some(pair) => config.with_client_auth_cert(vec![pair.leaf()], pair.secret()).unwrap(),
        };
        config.alpn_protocols.clone_from(&self.protocols);
        config
    }

    /// Resumes the sessions of any name by any other.
    pub(crate) fn resumes_anywhere(mut self) -> Self {
        let mut config = self.config();
        let sessions = OneSession(ClientSessionMemoryCache::new(32));
        config.resumption = Resumption::store(Arc::new(sessions));
        self.kept = Some(Arc::new(config));
        self
    }

    /// Asks for this name.
    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
        name: &str,
    ) -> io::Result<TlsStream<TcpStream>> {
        self.connect_over(TcpStream::connect(address).await?, name).await
    }

    pub(crate) async fn connect_over<I>(&self, io: I, name: &str) -> io::Result<TlsStream<I>>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.kept.clone().unwrap_or_else(|| Arc::new(self.config()));
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(config).connect(name, io).await
    }

    /// Sends on a connection of its own, by HTTP/2 if that was agreed on.
    pub(crate) async fn send(
        &self,
        address: SocketAddr,
        name: &str,
        request: Request,
    ) -> io::Result<Reply> {
        let tls = self.connect(address, name).await?;
        let http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        let mut client = Client::over(tls, http2).await?;
        client.send(request.secure(http2)).await.map_err(io::Error::other)
    }
}

/// A replica that answers each request with its body, once it has read it.
#[derive(Debug)]
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Parts>>>,
    /// Connections that came as far as HTTP.
    accepted: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How a replica speaks TLS.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pair: Pair,
    protocols: Vec<Vec<u8>>,
    clients: Option<Arc<RootCertStore>>,
}

impl Shown {
    pub(crate) fn new(pair: &Pair, protocols: &[&str]) -> Self {
        let protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Self { pair: pair.clone(), protocols, clients: None }
    }

    /// Clients must show a certificate of this authority.
    pub(crate) fn asks(self, authority: &Authority) -> Self {
        Self { clients: Some(authority.roots()), ..self }
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = match &self.clients {
            None => config.with_no_client_auth(),
            Some(roots) => config.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider)
                    .build()
                    .unwrap(),
            ),
        };
        let mut config =
            config.with_single_cert(vec![self.pair.leaf()], self.pair.secret()).unwrap();
        config.alpn_protocols.clone_from(&self.protocols);
        Arc::new(config).into()
    }
}

impl Echo {
    /// Plain: HTTP/1.1, and HTTP/2 by prior knowledge.
    pub(crate) async fn plain() -> Self {
        Self::start(None).await
    }

    pub(crate) async fn secure(shown: Shown) -> Self {
        Self::start(Some(shown.acceptor())).await
    }

    async fn start(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, accepted) = (Arc::<Mutex<Vec<Parts>>>::default(), Arc::<AtomicUsize>::default());
        let notes = (Arc::clone(&seen), Arc::clone(&accepted));
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (seen, accepted) = notes.clone();
                let tls = tls.clone();
                tokio::spawn(async move {
                    match tls {
                        None => serve(tcp, &seen, &accepted).await,
                        Some(tls) => {
                            if let Ok(secured) = tls.accept(tcp).await {
                                serve(secured, &seen, &accepted).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, seen, accepted, task: task.abort_handle() }
    }

    pub(crate) fn seen(&self) -> Vec<Parts> {
        self.seen.lock().clone()
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }
}

async fn serve<I>(io: I, seen: &Arc<Mutex<Vec<Parts>>>, accepted: &AtomicUsize)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    accepted.fetch_add(1, SeqCst);
    let answer = service_fn(|request: http::Request<Incoming>| {
        let (head, body) = request.into_parts();
        let version = format!("{:?}", head.version);
        seen.lock().push(head);
        async move {
            let body = body.collect().await.map_or_else(|_| Bytes::new(), Collected::to_bytes);
            let response = http::Response::builder().header("x-spoken", version);
            Ok::<_, Infallible>(response.body(Full::new(body)).unwrap())
        }
    });
    Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(io), answer).await.ok();
}

/// A folder for certificates beside a site, which is made first.
#[derive(Debug)]
pub(crate) struct Drawer(tempfile::TempDir);

impl Drawer {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// `{cert: …, key: …}`
    pub(crate) fn named(&self, name: &str) -> String {
        let of = |kind| self.file(&format!("{name}.{kind}")).display().to_string();
        format!("{{cert: {}, key: {}}}", of("crt"), of("key"))
    }
}
