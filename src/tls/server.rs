//! The certificates of a listener: chosen by the name that a client asks for, and renewed while it serves.
use super::identity::{Content, Fault, Identity, fingerprint};
use super::look::{Look, Memory};
use super::provider;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::crypto::ring::Ticketer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{ServerConfig, version};
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One certificate of a listener, as the file names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Who signs the certificates that clients must show; `None`: they need none.
    pub client_ca: Option<PathBuf>,
}

/// Who signs the certificates that clients must show: a file, as it is named. Two certificates with the same file guard
/// the same.
pub type ClientCa = Arc<Path>;

/// What is known of one certificate, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateState {
    pub name: String,
    /// Unix seconds.
    pub not_before: i64,
    pub not_after: i64,
    /// Why the files that stand there now are not what is served.
    pub fault: Option<String>,
}

/// The certificates of one listener. Two are equal when they are of the same files.
pub struct ServerTls {
    files: Vec<ServerFiles>,
    /// Of each of `files`.
    client_cas: Box<[Option<ClientCa>]>,
    served: ArcSwap<Served>,
    /// One for each of `files`.
    memories: Mutex<Vec<Memory>>,
}

#[derive(Debug)]
struct Served {
    entries: Vec<Arc<Entry>>,
    /// Which is for which name.
    by_name: HashMap<String, usize>,
}

#[derive(Debug)]
struct Entry {
    config: Arc<ServerConfig>,
    identity: Identity,
}

impl PartialEq for ServerTls {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Reads all files. `files` holds at least one entry. Errors come with the place of their entry.
    pub fn load(files: Vec<ServerFiles>) -> Result<Self, Vec<(usize, Fault)>> {
        let (mut entries, mut memories, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        for (i, files) in files.iter().enumerate() {
            let contents = contents(files);
            match Entry::of(&contents) {
                Ok(entry) => entries.push(Arc::new(entry)),
                Err(fault) => faults.push((i, fault)),
            }
            memories.push(Memory::new(fingerprint(&contents)));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let served = ArcSwap::from_pointee(Served::of(entries));
        let client_cas =
            files.iter().map(|files| files.client_ca.as_deref().map(ClientCa::from)).collect();
        Ok(Self { files, client_cas, served, memories: Mutex::new(memories) })
    }

    pub fn files(&self) -> &[ServerFiles] {
        &self.files
    }

    /// Must clients show a certificate?
    pub fn asks_for_certificates(&self) -> bool {
        self.files.iter().any(|files| files.client_ca.is_some())
    }

    /// What serves a client that asks for this name: the certificate of that name, one whose `*.` stands for its first
    /// label, or the first; and who signs the certificates that it must show.
    pub fn chosen_for(&self, asked: Option<&str>) -> (Arc<ServerConfig>, Option<ClientCa>) {
        let served = self.served.load();
        let entry = asked.and_then(|name| served.find(name)).unwrap_or(0);
        (Arc::clone(&served.entries[entry].config), self.client_cas[entry].clone())
    }

    /// May a connection that `let_in` let in ask for this host (lower case, without a port)? What the name of a request
    /// guards is the business of the certificate that the same name would choose (RFC 9110 §7.4, RFC 9113 §9.1.1).
    pub fn may_ask_for(&self, host: &str, let_in: Option<&ClientCa>) -> bool {
        let wanted = match &*self.client_cas {
            all if all.iter().all(|ca| *ca == all[0]) => &all[0],
            all => &all[self.served.load().find_host(host).unwrap_or(0)],
        };
        wanted.is_none() || wanted.as_ref() == let_in
    }

    /// The certificates whose names a host of this pattern can have, by their number: one name, or `*.` and what follows.
    /// The first has all names that no other has.
    pub fn chosen_by_pattern(&self, pattern: &str) -> Vec<usize> {
        let served = self.served.load();
        let Some(suffix) = pattern.strip_prefix('*') else {
            return vec![served.find_host(pattern).unwrap_or(0)];
        };
        let below = |name: &String| {
            let bare = name.strip_prefix('*').unwrap_or(name);
            bare.ends_with(suffix)
        };
        let named = |(_, entry): &(usize, &Arc<Entry>)| entry.identity.names.iter().any(below);
        let entries = served.entries.iter().enumerate().filter(named).map(|(i, _)| i);
        std::iter::once(0).chain(entries.filter(|i| *i != 0)).collect()
    }

    pub fn states(&self) -> Vec<CertificateState> {
        let memories = self.memories.lock();
        let served = self.served.load();
        let state = |(entry, memory): (&Arc<Entry>, &Memory)| CertificateState {
            name: entry.identity.name.clone(),
            not_before: entry.identity.not_before,
            not_after: entry.identity.not_after,
            fault: memory.fault().map(str::to_owned),
        };
        served.entries.iter().zip(&*memories).map(state).collect()
    }

    /// What is wrong with the dates of each certificate, if anything.
    pub fn untimely(&self) -> Vec<(usize, String)> {
        let served = self.served.load();
        let of = |(i, entry): (usize, &Arc<Entry>)| Some((i, entry.identity.untimely()?));
        served.entries.iter().enumerate().filter_map(of).collect()
    }

    /// Reads the files again, and serves what is good in them: each certificate by itself.
    pub fn look(&self) -> Vec<Look> {
        // Before the lock: a disk that hangs must hold up nobody who asks how things are.
        let read: Vec<_> = self.files.iter().map(|files| (files, contents(files))).collect();
        let mut memories = self.memories.lock();
        let before = self.served.load_full();
        let mut entries = before.entries.clone();
        let mut looks = Vec::new();
        for (i, (files, contents)) in read.iter().enumerate() {
            let old = &before.entries[i];
            let load = || {
                let entry = Entry::of(contents)?;
                match (entry.identity.untimely(), old.identity.untimely()) {
                    // Nothing is won by what no client takes.
                    (Some(why), None) => {
                        Err(Fault { key: "cert", why, path: files.cert.display().to_string() })
                    }
                    (Some(_) | None, _) => Ok(entry),
                }
            };
            let name = |entry: &Entry| entry.identity.name.clone();
            let (look, new) = memories[i].look(fingerprint(contents), load, name);
            if let Some(new) = new {
                entries[i] = Arc::new(new);
            }
            looks.push(look);
        }
        if looks.iter().any(|look| matches!(look, Look::Renewed(_))) {
            self.served.store(Arc::new(Served::of(entries)));
        }
        looks
    }
}

impl Served {
    fn of(entries: Vec<Arc<Entry>>) -> Self {
        let mut by_name = HashMap::new();
        for (i, entry) in entries.iter().enumerate() {
            for name in &entry.identity.names {
                by_name.entry(name.clone()).or_insert(i);
            }
        }
        Self { entries, by_name }
    }

    /// As [`Self::find`], for the host of a request: nobody asks for an address in a handshake (RFC 6066 §3), nor with a
    /// dot at the end.
    fn find_host(&self, host: &str) -> Option<usize> {
        let bare = host.trim_end_matches('.');
        let is_address = bare.starts_with('[') || bare.parse::<IpAddr>().is_ok();
        if is_address { None } else { self.find(bare) }
    }

    fn find(&self, asked: &str) -> Option<usize> {
        let asked = asked.to_ascii_lowercase();
        let wildcard = || asked.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        let exact = self.by_name.get(&asked);
        exact.or_else(|| wildcard().and_then(|name| self.by_name.get(&name))).copied()
    }
}

fn contents(files: &ServerFiles) -> Vec<Content<'_>> {
    let mut contents = vec![Content::read("cert", &files.cert), Content::read("key", &files.key)];
    contents.extend(files.client_ca.as_ref().map(|path| Content::read("client_ca", path)));
    contents
}

impl Entry {
    fn of(contents: &[Content<'_>]) -> Result<Self, Fault> {
        let identity = Identity::of(&contents[0], &contents[1])?;
        let versions = [&version::TLS13, &version::TLS12];
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&versions)
            .expect("ring speaks both versions");
        let config = match contents.get(2) {
            None => config.with_no_client_auth(),
            Some(ca) => {
                let roots = Arc::new(ca.roots()?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                let verifier = verifier.build().expect("there is a root, and no revocation list");
                config.with_client_cert_verifier(verifier)
            }
        };
        let key = SingleCertAndKey::from(Arc::clone(&identity.key));
        let mut config = config.with_cert_resolver(Arc::new(key));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // A client resumes with what it carries itself: nothing is kept here for those who do not come back. The keys
        // end with this certificate, and with those who may show one.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if let Ok(ticketer) = Ticketer::new() {
            config.ticketer = ticketer;
        }
        Ok(Self { config: Arc::new(config), identity })
    }
}
