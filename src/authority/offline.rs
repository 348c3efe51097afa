//! A CA that is made by hand: a root whose key stays offline, and intermediates under it to plug in, as Istio's makefiles in `tools/certs` make
//! them.
//!
//! Takes: what they are to be, and keys that exist already. Gives: PEM. Not here: files.
//!
//! Where this differs from the makefiles: elliptic keys unless a key is given, and `cRLSign` in place of `digitalSignature`, `nonRepudiation` and
//! `keyEncipherment`, which a CA has no use for; authority key identifiers; no root in `cert-chain.pem`, which would send it twice.

use rcgen::{BasicConstraints, CustomExtension, DnType, IsCa, KeyPair, PublicKeyData, SanType};
use yasna::Tag;
use zeroize::Zeroizing;

use super::finding::{Findings, Report};
use super::layout::{Files, Layout};
use super::reissue::reissue;
use super::root::{self, RootAlgorithm, RootError};
use super::{LoadedCa, key, layout, plugged_in};
use crate::model::{KeyAlgorithm, Lifetime, Serial, Timestamp, Validity};
use crate::platform::Random;
use crate::platform::crypto::KeyFormat;

/// The root's certificate, beside its key.
pub const ROOT_CERTIFICATE: &str = "root-cert.pem";
/// The root's key.
pub const ROOT_KEY: &str = "root-key.pem";

/// Every file that a folder to plug in may have, in either layout.
pub const FILES: [&str; 7] = [
    layout::ISTIO.certificate,
    layout::ISTIO.key,
    layout::ISTIO.roots,
    CHAIN,
    layout::TLS.certificate,
    layout::TLS.key,
    layout::TLS.roots,
];

const CHAIN: &str = "cert-chain.pem";

/// What both kinds have.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The key.
    pub key: Key<'a>,
    /// O of its name; none if empty.
    pub organization: &'a str,
    /// CN of its name; without one, a root gets a name that no other root has.
    pub common_name: Option<&'a str>,
    /// From now on.
    pub lifetime: Lifetime,
}

/// Which key.
#[derive(Debug)]
pub enum Key<'a> {
    /// A new one.
    Make(RootAlgorithm),
    /// One that exists: where it came from, and its PEM.
    Given(&'a str, &'a [u8]),
}

/// What only an intermediate has.
#[derive(Debug)]
pub struct Cluster<'a> {
    /// L of its name.
    pub name: &'a str,
    /// DNS names of istiod. Istio's makefile gives intermediates one, from when istiod served with them.
    pub names: &'a [String],
}

/// A certificate and its key, PEM.
pub struct Pair {
    /// The key, PKCS#8.
    pub key: Zeroizing<String>,
    /// The certificate.
    pub certificate: String,
}

/// Why it cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The key that was given, or the root, cannot be used.
    #[error("{0}")]
    Unusable(Findings),
    /// Not what we read.
    #[error("{place}: the key is {what}; write it as PKCS#8: openssl pkcs8 -topk8 -nocrypt -in {place} -out NEW")]
    Form {
        /// The key's file.
        place: String,
        /// Its form.
        what: &'static str,
    },
    /// PKCS#8 that the crypto library does not take.
    #[error("{place}: the key cannot be used ({why}); P-256, P-384, Ed25519 and RSA of 2048 to 4096 bits can")]
    Refused {
        /// The key's file.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// Nothing below a certificate is of use for longer than it is.
    #[error(
        "the root ends at {until}: an intermediate under it can last {days} days at most; give --days {days}, or make another root"
    )]
    Outlives {
        /// Its end.
        until: Timestamp,
        /// What is left.
        days: i64,
    },
    /// The root ends within a day.
    #[error("the root ends at {0}: make another root")]
    Ending(Timestamp),
    /// What was given as the root is below another CA.
    #[error("{0:?} is not self-signed, so it is no root: openssl and others would not take it as one")]
    NotRoot(String),
    /// It could not be made.
    #[error(transparent)]
    Make(#[from] RootError),
}

/// Makes a root.
pub fn root(wanted: &Wanted<'_>, now: Timestamp, random: &dyn Random) -> Result<Pair, OfflineError> {
    let key = key_pair(&wanted.key)?;
    let common_name = match wanted.common_name {
        Some(name) => name.to_owned(),
        None => format!("Root CA {}", root::short_fingerprint(&key)),
    };
    let name = root::name(wanted.organization, &common_name);
    let parameters = root::parameters(&key, name, wanted.lifetime, now, random)?;
    let certificate = parameters.self_signed(&key).map_err(RootError::from)?;
    Ok(Pair {
        key: root::key_pem(&key),
        certificate: crate::model::pem::certificate(certificate.der()),
    })
}

/// Reads a root that was made here or elsewhere, and judges it as one that is plugged in.
pub fn read_root(certificate: &[u8], key: &[u8], now: Timestamp) -> Result<LoadedCa, OfflineError> {
    let layout = Layout {
        certificate: ROOT_CERTIFICATE,
        key: ROOT_KEY,
        roots: ROOT_CERTIFICATE,
        chain: None,
    };
    let certificate = Zeroizing::new(certificate.to_vec());
    let files = Files {
        roots: certificate.clone(),
        certificate,
        key: Zeroizing::new(key.to_vec()),
        chain: None,
    };
    let mut report = Report::default();
    match plugged_in::assemble(&layout, &files, now, &mut report) {
        Some(ca) if !ca.signer().is_self_issued() => Err(OfflineError::NotRoot(ca.signer().subject_text().into())),
        Some(ca) => Ok(ca),
        None => Err(OfflineError::Unusable(report.errors.into())),
    }
}

/// Makes an intermediate under a root: it signs leaves and no further CA.
pub fn intermediate(
    wanted: &Wanted<'_>,
    cluster: &Cluster<'_>,
    root: &LoadedCa,
    now: Timestamp,
    random: &dyn Random,
) -> Result<Pair, OfflineError> {
    let above = root.signer().validity();
    let not_after = now.plus(wanted.lifetime.seconds());
    if not_after > above.not_after {
        return Err(match above.not_after.since(now) / 86_400 {
            ..=0 => OfflineError::Ending(above.not_after),
            days => OfflineError::Outlives {
                until: above.not_after,
                days,
            },
        });
    }
    let key = key_pair(&wanted.key)?;
    let mut name = root::name(wanted.organization, wanted.common_name.unwrap_or("Intermediate CA"));
    name.push(DnType::LocalityName, cluster.name);
    let mut parameters = root::parameters(&key, name, wanted.lifetime, now, random)?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.subject_alt_names = (cluster.names.iter())
        .map(|name| Ok(SanType::DnsName(name.as_str().try_into()?)))
        .collect::<Result<_, rcgen::Error>>()
        .map_err(RootError::from)?;
    parameters
        .custom_extensions
        .extend(root.signer().key_id().map(authority_key_id));
    let template = parameters.self_signed(&key).map_err(RootError::from)?;
    let validity = Validity {
        not_before: now.plus(-wanted.lifetime.backdate()).max(above.not_before),
        not_after,
    };
    let serial = Serial::from_random(random.bytes16().map_err(RootError::from)?);
    let made = reissue(template.der(), root.signer().subject(), root.key(), validity, serial)?;
    Ok(Pair {
        key: root::key_pem(&key),
        certificate: made.pem().to_owned(),
    })
}

/// The files of a folder to plug in, in the order in which they are named.
pub fn cacerts(intermediate: &Pair, root: &LoadedCa) -> [(&'static str, Zeroizing<Vec<u8>>); 4] {
    let bytes = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
    [
        (layout::ISTIO.certificate, bytes(&intermediate.certificate)),
        (layout::ISTIO.key, bytes(&intermediate.key)),
        (layout::ISTIO.roots, bytes(root.signer().pem())),
        (CHAIN, bytes(&intermediate.certificate)),
    ]
}

/// RFC 5280, 4.2.1.1: how verifiers find the right one of several issuers with one name.
fn authority_key_id(id: &[u8]) -> CustomExtension {
    let content = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            let writer = writer.next();
            writer.write_tagged_implicit(Tag::context(0), |writer| writer.write_bytes(id));
        });
    });
    CustomExtension::from_oid_content(&[2, 5, 29, 35], content)
}

fn key_pair(wanted: &Key<'_>) -> Result<KeyPair, OfflineError> {
    let (place, text) = match wanted {
        Key::Make(algorithm) => return Ok(root::generate(*algorithm)?),
        Key::Given(place, text) => (*place, *text),
    };
    let mut report = Report::default();
    let found = key::find(place, text, &mut report).ok_or_else(|| OfflineError::Unusable(report.errors.into()))?;
    let what = match found.format() {
        KeyFormat::Pkcs8 => None,
        KeyFormat::Pkcs1 => Some("in the older form of RSA keys"),
        KeyFormat::Sec1 => Some("in the older form of elliptic keys"),
    };
    let place = place.to_owned();
    if let Some(what) = what {
        return Err(OfflineError::Form { place, what });
    }
    let refused = |why: String| OfflineError::Refused {
        place: place.clone(),
        why,
    };
    let pair = KeyPair::try_from(found.der()).map_err(|error| refused(error.to_string()))?;
    // The library takes RSA keys that our list does not.
    KeyAlgorithm::read(&pair.subject_public_key_info()).map_err(|error| refused(error.to_string()))?;
    Ok(pair)
}
