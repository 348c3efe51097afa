//! Names under which a server is reached: the subject alternative names of our own serving certificate.

use std::fmt;
use std::net::IpAddr;

/// A DNS name or an IP address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServingName {
    /// A lower-case DNS name.
    Dns(String),
    /// An address; clients that dial an address look for it here, never among the DNS names.
    Ip(IpAddr),
}

/// Not a name for a server.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is neither a DNS name nor an IP address")]
pub struct ServingNameError(String);

impl std::str::FromStr for ServingName {
    type Err = ServingNameError;

    fn from_str(text: &str) -> Result<Self, ServingNameError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        let name = rustls_pki_types::DnsName::try_from(text)
            .map_err(|_| ServingNameError(text.chars().take(300).collect()))?;
        Ok(Self::Dns(name.as_ref().to_ascii_lowercase()))
    }
}

impl fmt::Display for ServingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_addresses() {
        for (text, wanted) in [
            (
                "istiod.istio-system.svc",
                ServingName::Dns("istiod.istio-system.svc".into()),
            ),
            (
                "ISTIOD.istio-system.svc",
                ServingName::Dns("istiod.istio-system.svc".into()),
            ),
            ("localhost", ServingName::Dns("localhost".into())),
            ("10.0.0.1", ServingName::Ip([10, 0, 0, 1].into())),
            ("fd00::1", ServingName::Ip([0xfd00, 0, 0, 0, 0, 0, 0, 1].into())),
        ] {
            assert_eq!(text.parse(), Ok(wanted.clone()), "{text}");
            assert_eq!(wanted.to_string(), text.to_ascii_lowercase());
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            " ",
            "a b",
            "https://istiod",
            "istiod:15012",
            "[fd00::1]",
            "10.0.0.256",
            "10.0.0.1/8",
            "*.istio-system.svc",
            "-istiod",
            "a..b",
            "straße",
        ] {
            assert!(text.parse::<ServingName>().is_err(), "{text:?}");
        }
        let long = "x".repeat(100_000).parse::<ServingName>().unwrap_err().to_string();
        assert!(long.len() < 400, "what an error repeats stays short");
    }
}
