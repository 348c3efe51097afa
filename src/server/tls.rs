//! TLS of the listener: 1.2 and 1.3, ALPN h2, no resumption, client certificates (where they may count) requested and never required.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;

use crate::model::ClientCertificate;
use crate::platform::crypto;

/// Longest client certificate chain that is looked at.
const MAX_CLIENT_CHAIN: usize = 10;

/// What every connection's configuration is made from.
#[derive(Debug)]
pub struct TlsSettings {
    provider: Arc<CryptoProvider>,
    certificate: Arc<Resolver>,
    ask_clients: bool,
}

impl TlsSettings {
    /// Serves with whatever certificate the channel holds at the time of a handshake; perhaps asks clients for theirs.
    pub fn new(certificate: watch::Receiver<Option<Arc<CertifiedKey>>>, ask_clients: bool) -> Self {
        Self {
            provider: crypto::tls_provider(),
            certificate: Arc::new(Resolver(certificate)),
            ask_clients,
        }
    }

    /// A configuration for one connection, with a verifier that remembers what this peer proved.
    pub fn for_connection(&self) -> Result<(Arc<ServerConfig>, Arc<Possession>), rustls::Error> {
        let possession = Arc::new(Possession {
            provider: self.provider.clone(),
            proven: AtomicBool::new(false),
        });
        let config =
            ServerConfig::builder_with_provider(self.provider.clone()).with_safe_default_protocol_versions()?;
        let config = if self.ask_clients {
            config.with_client_cert_verifier(possession.clone())
        } else {
            config.with_no_client_auth()
        };
        let mut config = config.with_cert_resolver(self.certificate.clone());
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.ignore_client_order = true;
        // No resumption: a resumed session would carry a client certificate past its judgement, and tickets cost more than they save here.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok((Arc::new(config), possession))
    }
}

#[derive(Debug)]
struct Resolver(watch::Receiver<Option<Arc<CertifiedKey>>>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.borrow().clone()
    }
}

/// Whether the peer proved to hold the key of the certificate that it sent. The handshake goes on whatever the answer is: a stale or broken
/// certificate must not block a good token. The certificate itself is judged at every call, since connections outlive certificates.
#[derive(Debug)]
pub struct Possession {
    provider: Arc<CryptoProvider>,
    proven: AtomicBool,
}

impl Possession {
    /// The peer's certificate, if it sent one and proved to hold its key.
    pub fn certificate(&self, sent: Option<&[CertificateDer<'static>]>) -> Option<ClientCertificate> {
        let sent = sent?;
        if !self.proven.load(Ordering::Acquire) || sent.len() > MAX_CLIENT_CHAIN {
            return None;
        }
        let leaf = sent.first()?.clone();
        Some(ClientCertificate { leaf })
    }

    fn note(&self, proof: Result<HandshakeSignatureValid, rustls::Error>) -> HandshakeSignatureValid {
        self.proven.store(proof.is_ok(), Ordering::Release);
        if let Err(error) = proof {
            tracing::debug!(%error, "a client certificate's key was not proven: it counts as absent");
        }
        HandshakeSignatureValid::assertion()
    }
}

impl ClientCertVerifier for Possession {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        Ok(self.note(verify_tls12_signature(message, certificate, signature, algorithms)))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        Ok(self.note(verify_tls13_signature(message, certificate, signature, algorithms)))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
