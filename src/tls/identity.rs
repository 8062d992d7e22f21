//! A certificate with its key, and certificates to trust, as files hold them.
use super::provider;
use super::x509::{Summary, summary};
use rustls::RootCertStore;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use std::io::{ErrorKind, Read as _};
use std::path::Path;
use std::sync::Arc;

/// No bundle of certificates is longer; a device such as /dev/zero would never end.
const LONGEST: u64 = 4 << 20;

/// What is wrong with which file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key that names the file: `cert`, `key`, `ca` or `client_ca`.
    pub key: &'static str,
    /// As it follows the name of the file.
    pub why: String,
    /// The file's path; empty: there is none.
    pub path: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "`{}` {}", self.key, self.why),
            path => write!(f, "`{path}` {}", self.why),
        }
    }
}

/// A file as it was read: one content for the check and for the use.
pub(super) struct Content<'a> {
    key: &'static str,
    path: &'a Path,
    bytes: Result<Vec<u8>, String>,
}

impl<'a> Content<'a> {
    pub(super) fn read(key: &'static str, path: &'a Path) -> Self {
        let mut bytes = Vec::new();
        let read = std::fs::File::open(path)
            .and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes));
        let bytes = match read {
            Ok(length) if length as u64 > LONGEST => Err("is larger than 4 MiB".to_owned()),
            Ok(0) => Err("is empty".to_owned()),
            Ok(_) => Ok(bytes),
            Err(error) => Err(unreadable(&error)),
        };
        Self { key, path, bytes }
    }

    pub(super) fn key(&self) -> &'static str {
        self.key
    }

    pub(super) fn shown(&self) -> String {
        self.path.display().to_string()
    }

    fn fault(&self, why: impl Into<String>) -> Fault {
        Fault { key: self.key, why: why.into(), path: self.path.display().to_string() }
    }

    fn bytes(&self) -> Result<&[u8], Fault> {
        self.bytes.as_deref().map_err(|why| self.fault(why))
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Fault> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.bytes()?).collect();
        let found = found.map_err(|error| self.fault(format!("is not PEM: {error}")))?;
        if found.is_empty() {
            return Err(self.fault("holds no certificate in PEM"));
        }
        Ok(found)
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, Fault> {
        let bytes = self.bytes()?;
        PrivateKeyDer::from_pem_slice(bytes).map_err(|error| {
            if !matches!(error, PemError::NoItemsFound) {
                self.fault(format!("is not PEM: {error}"))
            } else if memchr::memmem::find(bytes, b"ENCRYPTED PRIVATE KEY").is_some() {
                self.fault("is encrypted; Evener can use only a key without a passphrase")
            } else {
                self.fault("holds no private key in PEM")
            }
        })
    }

    /// The certificates to trust.
    pub(super) fn roots(&self) -> Result<RootCertStore, Fault> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            let added = roots.add(certificate);
            added.map_err(|error| self.fault(format!("holds a certificate of no use: {error}")))?;
        }
        Ok(roots)
    }
}

fn unreadable(error: &std::io::Error) -> String {
    let known = [
        (ErrorKind::NotFound, "does not exist"),
        (ErrorKind::PermissionDenied, "may not be read: permission denied"),
        (ErrorKind::IsADirectory, "is a directory"),
    ];
    let plain = known.iter().find(|(kind, _)| *kind == error.kind());
    plain.map_or_else(|| format!("cannot be read: {error}"), |(_, why)| (*why).to_owned())
}

/// One number for what all the files hold, or why they cannot be read.
pub(super) fn fingerprint<'a>(contents: impl IntoIterator<Item = &'a Content<'a>>) -> u128 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for content in contents {
        match &content.bytes {
            Ok(bytes) => {
                hash.update(&(bytes.len() as u64).to_le_bytes());
                hash.update(bytes);
            }
            Err(why) => hash.update(why.as_bytes()),
        }
    }
    hash.digest128()
}

/// A certificate whose key is known.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) key: Arc<CertifiedKey>,
    /// DNS names that it is for, in lower case, `*.` at the front of some.
    pub(super) names: Vec<String>,
    /// What people know it by: the first name, or its subject's.
    pub(super) name: String,
    /// Unix seconds.
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

impl Identity {
    pub(super) fn of(cert: &Content<'_>, key: &Content<'_>) -> Result<Self, Fault> {
        let chain = cert.certificates()?;
        let leaf = &chain[0];
        let unreadable = |why: String| cert.fault(format!("begins with no certificate: {why}"));
        let names = webpki::EndEntityCert::try_from(leaf)
            .map_err(|error| unreadable(error.to_string()))?
            .valid_dns_names()
            .map(str::to_ascii_lowercase)
            .collect::<Vec<_>>();
        let Summary { not_before, not_after, common_name } =
            summary(leaf).ok_or_else(|| unreadable("its dates are not readable".to_owned()))?;
        let signing = provider().key_provider.load_private_key(key.private_key()?);
        let signing = signing.map_err(|error| key.fault(format!("cannot be used: {error}")))?;
        let certified = CertifiedKey::new(chain.clone(), signing);
        match certified.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(_) => {
                let path = cert.path.display();
                return Err(key.fault(format!("is not the key of the certificate in `{path}`")));
            }
        }
        let name = names.first().cloned().or_else(|| common_name.clone());
        let name = name.unwrap_or_else(|| cert.path.display().to_string());
        // Browsers have long ceased to look at the common name, old certificates have no other.
        let names = if names.is_empty() {
            common_name.into_iter().map(|name| name.to_ascii_lowercase()).collect()
        } else {
            names
        };
        Ok(Self { key: Arc::new(certified), names, name, not_before, not_after })
    }

    /// What is wrong with its dates.
    pub(super) fn untimely(&self) -> Option<String> {
        let now = now();
        if now > self.not_after {
            Some(format!("expired on {}", day(self.not_after)))
        } else if now < self.not_before {
            Some(format!("is not valid before {}", day(self.not_before)))
        } else {
            None
        }
    }
}

/// Unix seconds.
pub(super) fn now() -> i64 {
    i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX)
}

/// `2026-11-26`.
pub fn day(unix_seconds: i64) -> String {
    jiff::Timestamp::from_second(unix_seconds)
        .map_or_else(|_| format!("second {unix_seconds}"), |at| at.strftime("%Y-%m-%d").to_string())
}

/// What this machine trusts, read once.
pub(super) fn platform_roots() -> Arc<RootCertStore> {
    static ROOTS: std::sync::OnceLock<Arc<RootCertStore>> = std::sync::OnceLock::new();
    let read = || {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "a certificate that this machine trusts cannot be read");
        }
        let mut roots = RootCertStore::empty();
        // Some that machines carry are older than what webpki takes.
        roots.add_parsable_certificates(found.certs);
        Arc::new(roots)
    };
    Arc::clone(ROOTS.get_or_init(read))
}
