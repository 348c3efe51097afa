use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use super::*;
use crate::model::der;

/// A root made by rcgen, changed before it signs itself.
fn root(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::OrganizationName, "Example");
    parameters.distinguished_name.push(DnType::CommonName, "Root");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut parameters);
    parameters.self_signed(&key).unwrap().der().to_vec()
}

fn parse(change: impl FnOnce(&mut CertificateParams)) -> CaCertificate {
    CaCertificate::parse(&root(change)).unwrap()
}

#[test]
fn tells_what_stands_there() {
    let der = root(|parameters| {
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(3));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2060, 1, 1);
    });
    let found = CaCertificate::parse(&der).unwrap();
    let [to_be_signed, ..] = der::members::<3>(der::SEQUENCE, &der).unwrap();
    let [_, _, _, issuer, _, subject, key, _] = der::members::<8>(der::SEQUENCE, to_be_signed.whole).unwrap();
    assert_eq!(found.der().as_ref(), der);
    assert_eq!((found.subject(), found.issuer()), (subject.whole, issuer.whole));
    assert_eq!(found.public_key_info(), key.whole);
    assert_eq!(
        (found.subject_text(), found.issuer_text()),
        ("O=Example, CN=Root", "O=Example, CN=Root")
    );
    assert_eq!(found.key(), Ok(KeyAlgorithm::P256));
    assert!(found.is_self_issued() && found.is_ca() && found.may_sign_certificates() && found.may_sign_crls());
    assert_eq!(found.path_length(), Some(3));
    assert_eq!(found.validity().not_before.to_string(), "2020-01-01T00:00:00Z");
    assert_eq!(found.validity().not_after.to_string(), "2060-01-01T00:00:00Z");
    assert_eq!(found.key_id().map(<[u8]>::len), Some(20));
    assert_eq!(found.extended_key_usage(), None);
    assert_eq!(crate::model::pem::single("CERTIFICATE", found.pem()), Some(der));
    assert!(found.pem().ends_with("-----END CERTIFICATE-----\n"));
}

#[test]
fn a_leaf_is_no_ca() {
    assert!(!parse(|parameters| parameters.is_ca = IsCa::NoCa).is_ca());
    assert!(!parse(|parameters| parameters.is_ca = IsCa::ExplicitNoCa).is_ca());
}

#[test]
fn usages_bind_only_where_they_stand() {
    let free = parse(|_| ());
    assert!(free.may_sign_certificates() && free.may_sign_crls());
    let certificates = parse(|parameters| parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    assert!(certificates.may_sign_certificates() && !certificates.may_sign_crls());
    let neither = parse(|parameters| parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    assert!(!neither.may_sign_certificates() && !neither.may_sign_crls());
    let usage = |list: &[ExtendedKeyUsagePurpose]| {
        let found = parse(|parameters| parameters.extended_key_usages = list.to_vec());
        found.extended_key_usage().map(|usage| (usage.server, usage.client))
    };
    assert_eq!(usage(&[]), None);
    assert_eq!(usage(&[ExtendedKeyUsagePurpose::ServerAuth]), Some((true, false)));
    assert_eq!(usage(&[ExtendedKeyUsagePurpose::ClientAuth]), Some((false, true)));
    assert_eq!(usage(&[ExtendedKeyUsagePurpose::Any]), Some((true, true)));
    assert_eq!(usage(&[ExtendedKeyUsagePurpose::CodeSigning]), Some((false, false)));
}

#[test]
fn refuses_what_cannot_be_read() {
    let der = root(|_| ());
    let behind = [&der[..], &[0, 0]].concat();
    assert_eq!(CaCertificate::parse(&behind), Err(CertificateError::Trailing(2)));
    for bad in [&[][..], &der[..der.len() - 1], b"hello"] {
        assert!(matches!(
            CaCertificate::parse(bad),
            Err(CertificateError::Unreadable(_))
        ));
    }
    let unreadable = |content: &[u8]| {
        let extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], content.to_vec());
        CaCertificate::parse(&root(|parameters| parameters.custom_extensions.push(extension)))
    };
    assert!(matches!(unreadable(&[4, 9, 1]), Err(CertificateError::Extensions(_))));
    let twice = CaCertificate::parse(&root(|parameters| {
        for _ in 0..2 {
            let note = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
            parameters.custom_extensions.push(note);
        }
    }));
    assert!(matches!(twice, Err(CertificateError::Extensions(_))));
}

proptest! {
    #[test]
    fn never_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        thread_local!(static DER: Vec<u8> = root(|_| ()));
        let mut der = DER.with(Clone::clone);
        for (at, byte) in changes {
            let at = at.index(der.len());
            der[at] = byte;
        }
        let _ = CaCertificate::parse(&der);
    }
}
