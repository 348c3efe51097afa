//! The names that people know TLS by: those of Istio's and Envoy's settings, of OpenShift's profiles and Go, of IANA, and of OpenSSL.
//!
//! Takes: a name. Gives: what it is to the TLS library, or why it is nothing here and what there is. Not here: whether a set of them makes
//! sense (`tls_policy`).

use std::fmt;

use rustls::{CipherSuite, NamedGroup};

use super::tls_provider;

/// The versions of TLS that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    V1_2,
    /// RFC 8446.
    V1_3,
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_2 => "TLS 1.2",
            Self::V1_3 => "TLS 1.3",
        })
    }
}

/// A name that is nothing here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} {why}; there are {available}")]
pub struct TlsNameError {
    name: String,
    why: &'static str,
    available: String,
}

/// What something is called; the first name is the one that we show.
type Table<T> = [(T, &'static [&'static str])];

const VERSIONS: &Table<Option<TlsVersion>> = &[
    (None, &["TLS_AUTO", ""]),
    (Some(TlsVersion::V1_2), &["TLSV1_2", "TLSv1.2", "VersionTLS12", "1.2"]),
    (Some(TlsVersion::V1_3), &["TLSV1_3", "TLSv1.3", "VersionTLS13", "1.3"]),
];

const OLD_VERSIONS: [&str; 8] = [
    "TLSV1_0",
    "TLSV1_1",
    "TLSv1.0",
    "TLSv1.1",
    "VersionTLS10",
    "VersionTLS11",
    "1.0",
    "1.1",
];

/// IANA's name, OpenSSL's, and Go's where that is another.
const SUITES: &Table<CipherSuite> = &[
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        &[
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
        ],
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        &["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"],
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        &[
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            "ECDHE-ECDSA-AES256-GCM-SHA384",
        ],
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        &["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"],
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        &[
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        ],
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        &[
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            "ECDHE-RSA-CHACHA20-POLY1305",
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
        ],
    ),
    // TLS 1.3: OpenShift's profiles list them beside the others. OpenSSL calls them as IANA does.
    (CipherSuite::TLS13_AES_128_GCM_SHA256, &["TLS_AES_128_GCM_SHA256"]),
    (CipherSuite::TLS13_AES_256_GCM_SHA384, &["TLS_AES_256_GCM_SHA384"]),
    (
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        &["TLS_CHACHA20_POLY1305_SHA256"],
    ),
];

/// The names of Envoy and OpenShift's newer profiles, of Go and OpenShift's mesh, and of OpenSSL.
const GROUPS: &Table<NamedGroup> = &[
    (NamedGroup::X25519MLKEM768, &["X25519MLKEM768"]),
    (NamedGroup::X25519, &["X25519"]),
    (
        NamedGroup::secp256r1,
        &["P-256", "CurveP256", "P256", "secp256r1", "prime256v1"],
    ),
    (NamedGroup::secp384r1, &["P-384", "CurveP384", "P384", "secp384r1"]),
    (NamedGroup::secp521r1, &["P-521", "CurveP521", "P521", "secp521r1"]),
];

/// The version of this name; `None` for the default.
pub fn version(name: &str) -> Result<Option<TlsVersion>, TlsNameError> {
    look_up(
        VERSIONS,
        name,
        |_| true,
        |name| match OLD_VERSIONS.iter().any(|old| old.eq_ignore_ascii_case(name)) {
            true => "is too old, nobody may speak it any more (RFC 8996)",
            false => "is not a version of TLS",
        },
    )
}

/// The cipher suite of this name.
pub fn cipher_suite(name: &str) -> Result<CipherSuite, TlsNameError> {
    let provider = tls_provider();
    let has = |suite: CipherSuite| provider.cipher_suites.iter().any(|known| known.suite() == suite);
    look_up(SUITES, name, has, why_no_suite)
}

/// The key-exchange group of this name.
pub fn group(name: &str) -> Result<NamedGroup, TlsNameError> {
    let provider = tls_provider();
    let has = |group: NamedGroup| provider.kx_groups.iter().any(|known| known.name() == group);
    look_up(GROUPS, name, has, |_| "is not a key-exchange group of this build")
}

/// What people call this suite.
pub fn name_of(suite: CipherSuite) -> &'static str {
    let row = SUITES.iter().find(|(known, _)| *known == suite);
    row.map_or("a suite without a name", |(_, names)| names[0])
}

fn look_up<T: Copy>(
    table: &Table<T>,
    name: &str,
    has: impl Fn(T) -> bool,
    why: impl FnOnce(&str) -> &'static str,
) -> Result<T, TlsNameError> {
    let there = || table.iter().filter(|(value, _)| has(*value));
    // Istio itself writes TLSV1_2, Envoy TLSv1_2.
    let found = there().find(|(_, names)| names.iter().any(|known| known.eq_ignore_ascii_case(name)));
    found.map(|(value, _)| *value).ok_or_else(|| TlsNameError {
        name: name.to_owned(),
        why: why(name),
        available: there().map(|(_, names)| names[0]).collect::<Vec<_>>().join(", "),
    })
}

/// Names of suites say what they are made of.
fn why_no_suite(name: &str) -> &'static str {
    let name = name.to_ascii_uppercase();
    let has = |part: &str| name.contains(part);
    let begins = |parts: &[&str]| parts.iter().any(|part| name.starts_with(part));
    if has("3DES") || has("DES-CBC3") {
        "is 3DES, which HTTP/2 forbids (RFC 9113, appendix A)"
    } else if begins(&["TLS_RSA_", "AES128-", "AES256-"]) {
        "exchanges keys by RSA, without forward secrecy, which HTTP/2 forbids (RFC 9113, appendix A)"
    } else if has("_CBC_") || (begins(&["ECDHE-"]) && !has("GCM") && !has("CHACHA20") && !has("CCM")) {
        "is a CBC suite, which HTTP/2 forbids (RFC 9113, appendix A)"
    } else if begins(&["DHE-", "TLS_DHE_"]) {
        "exchanges keys over a finite field, which this build does not"
    } else {
        "is not a cipher suite of this build"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_understood_in_any_case() {
        for (version_of, names) in VERSIONS {
            for name in *names {
                assert_eq!(version(name), Ok(*version_of), "{name}");
            }
        }
        assert_eq!(version("TLSv1_2"), Ok(Some(TlsVersion::V1_2)));
        assert_eq!(version("TLSv1_3"), Ok(Some(TlsVersion::V1_3)));
        for (suite, names) in SUITES {
            for name in *names {
                assert_eq!(cipher_suite(name), Ok(*suite), "{name}");
            }
            assert_eq!(name_of(*suite), names[0]);
        }
        for (name, expected) in [
            ("X25519", NamedGroup::X25519),
            ("x25519", NamedGroup::X25519),
            ("P-256", NamedGroup::secp256r1),
            ("CurveP256", NamedGroup::secp256r1),
            ("prime256v1", NamedGroup::secp256r1),
            ("CurveP384", NamedGroup::secp384r1),
            ("secp384r1", NamedGroup::secp384r1),
        ] {
            assert_eq!(group(name), Ok(expected), "{name}");
        }
    }

    /// IANA's names are those of the TLS library, but for its own prefix for TLS 1.3.
    #[test]
    fn the_table_agrees_with_the_library_and_holds_all_of_it() {
        for (suite, names) in SUITES {
            assert_eq!(suite.as_str().unwrap().replace("TLS13_", "TLS_"), names[0]);
        }
        for suite in &tls_provider().cipher_suites {
            assert!(SUITES.iter().any(|(known, _)| *known == suite.suite()), "{suite:?}");
        }
        for there in &tls_provider().kx_groups {
            assert!(GROUPS.iter().any(|(known, _)| *known == there.name()), "{there:?}");
        }
    }

    #[test]
    fn no_name_means_two_things() {
        fn alone<T>(table: &Table<T>) {
            let all: Vec<String> = table
                .iter()
                .flat_map(|(_, names)| names.iter().map(|name| name.to_ascii_lowercase()))
                .collect();
            let distinct: std::collections::BTreeSet<&String> = all.iter().collect();
            assert_eq!(all.len(), distinct.len());
        }
        alone(VERSIONS);
        alone(SUITES);
        alone(GROUPS);
    }

    #[test]
    fn what_is_not_there_is_refused_with_the_reason_and_with_what_there_is() {
        for (name, why) in [
            ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "is a CBC suite"),
            ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "is a CBC suite"),
            ("ECDHE-ECDSA-AES128-SHA256", "is a CBC suite"),
            ("ECDHE-RSA-AES256-SHA", "is a CBC suite"),
            ("TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", "is 3DES"),
            ("TLS_RSA_WITH_3DES_EDE_CBC_SHA", "is 3DES"),
            ("DES-CBC3-SHA", "is 3DES"),
            ("TLS_RSA_WITH_AES_128_GCM_SHA256", "exchanges keys by RSA"),
            ("AES256-GCM-SHA384", "exchanges keys by RSA"),
            ("DHE-RSA-AES128-GCM-SHA256", "exchanges keys over a finite field"),
            (
                "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384",
                "exchanges keys over a finite field",
            ),
            ("ECDHE-ECDSA-AES128-CCM", "is not a cipher suite of this build"),
            ("NULL", "is not a cipher suite of this build"),
            ("", "is not a cipher suite of this build"),
        ] {
            let said = cipher_suite(name).unwrap_err().to_string();
            assert!(said.starts_with(&format!("{name:?} {why}")), "{said}");
            assert!(
                said.contains("; there are TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "),
                "{said}"
            );
        }
        for name in ["CurveP521", "P-521", "X25519MLKEM768", "X448", ""] {
            assert_eq!(
                group(name).unwrap_err().to_string(),
                format!("{name:?} is not a key-exchange group of this build; there are X25519, P-256, P-384")
            );
        }
        for (name, why) in [
            ("VersionTLS10", "is too old, nobody may speak it any more (RFC 8996)"),
            ("TLSv1_1", "is too old, nobody may speak it any more (RFC 8996)"),
            ("TLSv1_4", "is not a version of TLS"),
            ("SSLv3", "is not a version of TLS"),
        ] {
            assert_eq!(
                version(name).unwrap_err().to_string(),
                format!("{name:?} {why}; there are TLS_AUTO, TLSV1_2, TLSV1_3")
            );
        }
    }
}
