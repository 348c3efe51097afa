//! The serving certificate in use, kept for the next process: key, certificate and chain, and the root that they end at, in one file so that a
//! crash leaves all of it or none.

use std::net::IpAddr;
use std::path::Path;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use zeroize::Zeroizing;

use super::obtain::certified;
use super::{Held, Origin, ServingError};
use crate::model::{CaCertificate, ServingName, pem};
use crate::platform::files::{self, FileError, Mode};

const FILE: &str = "serving.pem";
const LARGEST: u64 = 256 * 1024;
const MOST_BLOCKS: usize = 32;

/// Keeps one that our CA issued.
pub fn write(directory: &Path, held: &Held, secret: &[u8]) -> Result<(), FileError> {
    let Origin::Issued(ca) = &held.origin else {
        return Ok(());
    };
    let mut text = Zeroizing::new(pem::encode("PRIVATE KEY", secret));
    for certificate in held.key.cert.iter().chain([ca.root().der()]) {
        text.push_str(&pem::certificate(certificate));
    }
    files::write(&directory.join(FILE), text.as_bytes(), Mode::Secret)
}

/// The one that was kept, if it can be read and is for these names. One that cannot is as good as none: another will be issued.
pub fn read(directory: &Path, names: &[ServingName]) -> Option<Held> {
    let text = files::read_if_exists(&directory.join(FILE), LARGEST).ok()??;
    parse(&text, names).unwrap_or_else(|error| {
        tracing::warn!(%error, "the serving certificate that was kept cannot be used");
        None
    })
}

fn parse(text: &[u8], names: &[ServingName]) -> Result<Option<Held>, ServingError> {
    let unreadable = |error: String| ServingError::Key(error);
    let blocks = pem::blocks(text, MOST_BLOCKS).map_err(|error| unreadable(error.to_string()))?;
    let [key, chain @ .., root] = blocks.as_slice() else {
        return Err(unreadable("it is not a key, certificates and a root".into()));
    };
    let certificates = || chain.iter().chain([root]);
    if key.label != "PRIVATE KEY" || certificates().any(|block| block.label != "CERTIFICATE") {
        return Err(unreadable("it is not a key, certificates and a root".into()));
    }
    let Some(leaf) = chain.first() else {
        return Err(unreadable("it holds no certificate".into()));
    };
    if !is_for(&leaf.der, names) {
        return Ok(None);
    }
    let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.der.to_vec()));
    let chain: Vec<_> = chain
        .iter()
        .map(|block| CertificateDer::from(block.der.to_vec()))
        .collect();
    let key = certified(chain, secret)?;
    key.keys_match()
        .map_err(|_| unreadable("the key does not belong to the certificate".into()))?;
    Ok(Some(Held {
        key,
        leaf: CaCertificate::parse(&leaf.der)?,
        origin: Origin::Kept(Box::new(CaCertificate::parse(&root.der)?)),
    }))
}

/// Whether a certificate names exactly these, in this order: settings may have changed since.
fn is_for(leaf: &[u8], names: &[ServingName]) -> bool {
    let Ok((_, leaf)) = X509Certificate::from_der(leaf) else {
        return false;
    };
    let Ok(Some(found)) = leaf.subject_alternative_name() else {
        return false;
    };
    let found: Option<Vec<ServingName>> = found.value.general_names.iter().map(name).collect();
    found.is_some_and(|found| found == names)
}

fn name(found: &GeneralName<'_>) -> Option<ServingName> {
    match found {
        GeneralName::DNSName(name) => Some(ServingName::Dns((*name).to_owned())),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from))
                .map(ServingName::Ip)
                .ok()
        }
        _ => None,
    }
}
