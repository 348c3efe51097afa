//! TLS of the listener: what the policy takes, ALPN h2, no resumption, client certificates (where they may count) requested and never required.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{Acceptor, ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    DigitallySignedStruct, DistinguishedName, NamedGroup, ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};
use webpki::EndEntityCert;

use crate::platform::crypto::TlsPolicy;

/// How a TLS listener greets.
pub struct Tls {
    config: Arc<ServerConfig>,
    /// The same with one group alone, the best first.
    by_group: Vec<(NamedGroup, Arc<ServerConfig>)>,
}

impl Tls {
    /// Serves by this policy, with whatever certificate the channel holds at the time of a handshake; perhaps asks clients for theirs.
    pub fn new(
        policy: &TlsPolicy,
        certificate: &watch::Receiver<Option<Arc<CertifiedKey>>>,
        ask_clients: bool,
    ) -> Result<Self, rustls::Error> {
        let provider = policy.provider();
        let with = |provider| config(Arc::new(provider), &policy.versions(), certificate.clone(), ask_clients);
        let by_group = provider
            .kx_groups
            .iter()
            .filter(|_| policy.groups().len() > 1)
            .map(|group| {
                let mut alone = provider.clone();
                alone.kx_groups = vec![*group];
                Ok((group.name(), with(alone)?))
            });
        Ok(Self {
            by_group: by_group.collect::<Result<_, rustls::Error>>()?,
            config: with(provider)?,
        })
    }

    /// A handshake. The library takes the client's first group that is ours; where an administrator gave an order, the first of ours that is the
    /// client's is what is left to it. A client that made its share of the key for another is asked again (RFC 8446, 4.1.4).
    pub async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        if self.by_group.is_empty() {
            return TlsAcceptor::from(self.config.clone()).accept(stream).await;
        }
        let greeted = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let theirs = greeted.client_hello().named_groups().unwrap_or_default().to_vec();
        let best = self.by_group.iter().find(|(group, _)| theirs.contains(group));
        let config = best.map_or(&self.config, |(_, config)| config).clone();
        greeted.into_stream(config).await
    }
}

fn config(
    provider: Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    certificate: watch::Receiver<Option<Arc<CertifiedKey>>>,
    ask_clients: bool,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let config = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions)?;
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
