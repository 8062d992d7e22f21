//! How the replicas of a version are spoken to over TLS: whom to trust, and what to show them.
use super::identity::{Content, Fault, Identity, fingerprint, platform_roots};
use super::look::{Look, Memory};
use super::provider;
use super::server::CertificateState;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme, version};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a version says of TLS to its replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientSettings {
    /// Who signs the replicas' certificates; `None`: whom this machine trusts.
    pub ca: Option<PathBuf>,
    /// What is shown to replicas that ask: a certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that must be in their certificates; `None`: the host of each URL.
    pub server_name: Option<String>,
    /// Anybody may answer.
    pub insecure: bool,
}

/// Which protocols a replica is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// HTTP/2 or HTTP/1.1, as the replica likes.
    Any,
    Http1,
    Http2,
}

/// TLS to the replicas of one version. Two are equal when they have the same settings.
pub struct ClientTls {
    settings: ClientSettings,
    means: ArcSwap<Means>,
    memory: Mutex<Memory>,
}

/// What a connection is made with. One made with other means than the present ones is not used again.
#[derive(Debug)]
pub struct Means {
    /// Never given twice.
    pub serial: u64,
    any: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    untimely: Option<String>,
    /// Its own certificate, which replicas are shown.
    shown: Option<CertificateState>,
}

impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl ClientTls {
    pub fn load(settings: ClientSettings) -> Result<Self, Fault> {
        let (means, memory) = {
            let contents = contents(&settings);
            (Means::of(&settings, &contents)?, Memory::new(fingerprint(&contents)))
        };
        let (means, memory) = (ArcSwap::from_pointee(means), Mutex::new(memory));
        Ok(Self { settings, means, memory })
    }

    pub fn settings(&self) -> &ClientSettings {
        &self.settings
    }

    /// The present ones.
    pub fn means(&self) -> Arc<Means> {
        self.means.load_full()
    }

    /// The name that the certificate of a replica at this `host:port` must have; `None`: there can be none.
    pub fn name_of(&self, address: &str) -> Option<ServerName<'static>> {
        let host = || address.rsplit_once(':').map_or(address, |(host, _)| host);
        let name = self.settings.server_name.as_deref().unwrap_or_else(host);
        let six = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let name = ServerName::try_from(six.unwrap_or(name).to_owned()).ok();
        // An unspecified address is not sent, and nobody verifies it.
        name.or_else(|| self.settings.insecure.then(|| IpAddr::V4(Ipv4Addr::UNSPECIFIED).into()))
    }

    /// Can a certificate be for this name?
    pub fn may_be_named(name: &str) -> bool {
        ServerName::try_from(name).is_ok()
    }

    /// Its own certificate, where replicas are shown one.
    pub fn shown(&self) -> Option<CertificateState> {
        self.means.load().shown.clone()
    }

    /// What is wrong with the dates of its own certificate, if anything.
    pub fn untimely(&self) -> Option<String> {
        self.means.load().untimely.clone()
    }

    /// Why the files that stand there now are not what is used.
    pub fn fault(&self) -> Option<String> {
        self.memory.lock().fault().map(str::to_owned)
    }

    /// Reads the files again, and uses what is good in them.
    pub fn look(&self) -> Look {
        let contents = contents(&self.settings);
        if contents.is_empty() {
            return Look::Same;
        }
        let load = || {
            let means = Means::of(&self.settings, &contents)?;
            match (&means.untimely, &self.means.load().untimely) {
                (Some(why), None) => {
                    let path = contents.iter().find(|content| content.key() == "cert");
                    let path = path.map_or_else(String::new, Content::shown);
                    Err(Fault { key: "cert", why: why.clone(), path })
                }
                (Some(_) | None, _) => Ok(means),
            }
        };
        let names: Vec<_> = contents.iter().map(Content::shown).collect();
        let mut memory = self.memory.lock();
        let (look, new) = memory.look(fingerprint(&contents), load, |_| names.join(", "));
        if let Some(new) = new {
            self.means.store(Arc::new(new));
        }
        look
    }
}

fn contents(settings: &ClientSettings) -> Vec<Content<'_>> {
    let mut contents = Vec::new();
    if let Some((cert, key)) = &settings.identity {
        contents.extend([Content::read("cert", cert), Content::read("key", key)]);
    }
    contents.extend(settings.ca.as_ref().map(|path| Content::read("ca", path)));
    contents
}

impl Means {
    fn of(settings: &ClientSettings, contents: &[Content<'_>]) -> Result<Self, Fault> {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let of = |key| contents.iter().find(|content| content.key() == key);
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .expect("ring speaks both versions");
        let config = if settings.insecure {
            config.dangerous().with_custom_certificate_verifier(Arc::new(Anybody))
        } else {
            let roots = match of("ca") {
                Some(ca) => Arc::new(ca.roots()?),
                None => platform_roots(),
            };
            if roots.is_empty() {
                let why = "is not written, and this machine trusts no authority".to_owned();
                return Err(Fault { key: "ca", why, path: String::new() });
            }
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider());
            let verifier = verifier.build().expect("there is a root, and no revocation list");
            config.dangerous().with_custom_certificate_verifier(verifier)
        };
        let identity = match of("cert").zip(of("key")) {
            Some((cert, key)) => Some(Identity::of(cert, key)?),
            None => None,
        };
        let untimely = identity.as_ref().and_then(Identity::untimely);
        let shown = identity.as_ref().map(|identity| CertificateState {
            name: identity.name.clone(),
            not_before: identity.not_before,
            not_after: identity.not_after,
            fault: None,
        });
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let key = SingleCertAndKey::from(identity.key);
                config.with_client_cert_resolver(Arc::new(key))
            }
        };
        // All three resume each other's sessions: where they are kept is shared by clones.
        let offering = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            Arc::new(config)
        };
        Ok(Self {
            serial: SERIAL.fetch_add(1, Relaxed),
            any: offering(&[b"h2", b"http/1.1"]),
            http1: offering(&[b"http/1.1"]),
            http2: offering(&[b"h2"]),
            untimely,
            shown,
        })
    }

    pub fn config(&self, offer: Offer) -> Arc<ClientConfig> {
        Arc::clone(match offer {
            Offer::Any => &self.any,
            Offer::Http1 => &self.http1,
            Offer::Http2 => &self.http2,
        })
    }
}

/// `insecure: true`: the connection is encrypted, and who is at its end is not asked.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
