//! Trust in the server's certificate, judged in full once: the same bytes need no second judgement, and a bench must not spend the load's
//! core on it at every connection. That the server holds the certificate's key is checked at every handshake.

use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

/// Knows the one server of a run.
#[derive(Debug)]
pub struct Once {
    full: Arc<WebPkiServerVerifier>,
    known: OnceLock<(CertificateDer<'static>, ServerName<'static>)>,
}

impl Once {
    /// Judges with `full` what it has not seen.
    pub fn new(full: Arc<WebPkiServerVerifier>) -> Self {
        Self {
            full,
            known: OnceLock::new(),
        }
    }
}

impl ServerCertVerifier for Once {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self
            .known
            .get()
            .is_some_and(|(known, called)| known == leaf && called == name)
        {
            return Ok(ServerCertVerified::assertion());
        }
        let verified = self.full.verify_server_cert(leaf, intermediates, name, ocsp, now)?;
        // Another certificate than the first, after a renewal, is judged every time.
        let _ = self.known.set((leaf.clone().into_owned(), name.to_owned()));
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.full.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.full.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.full.supported_verify_schemes()
    }
}
