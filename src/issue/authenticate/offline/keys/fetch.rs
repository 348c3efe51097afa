//! Brings the document that an issuer's keys are published in: from a file, over HTTP, or from the API server.
//!
//! Whoever answers here decides who every workload is: TLS unless it is switched off explicitly, no redirects (they could lead to anyone),
//! no proxies from the environment, and bounds on size and time, since the other side may be slow or broken.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;
use http::header::{ACCEPT, LOCATION};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::{Body, Bytes};
use hyper_rustls::{ConfigBuilderExt, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use tokio::runtime::Handle;

use super::KeySet;
use super::bundle::Bundle;
use crate::cluster::{ApiServer, ConnectError};
use crate::issue::authenticate::offline::{HttpOptions, IssuerConfig, KeySource};
use crate::platform::crypto::{RootsError, tls_provider};
use crate::platform::files::{self, FileError};

/// Largest document.
pub(super) const MOST_BYTES: usize = 1024 * 1024;
/// Longest time for all of one fetch.
const LONGEST: Duration = Duration::from_secs(10);

/// Why a document could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Too slow.
    #[error("fetching the keys took longer than {} s", LONGEST.as_secs())]
    TooSlow,
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Where the discovery document points.
    #[error("the discovery document's jwks_uri: {0}")]
    Uri(#[from] UriError),
    /// No credentials for the API server.
    #[error(transparent)]
    Credentials(#[from] ConnectError),
    /// A redirect.
    #[error(
        "{uri} answered with a redirect to {to:?}, and redirects are not followed: configure the address it leads to, if you trust it"
    )]
    Redirect {
        /// What was asked.
        uri: Uri,
        /// Where it points.
        to: String,
    },
    /// Another status than 200.
    #[error("{uri} answered with status {status}")]
    Status {
        /// What was asked.
        uri: Uri,
        /// The answer.
        status: http::StatusCode,
    },
    /// Too large.
    #[error("the answer of {uri} is larger than {MOST_BYTES} bytes")]
    TooLarge {
        /// What was asked.
        uri: Uri,
    },
    /// No answer.
    #[error("cannot get {uri}: {why}")]
    Transport {
        /// What was asked.
        uri: Uri,
        /// The finding.
        why: String,
    },
    /// No certificates to trust.
    #[error("the CA bundle {} cannot be used: {why}", path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// The finding.
        why: RootsError,
    },
    /// TLS cannot be set up.
    #[error("TLS towards the issuer cannot be set up: {0}")]
    Tls(String),
    /// The discovery document cannot be read.
    #[error("{uri} is not an OpenID discovery document: {why}")]
    Discovery {
        /// What was asked.
        uri: Uri,
        /// The finding.
        why: String,
    },
    /// The discovery document is another issuer's.
    #[error(
        "the discovery document at {uri} is of issuer {found:?}: that must be the configured issuer, to the letter"
    )]
    OtherIssuer {
        /// What was asked.
        uri: Uri,
        /// Whose it is.
        found: String,
    },
}

impl FetchError {
    /// The kind of failure, without any path, address or text of others.
    pub fn public(&self) -> &'static str {
        match self {
            Self::TooSlow => "the keys of a token issuer could not be fetched in time",
            Self::File(_) => "a file with the keys of a token issuer, or with the roots to reach it, cannot be read",
            Self::Uri(_) | Self::OtherIssuer { .. } | Self::Discovery { .. } => {
                "the discovery document of a token issuer cannot be used"
            }
            Self::Redirect { .. } => "a token issuer answers with a redirect in place of its keys",
            Self::Status { .. } => "a token issuer answers with an HTTP error in place of its keys",
            Self::TooLarge { .. } => "the answer of a token issuer is too large",
            Self::Transport { .. } => "a token issuer was not reached",
            Self::Credentials(_) => "there are no credentials for the API server that has the keys of its tokens",
            Self::Bundle { .. } | Self::Tls(_) => "TLS towards a token issuer cannot be set up",
        }
    }
}

/// Why keys are not fetched from an address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UriError {
    /// Not a URI of the web.
    #[error("{0:?} is not an https address; write it as https://host/path")]
    Shape(String),
    /// A user.
    #[error("it holds a user name or password, which would end up in logs; leave that out")]
    User,
    /// A fragment, which no server ever sees; `Uri` drops it silently.
    #[error("{0:?} has a fragment; leave out # and what follows")]
    Fragment(String),
    /// Plain HTTP.
    #[error(
        "{0:?} is not protected: whoever sits on the way can make any identity; use https, or set allowHttp: true for tests"
    )]
    PlainHttp(String),
    /// OpenID Connect Discovery 1.0, 3.
    #[error("{0:?} has a query, and an issuer to discover keys at has none; give jwksUri")]
    Query(String),
}

/// Checks the URI of a key set.
pub fn checked_uri(text: &str, allow_http: bool) -> Result<Uri, UriError> {
    let shape = || UriError::Shape(text.to_owned());
    let uri: Uri = text.parse().map_err(|_| shape())?;
    let authority = uri.authority().ok_or_else(shape)?;
    if authority.as_str().contains('@') {
        return Err(UriError::User);
    }
    if authority.host().is_empty() {
        return Err(shape());
    }
    if text.contains('#') {
        return Err(UriError::Fragment(text.to_owned()));
    }
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if allow_http => Ok(uri),
        Some("http") => Err(UriError::PlainHttp(text.to_owned())),
        _ => Err(shape()),
    }
}

/// Where an issuer's discovery document is (OpenID Connect Discovery 1.0, 4.1).
pub fn discovery_uri(issuer: &str, allow_http: bool) -> Result<Uri, UriError> {
    if checked_uri(issuer, allow_http)?.query().is_some() {
        return Err(UriError::Query(issuer.to_owned()));
    }
    let base = issuer.strip_suffix('/').unwrap_or(issuer);
    checked_uri(&format!("{base}/.well-known/openid-configuration"), allow_http)
}

/// Whether a file holds keys that tokens can be verified with, as a refresh will read it.
pub fn check_key_file(path: &Path) -> Result<(), String> {
    let document = files::read(path, MOST_BYTES as u64).map_err(|error| error.to_string())?;
    match KeySet::parse(&document) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

#[derive(serde::Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// Fetches the keys of one issuer.
pub struct Fetcher {
    issuer: String,
    source: KeySource,
    /// Who is trusted at those addresses; nothing for those that the host trusts.
    bundle: Option<Bundle>,
}

impl Fetcher {
    /// For this issuer.
    pub fn new(config: &IssuerConfig) -> Self {
        Self {
            issuer: config.issuer.clone(),
            source: config.keys.clone(),
            bundle: config.keys.ca_file().map(Bundle::new),
        }
    }

    /// The document, now.
    pub async fn fetch(&self) -> Result<Vec<u8>, FetchError> {
        tokio::time::timeout(LONGEST, self.bring())
            .await
            .map_err(|_| FetchError::TooSlow)?
    }

    async fn bring(&self) -> Result<Vec<u8>, FetchError> {
        match &self.source {
            KeySource::File(path) => Ok(read_file(path.clone()).await?),
            KeySource::JwksUri(uri, http) => self.get(uri.clone(), http).await,
            KeySource::Discovery(uri, http) => {
                let uri = uri.clone();
                let document = self.get(uri.clone(), http).await?;
                self.get(self.key_set_of(&document, uri, http)?, http).await
            }
            // Anew each time, like everything else here: a pod's token changes every hour.
            KeySource::ApiServer(credentials) => {
                let server = ApiServer::connect(credentials, Handle::current()).await?;
                from_api_server(&server.client()).await
            }
        }
    }

    fn key_set_of(&self, document: &[u8], uri: Uri, http: &HttpOptions) -> Result<Uri, FetchError> {
        let document: Discovery = match serde_json::from_slice(document) {
            Ok(document) => document,
            Err(error) => {
                return Err(FetchError::Discovery {
                    uri,
                    why: error.to_string(),
                });
            }
        };
        // OpenID Connect Discovery 1.0, 4.3: otherwise one issuer could speak for another.
        if document.issuer != self.issuer {
            return Err(FetchError::OtherIssuer {
                uri,
                found: document.issuer.chars().take(300).collect(),
            });
        }
        Ok(checked_uri(&document.jwks_uri, http.allow_http)?)
    }

    /// A client for one use: a bundle that changed counts at the next fetch, and a fetch every few minutes needs no open connection.
    async fn get(&self, uri: Uri, options: &HttpOptions) -> Result<Vec<u8>, FetchError> {
        let config = tls_config(self.bundle.as_ref()).await?;
        let builder = HttpsConnectorBuilder::new().with_tls_config(config);
        let connector = match options.allow_http {
            true => builder.https_or_http(),
            false => builder.https_only(),
        }
        .enable_http1()
        .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        let failed = |why: String| FetchError::Transport { uri: uri.clone(), why };
        let request = http::Request::get(uri.clone())
            .header(ACCEPT, "application/json, application/jwk-set+json")
            .body(Empty::<Bytes>::new())
            .map_err(|error| failed(error.to_string()))?;
        let answer = client
            .request(request)
            .await
            .map_err(|error| failed(whole_story(&error)))?;
        body_of(answer, uri).await
    }
}

/// Off the async threads: a file may lie on a slow mount.
async fn read_file(path: PathBuf) -> Result<Vec<u8>, FileError> {
    let reading = path.clone();
    match tokio::task::spawn_blocking(move || files::read(&reading, MOST_BYTES as u64)).await {
        Ok(read) => read.map(|bytes| bytes.to_vec()),
        Err(gone) => Err(FileError {
            action: "read",
            path,
            source: std::io::Error::other(gone),
        }),
    }
}

async fn from_api_server(client: &kube::Client) -> Result<Vec<u8>, FetchError> {
    const PATH: &str = "/openid/v1/jwks";
    let uri = Uri::from_static(PATH);
    let mut request = http::Request::new(kube::client::Body::empty());
    *request.uri_mut() = uri.clone();
    let answer = client.send(request).await.map_err(|error| FetchError::Transport {
        uri: uri.clone(),
        why: whole_story(&error),
    })?;
    body_of(answer, uri).await
}

async fn tls_config(bundle: Option<&Bundle>) -> Result<ClientConfig, FetchError> {
    let tls = |error: &dyn std::fmt::Display| FetchError::Tls(error.to_string());
    let builder = ClientConfig::builder_with_provider(tls_provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| tls(&error))?;
    let builder = match bundle {
        Some(bundle) => builder.with_root_certificates(bundle.roots().await?),
        // Reads hundreds of files.
        None => tokio::task::spawn_blocking(|| builder.with_native_roots())
            .await
            .map_err(|error| tls(&error))?
            .map_err(|error| tls(&error))?,
    };
    Ok(builder.with_no_client_auth())
}

async fn body_of<B>(answer: http::Response<B>, uri: Uri) -> Result<Vec<u8>, FetchError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let status = answer.status();
    if status.is_redirection() {
        let to = answer
            .headers()
            .get(LOCATION)
            .map(|to| String::from_utf8_lossy(to.as_bytes()));
        let to = to.unwrap_or_default().chars().take(300).collect();
        return Err(FetchError::Redirect { uri, to });
    }
    if status != http::StatusCode::OK {
        return Err(FetchError::Status { uri, status });
    }
    match Limited::new(answer.into_body(), MOST_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes().to_vec()),
        Err(error) if error.is::<LengthLimitError>() => Err(FetchError::TooLarge { uri }),
        Err(error) => Err(FetchError::Transport {
            uri,
            why: whole_story(&*error),
        }),
    }
}

/// An error with its causes: HTTP clients say "client error (Connect)" and keep the reason below.
fn whole_story(error: &dyn std::error::Error) -> String {
    let mut story = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        story.push_str(": ");
        story.push_str(&error.to_string());
        cause = error.source();
    }
    story
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_discovery_document_lies_below_the_issuer() {
        for (issuer, uri) in [
            (
                "https://a.example.com",
                "https://a.example.com/.well-known/openid-configuration",
            ),
            (
                "https://a.example.com/",
                "https://a.example.com/.well-known/openid-configuration",
            ),
            (
                "https://a.example.com/b",
                "https://a.example.com/b/.well-known/openid-configuration",
            ),
            (
                "https://[::1]:6443",
                "https://[::1]:6443/.well-known/openid-configuration",
            ),
        ] {
            assert_eq!(discovery_uri(issuer, false).unwrap().to_string(), uri);
        }
    }

    #[test]
    fn only_absolute_https_uris_are_accepted() {
        assert!(checked_uri("https://a.example.com/keys?policy=x", false).is_ok());
        assert!(checked_uri("http://a.example.com/", true).is_ok());
        let refused = |text: &str, allow_http| checked_uri(text, allow_http).unwrap_err();
        let plain = "http://a.example.com/";
        assert_eq!(refused(plain, false), UriError::PlainHttp(plain.into()));
        assert_eq!(refused("https://u:p@a.example.com", true), UriError::User);
        let fragment = "https://a.example.com/#x";
        assert_eq!(refused(fragment, true), UriError::Fragment(fragment.into()));
        for text in ["", "/", "a.example.com", "https:///keys", "ftp://a.example.com/"] {
            assert_eq!(refused(text, true), UriError::Shape(text.into()));
        }
        let query = "https://a.example.com?a=b";
        assert_eq!(discovery_uri(query, false), Err(UriError::Query(query.into())));
    }
}
