//! CAs to test with: a root, a signer below it (or the root itself), and whatever certificates one likes under them.

use std::sync::Arc;

use countersign::authority::{CaSnapshot, LoadedCa};
use countersign::model::{Bundle, CaCertificate, KeyAlgorithm, Timestamp, Validity};
use countersign::platform::crypto::{self, KeyFormat, SigningKey};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

const DAY: i64 = 86_400;

/// A root and a signer below it.
pub struct TestCa {
    /// The CA as the program sees it.
    pub snapshot: Arc<CaSnapshot>,
    /// The root, which can sign more.
    pub root: CertifiedIssuer<'static, KeyPair>,
    /// The signer, which can sign anything.
    pub signer: CertifiedIssuer<'static, KeyPair>,
}

impl TestCa {
    /// P-256, valid from a day before `now` for ten years.
    pub fn new(now: Timestamp) -> Self {
        Self::with(KeyAlgorithm::P256, years(now))
    }

    /// The signer has this kind of key and this validity; the root is P-256 and as long-lived.
    pub fn with(algorithm: KeyAlgorithm, validity: Validity) -> Self {
        let root = root("Test Root", KeyPair::generate().unwrap(), validity);
        let signer = CertifiedIssuer::signed_by(authority("Test Signer", validity), key(algorithm), &root).unwrap();
        Self::of(root, signer)
    }

    /// Any root and signer.
    pub fn of(root: CertifiedIssuer<'static, KeyPair>, signer: CertifiedIssuer<'static, KeyPair>) -> Self {
        let parse = |issuer: &CertifiedIssuer<'_, KeyPair>| CaCertificate::parse(issuer.der()).unwrap();
        let certificate = parse(&signer);
        let (algorithm, public_key) = crypto::public_key(certificate.public_key_info()).unwrap();
        let private = signer.key().serialized_der();
        let private = SigningKey::read(KeyFormat::Pkcs8, private, algorithm, &public_key).unwrap();
        let bundle = Bundle::new([parse(&root)]).unwrap();
        let snapshot = CaSnapshot::fixed(LoadedCa::new(private, vec![certificate], bundle).unwrap());
        Self {
            snapshot: Arc::new(snapshot),
            root,
            signer,
        }
    }

    /// A root that signs leaves itself.
    pub fn self_signed(now: Timestamp) -> Self {
        let secret = KeyPair::generate().unwrap();
        let again = || KeyPair::from_pem(&secret.serialize_pem()).unwrap();
        let root = root("Test Root", again(), years(now));
        // The same name, key and certificate bytes, so that one signer serves for both.
        let certificate = CaCertificate::parse(root.der()).unwrap();
        let (algorithm, public_key) = crypto::public_key(certificate.public_key_info()).unwrap();
        let private = SigningKey::read(KeyFormat::Pkcs8, secret.serialized_der(), algorithm, &public_key).unwrap();
        let bundle = Bundle::new([certificate.clone()]).unwrap();
        let snapshot = CaSnapshot::fixed(LoadedCa::new(private, vec![certificate], bundle).unwrap());
        Self {
            snapshot: Arc::new(snapshot),
            signer: root_of(&root, again()),
            root,
        }
    }
}

fn root_of(root: &CertifiedIssuer<'static, KeyPair>, key: KeyPair) -> CertifiedIssuer<'static, KeyPair> {
    // rcgen cannot clone an issuer; a second self-signed certificate under the same name and key signs the same.
    let validity = CaCertificate::parse(root.der()).unwrap().validity();
    self::root("Test Root", key, validity)
}

/// From a day before `now`, for ten years.
pub fn years(now: Timestamp) -> Validity {
    Validity {
        not_before: now.plus(-DAY),
        not_after: now.plus(3650 * DAY),
    }
}

/// A self-signed root.
pub fn root(name: &str, key: KeyPair, validity: Validity) -> CertifiedIssuer<'static, KeyPair> {
    CertifiedIssuer::self_signed(authority(name, validity), key).unwrap()
}

/// What a CA certificate says.
pub fn authority(name: &str, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    valid(&mut params, validity);
    params
}

/// What a workload's certificate says.
pub fn workload(uri: &str, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    valid(&mut params, validity);
    params
}

/// Sets the validity.
pub fn valid(params: &mut CertificateParams, validity: Validity) {
    let time = |point: Timestamp| time::OffsetDateTime::from_unix_timestamp(point.unix()).unwrap();
    params.not_before = time(validity.not_before);
    params.not_after = time(validity.not_after);
}

/// A certificate for a new P-256 key.
pub fn signed(params: &CertificateParams, issuer: &Issuer<'_, KeyPair>) -> rcgen::Certificate {
    params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap()
}

/// A private key: RSA always the same one, since making one takes seconds.
pub fn key(algorithm: KeyAlgorithm) -> KeyPair {
    match algorithm {
        KeyAlgorithm::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        KeyAlgorithm::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        KeyAlgorithm::Ed25519 => KeyPair::generate_for(&rcgen::PKCS_ED25519),
        KeyAlgorithm::Rsa(_) => KeyPair::from_pem(include_str!("../../vectors/keys/rsa-2048.pem")),
    }
    .unwrap()
}
