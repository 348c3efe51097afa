//! The verdict of rustls-webpki, which judges for ztunnel.

use std::time::{Duration, SystemTime};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// Whether an answer's leaf leads to one of its roots, for client and for server use.
pub fn verify(answer: &[String]) -> Result<(), webpki::Error> {
    let read = |element: &String| -> Vec<CertificateDer<'static>> {
        let certificates = CertificateDer::pem_slice_iter(element.as_bytes());
        certificates.map(Result::unwrap).collect()
    };
    let (bundle, chain) = answer.split_last().unwrap();
    let roots = read(bundle);
    let anchors: Result<Vec<_>, _> = roots.iter().map(anchor_from_trusted_cert).collect();
    let anchors = anchors?;
    let chain: Vec<_> = chain.iter().flat_map(read).collect();
    let (leaf, intermediates) = chain.split_first().unwrap();
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(since.as_secs()));
    let leaf = EndEntityCert::try_from(leaf)?;
    for usage in [KeyUsage::client_auth(), KeyUsage::server_auth()] {
        leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, intermediates, now, usage, None, None)?;
    }
    Ok(())
}
