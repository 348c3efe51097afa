//! Judges answers when the clock has stopped: a fast server that answers wrongly has no figure.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use countersign::proto::istio::{IstioCertificateRequest, IstioCertificateResponse};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, ring};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509CertificationRequest};

use crate::call::{Call, decode};
use crate::load::Outcome;
use crate::material::spiffe_path;

/// Checks every answer of the sample: the leaf chains to the root that callers trust, has the key of the CSR, names the token's account.
pub fn judge(outcome: &Outcome, root_file: &Path) -> Result<()> {
    let roots = CertificateDer::pem_file_iter(root_file)?.collect::<Result<Vec<_>, _>>()?;
    ensure!(!outcome.sample.is_empty(), "no answer was kept");
    for (call, body) in &outcome.sample {
        judge_one(call, body, &roots).context("a wrong answer")?;
    }
    Ok(())
}

fn judge_one(call: &Call, body: &Bytes, roots: &[CertificateDer<'_>]) -> Result<()> {
    let answer: IstioCertificateResponse = decode(body).context("unreadable")?;
    let (leaf, above) = answer.cert_chain.split_first().context("empty")?;
    let leaf = CertificateDer::from_pem_slice(leaf.as_bytes())?;
    let above = above
        .iter()
        .flat_map(|element| CertificateDer::pem_slice_iter(element.as_bytes()))
        .collect::<Result<Vec<_>, _>>()?;
    let anchors = roots
        .iter()
        .map(anchor_from_trusted_cert)
        .collect::<Result<Vec<_>, _>>()?;
    EndEntityCert::try_from(&leaf)?.verify_for_usage(
        &[ring::ECDSA_P256_SHA256],
        &anchors,
        &above,
        UnixTime::now(),
        KeyUsage::client_auth(),
        None,
        None,
    )?;

    let request: IstioCertificateRequest = decode(&call.message).context("unreadable call")?;
    let csr = CertificateSigningRequestDer::from_pem_slice(request.csr.as_bytes())?;
    let (_, csr) = X509CertificationRequest::from_der(&csr)?;
    let (_, leaf) = X509Certificate::from_der(&leaf)?;
    ensure!(
        leaf.public_key().raw == csr.certification_request_info.subject_pki.raw,
        "the leaf has another key than the CSR"
    );
    let path = spiffe_path(call.authorization.to_str()?)?;
    let names = leaf.subject_alternative_name()?.context("no names")?;
    ensure!(
        matches!(names.value.general_names[..], [GeneralName::URI(uri)] if uri == format!("spiffe://cluster.local{path}")),
        "the leaf does not name the token's account"
    );
    Ok(())
}
