//! What will it say? The exact bytes to be signed, written and judged before the key is touched.
//!
//! Takes: whom to certify ([`Grant`], or the names of our own server), their checked key, the CA's snapshot, the time and a serial.
//! Gives: a [`Plan`]: a linted TBSCertificate (RFC 5280, 4.1.2). The issuer is the signer's subject byte for byte, since verifiers compare
//! names and some companies' names do not survive being parsed and written again.

mod lint;

use std::sync::Arc;

use yasna::{DERWriter, DERWriterSeq, Tag};

use super::authorize::Grant;
use super::csr::CheckedCsr;
use crate::authority::CaSnapshot;
use crate::model::{Identity, KeyAlgorithm, Kind, Lifetime, Serial, ServingName, Timestamp, Validity};
use crate::platform::crypto;

/// Lifetimes that may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What a request for zero or less gets. istiod: 24 h.
    pub default: Lifetime,
    /// More is refused, as istiod does. istiod: 90 days.
    pub maximum: Lifetime,
    /// Less is refused: clients renew at half of it and would call without end.
    pub minimum: Lifetime,
}

/// Whom a certificate names.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A workload, on a caller's behalf.
    Workload(Box<Grant>),
    /// Our own server.
    Server(Vec<ServingName>),
}

/// A certificate that is ready to be signed: its bytes are final and linted.
#[derive(Debug)]
pub struct Plan {
    to_be_signed: Vec<u8>,
    facts: Facts,
    ca: Arc<CaSnapshot>,
}

impl Plan {
    /// The bytes, what they say, and whose key is to sign them.
    pub(super) fn into_parts(self) -> (Vec<u8>, Facts, Arc<CaSnapshot>) {
        (self.to_be_signed, self.facts, self.ca)
    }
}

/// What a certificate says, for those who log or count it.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Whom it names.
    pub subject: Subject,
    /// Its serial number.
    pub serial: Serial,
    /// From when until when.
    pub validity: Validity,
    /// It ends earlier than asked for, with a certificate above it.
    pub clamped: bool,
    /// Its key's algorithm.
    pub key: KeyAlgorithm,
}

/// Under what, when, and with which number a certificate is planned.
#[derive(Debug)]
pub struct Circumstances {
    /// The CA, as the whole request sees it.
    pub ca: Arc<CaSnapshot>,
    /// The time of the request.
    pub now: Timestamp,
    /// The certificate's serial number.
    pub serial: Serial,
}

/// Why no certificate can be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// More than the maximum. istiod's words, which its users know.
    #[error("requested TTL {requested} s is greater than the max allowed TTL {maximum} s")]
    TooLong {
        /// Asked for, in seconds.
        requested: i64,
        /// Allowed, in seconds.
        maximum: i64,
    },
    /// Less than the minimum.
    #[error(
        "requested TTL {requested} s is less than the min allowed TTL {minimum} s: its owner would renew without end"
    )]
    TooShort {
        /// Asked for, in seconds.
        requested: i64,
        /// Allowed, in seconds.
        minimum: i64,
    },
    /// A certificate above has too little life left.
    #[error("the CA's certificates are valid from {} to {}: too little is left to issue under them; renew the signing certificate", validity.not_before, validity.not_after)]
    SignerEnding {
        /// What every certificate above has in common.
        validity: Validity,
    },
    /// What was written does not hold what it should; a fault of ours.
    #[error("the planned certificate failed its lint: {0}")]
    Lint(#[from] lint::Finding),
}

impl PlanError {
    /// Whose fault.
    pub fn kind(&self) -> Kind {
        match self {
            Self::TooLong { .. } | Self::TooShort { .. } => Kind::Invalid,
            Self::SignerEnding { .. } => Kind::Unavailable,
            Self::Lint(_) => Kind::Internal,
        }
    }

    /// The word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "ttl_too_long",
            Self::TooShort { .. } => "ttl_too_short",
            Self::SignerEnding { .. } => "signer_ending",
            Self::Lint(_) => "lint",
        }
    }
}

/// Plans a workload's certificate. `requested` is the wanted lifetime in seconds, zero or less for the default.
pub fn workload(
    grant: Grant,
    csr: &CheckedCsr,
    requested: i64,
    profile: &Profile,
    circumstances: Circumstances,
) -> Result<Plan, PlanError> {
    let lifetime = profile.lifetime(requested)?;
    let subject = Subject::Workload(Box::new(grant));
    plan(
        subject,
        csr.public_key_info(),
        csr.key(),
        lifetime,
        profile,
        circumstances,
    )
}

/// Plans the certificate of our own server, for a key that the process made itself.
pub fn server(
    names: Vec<ServingName>,
    public_key_info: &[u8],
    key: KeyAlgorithm,
    lifetime: Lifetime,
    profile: &Profile,
    circumstances: Circumstances,
) -> Result<Plan, PlanError> {
    plan(
        Subject::Server(names),
        public_key_info,
        key,
        lifetime,
        profile,
        circumstances,
    )
}

impl Profile {
    /// Whether anything can be issued under certificates of this validity: all of them must be valid now, and for as long as the shortest certificate lives.
    pub fn check_signer(&self, validity: Validity, now: Timestamp) -> Result<(), PlanError> {
        match validity.contains(now) && validity.not_after.since(now) >= self.minimum.seconds() {
            true => Ok(()),
            false => Err(PlanError::SignerEnding { validity }),
        }
    }

    fn lifetime(&self, requested: i64) -> Result<Lifetime, PlanError> {
        if requested <= 0 {
            return Ok(self.default);
        }
        let (minimum, maximum) = (self.minimum.seconds(), self.maximum.seconds());
        match Lifetime::from_seconds(requested) {
            Some(lifetime) if lifetime < self.minimum => Err(PlanError::TooShort { requested, minimum }),
            Some(lifetime) if lifetime <= self.maximum => Ok(lifetime),
            _ => Err(PlanError::TooLong { requested, maximum }),
        }
    }
}

fn plan(
    subject: Subject,
    public_key_info: &[u8],
    key: KeyAlgorithm,
    lifetime: Lifetime,
    profile: &Profile,
    circumstances: Circumstances,
) -> Result<Plan, PlanError> {
    let Circumstances { ca, now, serial } = circumstances;
    let above = ca.validity();
    profile.check_signer(above, now)?;
    let wanted = now.plus(lifetime.seconds());
    let not_after = wanted.min(above.not_after);
    let ending = || PlanError::SignerEnding { validity: above };
    let lifetime = Lifetime::from_seconds(not_after.since(now)).ok_or_else(ending)?;
    let not_before = now.plus(-lifetime.backdate()).max(above.not_before);
    let facts = Facts {
        subject,
        serial,
        validity: Validity { not_before, not_after },
        clamped: not_after < wanted,
        key,
    };
    let to_be_signed = write(&facts, public_key_info, &ca);
    lint::lint(&to_be_signed, &facts, public_key_info, &ca)?;
    Ok(Plan {
        to_be_signed,
        facts,
        ca,
    })
}

/// The TBSCertificate. Extensions stand in the order in which Go writes them, as istiod's certificates have them.
fn write(facts: &Facts, public_key_info: &[u8], ca: &CaSnapshot) -> Vec<u8> {
    let names = match &facts.subject {
        Subject::Workload(grant) => Names::Identity(grant.identity()),
        Subject::Server(names) => Names::Serving(names),
    };
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_tagged(Tag::context(0), |writer| writer.write_u8(2));
            writer.next().write_bigint_bytes(facts.serial.as_bytes(), true);
            writer.next().write_der(ca.key().signature_algorithm().der());
            writer.next().write_der(ca.signer().subject());
            writer.next().write_sequence(|writer| {
                write_time(writer.next(), facts.validity.not_before);
                write_time(writer.next(), facts.validity.not_after);
            });
            writer.next().write_sequence(|_| ()); // an empty subject
            writer.next().write_der(public_key_info);
            writer.next().write_tagged(Tag::context(3), |writer| {
                writer.write_sequence(|writer| write_extensions(writer, facts.key, names, public_key_info, ca));
            });
        });
    })
}

enum Names<'a> {
    Identity(&'a Identity),
    Serving(&'a [ServingName]),
}

/// The object identifiers below id-ce (2.5.29), by their last arc.
pub(super) mod extension {
    pub const SUBJECT_KEY_ID: u8 = 14;
    pub const KEY_USAGE: u8 = 15;
    pub const SUBJECT_ALTERNATIVE_NAME: u8 = 17;
    pub const BASIC_CONSTRAINTS: u8 = 19;
    pub const AUTHORITY_KEY_ID: u8 = 35;
    pub const EXTENDED_KEY_USAGE: u8 = 37;
}

/// The extended key usages (RFC 5280, 4.2.1.12): a workload is server and client; our own server is reached as one and never calls.
const SERVER_AND_CLIENT: [u8; 22] = [
    0x30, 20, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2,
];
const SERVER: [u8; 12] = [0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1];

fn write_extensions(
    writer: &mut DERWriterSeq<'_>,
    key: KeyAlgorithm,
    names: Names<'_>,
    public_key_info: &[u8],
    ca: &CaSnapshot,
) {
    // keyEncipherment is for RSA key transport alone (RFC 8813, 3; RFC 8410, 5).
    let usage: &[u8] = if matches!(key, KeyAlgorithm::Rsa(_)) {
        &[3, 2, 5, 0xa0]
    } else {
        &[3, 2, 7, 0x80]
    };
    write_extension(writer, extension::KEY_USAGE, true, usage);
    let purposes: &[u8] = match names {
        Names::Identity(_) => &SERVER_AND_CLIENT,
        Names::Serving(_) => &SERVER,
    };
    write_extension(writer, extension::EXTENDED_KEY_USAGE, false, purposes);
    write_extension(writer, extension::BASIC_CONSTRAINTS, true, &[0x30, 0]);
    let key_id = yasna::construct_der(|writer| writer.write_bytes(&key_id(public_key_info)));
    write_extension(writer, extension::SUBJECT_KEY_ID, false, &key_id);
    if let Some(id) = ca.signer().key_id() {
        let authority = sequence(|writer| {
            writer
                .next()
                .write_tagged_implicit(Tag::context(0), |writer| writer.write_bytes(id));
        });
        write_extension(writer, extension::AUTHORITY_KEY_ID, false, &authority);
    }
    let alternative = sequence(|writer| match names {
        Names::Identity(identity) => write_name(writer, 6, identity.to_string().as_bytes()),
        Names::Serving(names) => names.iter().for_each(|name| match name {
            ServingName::Dns(name) => write_name(writer, 2, name.as_bytes()),
            ServingName::Ip(std::net::IpAddr::V4(address)) => write_name(writer, 7, &address.octets()),
            ServingName::Ip(std::net::IpAddr::V6(address)) => write_name(writer, 7, &address.octets()),
        }),
    });
    // Critical, since the subject is empty (RFC 5280, 4.2.1.6).
    write_extension(writer, extension::SUBJECT_ALTERNATIVE_NAME, true, &alternative);
}

/// A whole SEQUENCE. The library's `construct_der_seq` writes its members alone.
pub(super) fn sequence(content: impl FnOnce(&mut DERWriterSeq<'_>)) -> Vec<u8> {
    yasna::construct_der(|writer| writer.write_sequence(content))
}

fn write_extension(writer: &mut DERWriterSeq<'_>, arc: u8, critical: bool, content: &[u8]) {
    writer.next().write_sequence(|writer| {
        writer.next().write_der(&[6, 3, 0x55, 0x1d, arc]);
        if critical {
            writer.next().write_bool(true);
        }
        writer.next().write_bytes(content);
    });
}

fn write_name(writer: &mut DERWriterSeq<'_>, tag: u64, content: &[u8]) {
    writer
        .next()
        .write_tagged_implicit(Tag::context(tag), |writer| writer.write_bytes(content));
}

/// UTCTime through 2049, GeneralizedTime from 2050 (RFC 5280, 4.1.2.5).
fn write_time(writer: DERWriter<'_>, time: Timestamp) {
    let time = time::OffsetDateTime::from_unix_timestamp(time.unix()).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let year = time.year().unsigned_abs();
    let pairs = [
        year / 100,
        year % 100,
        u32::from(u8::from(time.month())),
        u32::from(time.day()),
        u32::from(time.hour()),
        u32::from(time.minute()),
        u32::from(time.second()),
    ];
    let mut der = [0x18, 15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'Z'];
    for (place, pair) in der[2..16].chunks_mut(2).zip(pairs) {
        place.copy_from_slice(&[b'0' + (pair / 10) as u8, b'0' + (pair % 10) as u8]);
    }
    if (1950..2050).contains(&year) {
        // The same without the century.
        der[2..4].copy_from_slice(&[0x17, 13]);
        writer.write_der(&der[2..]);
    } else {
        writer.write_der(&der);
    }
}

/// The subject key identifier of a key.
pub(super) fn key_id(public_key_info: &[u8]) -> [u8; 20] {
    let bits = KeyAlgorithm::read(public_key_info).map_or(&[][..], |(_, bits)| bits);
    crypto::key_identifier(bits)
}

#[cfg(test)]
mod tests;
