//! The way to a CA: TLS as Istio's clients speak it, or plaintext.

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::Channel;

use crate::platform::crypto::{self, RootsError};

/// Where a CA is, and how to speak to it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    host: String,
    address: String,
    connection: Connection,
}

/// How to speak to a CA.
#[derive(Clone)]
pub enum Connection {
    /// TLS, with the name that the CA must prove.
    Tls {
        /// What is verified, and whether we show a certificate.
        config: Arc<ClientConfig>,
        /// The CA's name.
        name: ServerName<'static>,
    },
    /// In the clear: the token can be read on the way.
    Plaintext,
}

/// A certificate to show to the CA, with its key.
pub struct ClientIdentity<'a> {
    /// PEM, leaf first.
    pub chain: &'a [u8],
    /// PEM.
    pub key: &'a [u8],
}

/// Why no connection can even be tried.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not `host:port`.
    #[error("{0:?} is not host:port, such as istiod.istio-system.svc:15012")]
    Address(String),
    /// Not a name.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    Name(String),
    /// The roots cannot be used.
    #[error("the root certificates: {0}")]
    Roots(#[from] RootsError),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// The client certificate cannot be used.
    #[error("the client certificate: {0}")]
    Client(String),
}

/// Why there is no connection: nobody heard the token yet.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The name leads nowhere.
    #[error("the name in {address} cannot be resolved: {why}")]
    Name {
        /// The CA.
        address: String,
        /// What the host said.
        why: std::io::Error,
    },
    /// Nobody listens, or nobody can be reached.
    #[error("cannot connect to {address}: {why}")]
    Unreachable {
        /// The CA.
        address: String,
        /// What the host said.
        why: std::io::Error,
    },
    /// Its certificate is under another root, or for another name, or not valid now.
    #[error("the server at {address} does not prove to be the CA: {}", proof(why))]
    Unproven {
        /// The CA.
        address: String,
        /// The finding.
        why: rustls::CertificateError,
    },
    /// No TLS, or not as we speak it.
    #[error("TLS with {address} failed: {why}; is that the CA's port for TLS?")]
    Tls {
        /// The CA.
        address: String,
        /// The finding.
        why: std::io::Error,
    },
}

/// What is wrong with a server's certificate, and what to do.
fn proof(why: &rustls::CertificateError) -> String {
    match why {
        rustls::CertificateError::UnknownIssuer | rustls::CertificateError::BadSignature => {
            format!("its certificate is under none of the given roots ({why}); is that file the root of this CA?")
        }
        rustls::CertificateError::NotValidForName | rustls::CertificateError::NotValidForNameContext { .. } => {
            format!("{why}; --server-name says which name is expected")
        }
        _ => why.to_string(),
    }
}

impl ConnectionError {
    /// Whether the same may work a moment later: a server may be about to start, a certificate will not become another.
    pub fn is_passing(&self) -> bool {
        !matches!(self, Self::Unproven { .. })
    }
}

impl Connection {
    /// TLS to a server that proves `name` with a certificate under one of `roots` (PEM). ALPN is `h2` and nothing else, as gRPC has it.
    pub fn tls(roots: &[u8], name: &str, client: Option<ClientIdentity<'_>>) -> Result<Self, ConnectError> {
        let builder = ClientConfig::builder_with_provider(crypto::tls_provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| ConnectError::Tls(error.to_string()))?
            .with_root_certificates(crypto::roots(roots)?);
        let mut config = match client {
            None => builder.with_no_client_auth(),
            Some(client) => {
                let refuse = |error: String| ConnectError::Client(error);
                let chain = crypto::certificates(client.chain).map_err(|error| refuse(error.to_string()))?;
                let key = PrivateKeyDer::from_pem_slice(client.key).map_err(|error| refuse(error.to_string()))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| refuse(error.to_string()))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        let name = ServerName::try_from(name.to_owned()).map_err(|_| ConnectError::Name(name.to_owned()))?;
        Ok(Self::Tls {
            config: Arc::new(config),
            name,
        })
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tls { name, .. } => write!(f, "Tls({name:?})"),
            Self::Plaintext => f.write_str("Plaintext"),
        }
    }
}

impl Endpoint {
    /// The host of `host:port`: by default the name that the server must prove. An IPv6 address stands in brackets.
    pub fn host(address: &str) -> Result<&str, ConnectError> {
        let refuse = || ConnectError::Address(address.to_owned());
        let (host, port) = address.rsplit_once(':').ok_or_else(refuse)?;
        let host = match host.strip_prefix('[') {
            Some(host) => host.strip_suffix(']').ok_or_else(refuse)?,
            None if host.contains([':', '/']) => return Err(refuse()),
            None => host,
        };
        match port.parse::<u16>() {
            Ok(1..) if !host.is_empty() => Ok(host),
            _ => Err(refuse()),
        }
    }

    /// A CA at `host:port`.
    pub fn new(address: &str, connection: Connection) -> Result<Self, ConnectError> {
        Ok(Self {
            host: Self::host(address)?.to_owned(),
            address: address.to_owned(),
            connection,
        })
    }

    /// Where it is, as it was given.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether TLS is spoken.
    pub fn speaks_tls(&self) -> bool {
        matches!(self.connection, Connection::Tls { .. })
    }

    /// A channel that connects at its first call, and again after a failure.
    pub fn channel(&self) -> Result<Channel, ConnectError> {
        let scheme = match self.connection {
            Connection::Tls { .. } => "https",
            Connection::Plaintext => "http",
        };
        let endpoint = tonic::transport::Endpoint::from_shared(format!("{scheme}://{}", self.address))
            .map_err(|_| ConnectError::Address(self.address.clone()))?;
        let this = Arc::new(self.clone());
        Ok(
            endpoint.connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| {
                let this = Arc::clone(&this);
                async move { this.open().await.map(TokioIo::new) }
            })),
        )
    }

    async fn open(&self) -> Result<Box<dyn Stream>, ConnectionError> {
        let address = || self.address.clone();
        let unreachable = |why| ConnectionError::Unreachable {
            address: address(),
            why,
        };
        let port = self.address.rsplit(':').next().and_then(|port| port.parse().ok());
        let resolved: Vec<_> = tokio::net::lookup_host((self.host.as_str(), port.unwrap_or_default()))
            .await
            .map_err(|why| ConnectionError::Name {
                address: address(),
                why,
            })?
            .collect();
        let stream = TcpStream::connect(&resolved[..]).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let Connection::Tls { config, name } = &self.connection else {
            return Ok(Box::new(stream));
        };
        let stream = TlsConnector::from(Arc::clone(config))
            .connect(name.clone(), stream)
            .await
            .map_err(|why| match why.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(rustls::Error::InvalidCertificate(finding)) => ConnectionError::Unproven {
                    address: address(),
                    why: finding.clone(),
                },
                _ => ConnectionError::Tls {
                    address: address(),
                    why,
                },
            })?;
        // gRPC's Go library refuses such servers too; better to learn it here.
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(ConnectionError::Tls {
                address: address(),
                why: std::io::Error::other("the server does not speak HTTP/2 (no ALPN h2)"),
            });
        }
        Ok(Box::new(stream))
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(
            Endpoint::host("istiod.istio-system.svc:15012").unwrap(),
            "istiod.istio-system.svc"
        );
        assert_eq!(Endpoint::host("[::1]:15012").unwrap(), "::1");
        for bad in [
            "",
            "a",
            ":1",
            "a:",
            "a:0",
            "a:65536",
            "::1:15012",
            "https://a:1",
            "[::1:1",
            "a/b:1",
        ] {
            assert!(Endpoint::host(bad).is_err(), "{bad}");
        }
    }
}
