//! Certificates: what files hold of them, how connections are secured with them, and how they follow their files.
mod client;
mod identity;
mod look;
mod server;
mod words;
mod x509;

pub use client::{ClientSettings, ClientTls, Means, Offer};
pub use identity::{Fault, day};
pub use look::Look;
pub use server::{CertificateState, ClientCa, ServerFiles, ServerTls};
pub use words::in_words;

use rustls::crypto::CryptoProvider;
use std::sync::{Arc, LazyLock};

/// One provider for all configurations.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    Arc::clone(&PROVIDER)
}
