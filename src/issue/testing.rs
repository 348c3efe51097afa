//! What this room's tests stand on: fixed keys, CSRs and callers, and CAs with subjects that no certificate library would write.

use std::path::Path;
use std::sync::Arc;

use yasna::{DERWriter, Tag};

use super::authenticate::Caller;
use super::authorize::{Grant, authorize};
use super::csr::{self, CheckedCsr};
use super::plan::{Circumstances, Profile, sequence};
use crate::authority::{CaSnapshot, LoadedCa};
use crate::model::{Bundle, CaCertificate, Identity, KeyAlgorithm, Lifetime, Serial, Timestamp, Validity};
use crate::platform::crypto::{self, KeyFormat, SigningKey};
use crate::platform::files;

pub(super) const IDENTITY: &str = "spiffe://cluster.local/ns/default/sa/sleep";
/// 2026-01-02T03:04:05Z.
pub(super) const NOW: Timestamp = Timestamp::from_unix(1_767_323_045);
pub(super) const DAY: i64 = 86_400;
/// Ten years around [`NOW`].
pub(super) const LONG: Validity = Validity {
    not_before: NOW.plus(-365 * DAY),
    not_after: NOW.plus(3650 * DAY),
};
/// One key of each kind under `tests/vectors/csrs/keys`, to sign with.
pub(super) const SIGNERS: [&str; 4] = ["p256-other", "p384", "rsa-2048", "ed25519"];

/// A file of `tests/vectors/csrs`.
pub(super) fn vector(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/csrs");
    files::read_text(&folder.join(name), 1 << 20).unwrap()
}

pub(super) fn grant() -> Grant {
    let caller = Caller::of_test(Identity::parse(IDENTITY).unwrap());
    authorize(caller, None).unwrap()
}

/// An accepted CSR of `tests/vectors/csrs`.
pub(super) fn csr(name: &str) -> CheckedCsr {
    csr::parse(&vector(&format!("good-{name}.csr")))
        .unwrap()
        .check(&grant(), false)
        .unwrap()
}

pub(super) fn profile() -> Profile {
    let lifetime = |seconds| Lifetime::from_seconds(seconds).unwrap();
    Profile {
        default: lifetime(DAY),
        maximum: lifetime(90 * DAY),
        minimum: lifetime(60),
    }
}

pub(super) fn circumstances(ca: &Arc<CaSnapshot>) -> Circumstances {
    Circumstances {
        ca: ca.clone(),
        now: NOW,
        serial: Serial::from_random([0xab; 16]),
    }
}

/// A private key and its SubjectPublicKeyInfo.
pub(super) fn key(name: &str) -> (SigningKey, Vec<u8>) {
    use rcgen::PublicKeyData;
    let pair = rcgen::KeyPair::from_pem(&vector(&format!("keys/{name}.pem"))).unwrap();
    let info = pair.subject_public_key_info();
    let (algorithm, public) = KeyAlgorithm::read(&info).unwrap();
    let key = SigningKey::read(KeyFormat::Pkcs8, &pair.serialize_der(), algorithm, public).unwrap();
    (key, info)
}

/// A CA below a P-256 root that is valid for [`LONG`].
pub(super) struct TestCa {
    pub key: &'static str,
    pub subject: Vec<u8>,
    pub has_key_id: bool,
    pub validity: Validity,
}

impl Default for TestCa {
    fn default() -> Self {
        Self {
            key: "p256-other",
            subject: plain_name(),
            has_key_id: true,
            validity: LONG,
        }
    }
}

impl TestCa {
    pub fn build(&self) -> Arc<CaSnapshot> {
        let (root_key, root_info) = key("p256");
        let root_name = name(&[&[(&[2, 5, 4, 3], 0x0c, b"Root")]]);
        let root = certificate(&root_key, &root_name, &root_name, &root_info, true, LONG);
        let (key, info) = key(self.key);
        let signer = certificate(
            &root_key,
            &root_name,
            &self.subject,
            &info,
            self.has_key_id,
            self.validity,
        );
        let bundle = Bundle::new([root]).unwrap();
        Arc::new(CaSnapshot::fixed(LoadedCa::new(key, vec![signer], bundle).unwrap()))
    }
}

/// A root that signs leaves directly.
pub(super) fn self_signed(validity: Validity) -> Arc<CaSnapshot> {
    let (key, info) = key("ed25519");
    let root = certificate(&key, &plain_name(), &plain_name(), &info, true, validity);
    let bundle = Bundle::new([root.clone()]).unwrap();
    Arc::new(CaSnapshot::fixed(LoadedCa::new(key, vec![root], bundle).unwrap()))
}

type Attribute<'a> = (&'a [u64], u8, &'a [u8]);

/// A distinguished name: attributes (type, string tag, content) by RDN.
fn name(rdns: &[&[Attribute<'_>]]) -> Vec<u8> {
    sequence(|writer| {
        for rdn in rdns {
            writer.next().write_set(|writer| {
                for (kind, tag, content) in *rdn {
                    writer.next().write_sequence(|writer| {
                        writer.next().write_oid(&oid(kind));
                        let value = [&[*tag, content.len() as u8], *content].concat();
                        writer.next().write_der(&value);
                    });
                }
            });
        }
    })
}

pub(super) fn plain_name() -> Vec<u8> {
    name(&[
        &[(&[2, 5, 4, 10], 0x13, b"Example")],
        &[(&[2, 5, 4, 3], 0x0c, b"Issuing CA")],
    ])
}

/// Subjects as Active Directory and old company CAs write them; rcgen could write none of them.
pub(super) fn odd_names() -> Vec<Vec<u8>> {
    let domain: &[u64] = &[0, 9, 2342, 19_200_300, 100, 1, 25];
    let (unit, common, mail): (&[u64], &[u64], &[u64]) =
        (&[2, 5, 4, 11], &[2, 5, 4, 3], &[1, 2, 840, 113_549, 1, 9, 1]);
    vec![
        plain_name(),
        name(&[
            &[(domain, 0x16, b"com")],
            &[(domain, 0x16, b"example")],
            &[(unit, 0x13, b"PKI")],
            &[(unit, 0x13, b"Issuing")],
            &[(common, 0x13, b"Example Issuing CA 1")],
        ]),
        name(&[&[(common, 0x0c, b"Two"), (mail, 0x16, b"pki@example.com")]]),
        // T61String with a Latin-1 ü, BMPString.
        name(&[&[(unit, 0x14, b"M\xfcnchen")], &[(common, 0x1e, b"\0C\0A\x20\xac")]]),
    ]
}

fn certificate(
    issuer_key: &SigningKey,
    issuer: &[u8],
    subject: &[u8],
    info: &[u8],
    has_key_id: bool,
    validity: Validity,
) -> CaCertificate {
    let (_, public) = KeyAlgorithm::read(info).unwrap();
    let extension = |writer: DERWriter<'_>, arc: u64, critical: bool, content: &[u8]| {
        writer.write_sequence(|writer| {
            writer.next().write_oid(&oid(&[2, 5, 29, arc]));
            if critical {
                writer.next().write_bool(true);
            }
            writer.next().write_bytes(content);
        });
    };
    let to_be_signed = sequence(|writer| {
        writer.next().write_tagged(Tag::context(0), |writer| writer.write_u8(2));
        writer.next().write_u8(7);
        writer.next().write_der(issuer_key.signature_algorithm().der());
        writer.next().write_der(issuer);
        writer.next().write_sequence(|writer| {
            writer.next().write_der(&generalized(validity.not_before));
            writer.next().write_der(&generalized(validity.not_after));
        });
        writer.next().write_der(subject);
        writer.next().write_der(info);
        writer.next().write_tagged(Tag::context(3), |writer| {
            writer.write_sequence(|writer| {
                extension(writer.next(), 19, true, &[0x30, 3, 1, 1, 0xff]);
                extension(writer.next(), 15, true, &[3, 2, 1, 6]);
                if has_key_id {
                    let id = [&[4, 20][..], &crypto::key_identifier(public)].concat();
                    extension(writer.next(), 14, false, &id);
                }
            });
        });
    });
    let signature = issuer_key.sign(&to_be_signed).unwrap();
    let der = sequence(|writer| {
        writer.next().write_der(&to_be_signed);
        writer.next().write_der(issuer_key.signature_algorithm().der());
        writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
    });
    CaCertificate::parse(&der).unwrap()
}

fn generalized(time: Timestamp) -> Vec<u8> {
    let text: String = time.to_string().chars().filter(|char| !"-T:".contains(*char)).collect();
    [&[0x18, text.len() as u8], text.as_bytes()].concat()
}

fn oid(arcs: &[u64]) -> yasna::models::ObjectIdentifier {
    yasna::models::ObjectIdentifier::from_slice(arcs)
}
