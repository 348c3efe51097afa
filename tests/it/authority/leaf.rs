//! A workload certificate under a CA, as small as verifiers accept, judged by rustls-webpki with nothing but what a client would have.

use countersign::authority::CaSnapshot;
use countersign::model::Timestamp;
use rcgen::PublicKeyData;
use rustls_pki_types::{CertificateDer, UnixTime};
use yasna::Tag;
use yasna::models::{GeneralizedTime, ObjectIdentifier};

fn oid(arcs: &[u64]) -> ObjectIdentifier {
    ObjectIdentifier::from_slice(arcs)
}

fn sign(ca: &CaSnapshot, at: Timestamp) -> CertificateDer<'static> {
    let key = rcgen::KeyPair::generate().unwrap();
    let algorithm = ca.key().signature_algorithm().der();
    let extension = |writer: yasna::DERWriter<'_>, id: &[u64], critical: bool, content: Vec<u8>| {
        writer.write_sequence(|writer| {
            writer.next().write_oid(&oid(id));
            if critical {
                writer.next().write_bool(true);
            }
            writer.next().write_bytes(&content);
        });
    };
    let tbs = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_tagged(Tag::context(0), |writer| writer.write_u8(2));
            writer.next().write_u8(7);
            writer.next().write_der(algorithm);
            writer.next().write_der(ca.signer().subject());
            writer.next().write_sequence(|writer| {
                for time in [at, at.plus(86_400)] {
                    let time = time::OffsetDateTime::from_unix_timestamp(time.unix()).unwrap();
                    let text = format!(
                        "{:04}{:02}{:02}000000Z",
                        time.year(),
                        u8::from(time.month()),
                        time.day()
                    );
                    let time = GeneralizedTime::parse(text.as_bytes()).unwrap();
                    writer.next().write_generalized_time(&time);
                }
            });
            writer.next().write_sequence(|_| {});
            writer.next().write_der(&key.subject_public_key_info());
            writer.next().write_tagged(Tag::context(3), |writer| {
                writer.write_sequence(|writer| {
                    let usage = yasna::construct_der(|writer| {
                        writer.write_sequence(|writer| {
                            writer.next().write_oid(&oid(&[1, 3, 6, 1, 5, 5, 7, 3, 1]));
                            writer.next().write_oid(&oid(&[1, 3, 6, 1, 5, 5, 7, 3, 2]));
                        });
                    });
                    extension(writer.next(), &[2, 5, 29, 37], false, usage);
                    if let Some(id) = ca.signer().key_id() {
                        let id = yasna::construct_der(|writer| {
                            writer.write_sequence(|writer| {
                                writer
                                    .next()
                                    .write_tagged_implicit(Tag::context(0), |writer| writer.write_bytes(id));
                            });
                        });
                        extension(writer.next(), &[2, 5, 29, 35], false, id);
                    }
                    let name = yasna::construct_der(|writer| {
                        writer.write_sequence(|writer| {
                            writer.next().write_tagged_implicit(Tag::context(6), |writer| {
                                writer.write_ia5_string("spiffe://cluster.local/ns/a/sa/b");
                            });
                        });
                    });
                    extension(writer.next(), &[2, 5, 29, 17], true, name);
                });
            });
        });
    });
    let signature = ca.key().sign(&tbs).unwrap();
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(&tbs);
            writer.next().write_der(algorithm);
            writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    })
    .into()
}

/// Signs a certificate for both sides of mTLS and has webpki build its path from the answer that a client would get.
pub fn verify(ca: &CaSnapshot, at: Timestamp) -> Result<(), webpki::Error> {
    let leaf = sign(ca, at);
    let tail: Vec<Vec<CertificateDer<'_>>> = ca
        .tail()
        .iter()
        .map(|pem| {
            let blocks = countersign::model::pem::blocks(pem.as_bytes(), 100).unwrap();
            blocks
                .iter()
                .map(|block| CertificateDer::from(block.der.to_vec()))
                .collect()
        })
        .collect();
    let (roots, chain) = tail.split_last().unwrap();
    assert!(
        chain.iter().all(|element| element.len() == 1),
        "one certificate per element"
    );
    let intermediates: Vec<_> = chain.concat();
    let anchors: Vec<_> = roots
        .iter()
        .map(|root| webpki::anchor_from_trusted_cert(root).unwrap())
        .collect();
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at.unix() as u64));
    let leaf = webpki::EndEntityCert::try_from(&leaf)?;
    for usage in [webpki::KeyUsage::server_auth(), webpki::KeyUsage::client_auth()] {
        leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &intermediates,
            time,
            usage,
            None,
            None,
        )?;
    }
    Ok(())
}
