//! Where a serving certificate comes from: our own CA, or files.

use std::path::Path;
use std::sync::Arc;

use rcgen::PublicKeyData;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use zeroize::Zeroizing;

use super::{Held, Origin, ServingError};
use crate::issue::Issuer;
use crate::model::{CaCertificate, KeyAlgorithm, Lifetime, ServingName};
use crate::platform::crypto::{self, TlsPolicy};
use crate::platform::files;

/// Certificates larger than this are none.
const FILE_LIMIT: u64 = 256 * 1024;

/// Has one issued for a new key, whose PKCS#8 comes with it.
pub fn issue(
    names: &[ServingName],
    lifetime: Lifetime,
    issuer: &Issuer,
) -> Result<(Held, Zeroizing<Vec<u8>>), ServingError> {
    let key = rcgen::KeyPair::generate().map_err(|error| ServingError::Key(error.to_string()))?;
    let secret = Zeroizing::new(key.serialize_der());
    let issued = issuer.serving(
        names.to_vec(),
        &key.subject_public_key_info(),
        KeyAlgorithm::P256,
        lifetime,
    )?;
    let leaf = CaCertificate::parse(issued.certificate())?;
    // The chain below the root: what clients need to find their way to the root that they hold.
    let above = issued.ca().intermediates().map(|member| member.der().clone());
    let chain: Vec<_> = std::iter::once(leaf.der().clone()).chain(above).collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(secret.to_vec()));
    let held = Held {
        key: certified(chain, key)?,
        leaf,
        origin: Origin::Issued(issued.ca().ca().clone()),
    };
    Ok((held, secret))
}

/// Reads one from files that handshakes under `tls` can show.
pub fn read(certificate: &Path, key: &Path, tls: &TlsPolicy) -> Result<Held, ServingError> {
    let content = |path: &Path| {
        let path = path.to_owned();
        move |finding: String| ServingError::Content { path, finding }
    };
    let chain_text = files::read(certificate, FILE_LIMIT)?;
    let key_text = files::read(key, FILE_LIMIT)?;
    let chain = CertificateDer::pem_slice_iter(&chain_text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| content(certificate)(error.to_string()))?;
    let leaf = chain
        .first()
        .ok_or_else(|| content(certificate)("it holds no certificate".into()))?;
    let leaf = CaCertificate::parse(leaf)?;
    let private = PrivateKeyDer::from_pem_slice(&key_text).map_err(|error| content(key)(error.to_string()))?;
    let certified = certified(chain, private)?;
    certified
        .keys_match()
        .map_err(|_| content(key)("the key does not belong to the certificate".into()))?;
    tls.check_key(certified.key.algorithm())
        .map_err(|error| content(key)(format!("tls.cipherSuites: {error}")))?;
    Ok(Held {
        key: certified,
        leaf,
        origin: Origin::Files(chain_text.to_vec(), crypto::sha256(&key_text)),
    })
}

/// Chain and key as handshakes need them.
pub fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, ServingError> {
    let key = crypto::tls_provider()
        .key_provider
        .load_private_key(key)
        .map_err(|error| ServingError::Key(error.to_string()))?;
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}
