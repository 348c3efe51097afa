//! TLS of the listener: 1.2 and 1.3, ALPN h2, no resumption, client certificates (where they may count) requested and never required.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;
use webpki::EndEntityCert;

use crate::platform::crypto;

/// Serves with whatever certificate the channel holds at the time of a handshake; perhaps asks clients for theirs.
pub fn config(
    certificate: watch::Receiver<Option<Arc<CertifiedKey>>>,
    ask_clients: bool,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = crypto::tls_provider();
    let config = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let config = if ask_clients {
        config.with_client_cert_verifier(Arc::new(Possession(provider)))
    } else {
        config.with_no_client_auth()
    };
    let mut config = config.with_cert_resolver(Arc::new(Resolver(certificate)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.ignore_client_order = true;
    // No resumption: a resumed session would carry a client certificate past its judgement, and tickets cost more than they save here.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Resolver(watch::Receiver<Option<Arc<CertifiedKey>>>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.borrow().clone()
    }
}

/// That the peer holds the key of the certificate that it sent, and nothing else: whether the certificate counts is judged at every call, since
/// connections outlive certificates, and a stale one must not block a good token.
#[derive(Debug)]
struct Possession(Arc<CryptoProvider>);

impl Possession {
    /// RFC 8446, 4.4.3: a signature that does not verify ends the handshake. A certificate that cannot be read has no key to verify with; it
    /// will not be read at a call either, so it counts as absent.
    fn unless_unreadable(
        certificate: &CertificateDer<'_>,
        verify: impl FnOnce() -> Result<HandshakeSignatureValid, rustls::Error>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match EndEntityCert::try_from(certificate) {
            Ok(_) => verify(),
            Err(error) => {
                tracing::debug!(%error, "a client certificate cannot be read: it counts as absent");
                Ok(HandshakeSignatureValid::assertion())
            }
        }
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
        let algorithms = &self.0.signature_verification_algorithms;
        Self::unless_unreadable(certificate, || {
            verify_tls12_signature(message, certificate, signature, algorithms)
        })
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        Self::unless_unreadable(certificate, || {
            verify_tls13_signature(message, certificate, signature, algorithms)
        })
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
