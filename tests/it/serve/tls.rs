//! What TLS takes, as an administrator sets it: versions, suites and groups, allowed and refused, in the server's order.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, HandshakeKind, NamedGroup, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::tls_config;
use crate::support::server::{Server, request};
use crate::support::tokens::{TestKey, key_set};

/// What a client and the server agree on; `None` when they do not.
struct Agreed {
    suite: CipherSuite,
    group: NamedGroup,
    kind: HandshakeKind,
}

async fn shake(
    server: &Server,
    version: &'static SupportedProtocolVersion,
    change: impl FnOnce(&mut CryptoProvider),
) -> Option<Agreed> {
    let mut provider = rustls::crypto::ring::default_provider();
    change(&mut provider);
    let config = Arc::new(tls_config(server, provider, version));
    let stream = TcpStream::connect(server.addresses.tls).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = TlsConnector::from(config).connect(name, stream).await.ok()?;
    let (_, session) = stream.get_ref();
    assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
    Some(Agreed {
        suite: session.negotiated_cipher_suite()?.suite(),
        group: session.negotiated_key_exchange_group()?.name(),
        kind: session.handshake_kind()?,
    })
}

fn as_it_comes(_: &mut CryptoProvider) {}

fn suites(wanted: &[CipherSuite]) -> impl FnOnce(&mut CryptoProvider) {
    move |provider| {
        provider.cipher_suites.retain(|suite| wanted.contains(&suite.suite()));
        provider
            .cipher_suites
            .sort_by_key(|suite| wanted.iter().position(|wanted| *wanted == suite.suite()));
        assert_eq!(provider.cipher_suites.len(), wanted.len());
    }
}

fn groups(wanted: &[NamedGroup]) -> impl FnOnce(&mut CryptoProvider) {
    move |provider| {
        provider.kx_groups.retain(|group| wanted.contains(&group.name()));
        provider
            .kx_groups
            .sort_by_key(|group| wanted.iter().position(|wanted| *wanted == group.name()));
        assert_eq!(provider.kx_groups.len(), wanted.len());
    }
}

#[tokio::test]
async fn versions_outside_of_the_range_are_refused() {
    for (settings, old, new) in [
        (&["tls.minProtocolVersion=TLS_AUTO"][..], true, true),
        (&["tls.minProtocolVersion=VersionTLS13"], false, true),
        (&["tls.maxProtocolVersion=TLSv1_2"], true, false),
    ] {
        let server = Server::with(settings).await;
        for (version, allowed) in [(&TLS12, old), (&TLS13, new)] {
            let agreed = shake(&server, version, as_it_comes).await;
            assert_eq!(agreed.is_some(), allowed, "{settings:?} {version:?}");
        }
    }
}

const AES_128: CipherSuite = CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
const AES_256: CipherSuite = CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384;
const CHACHA20: CipherSuite = CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256;

#[tokio::test]
async fn the_first_suite_of_the_server_wins_and_others_are_refused() {
    for (setting, first) in [
        ("ECDHE-ECDSA-AES256-GCM-SHA384,ECDHE-ECDSA-AES128-GCM-SHA256", AES_256),
        (
            "[TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]",
            AES_128,
        ),
    ] {
        let server = Server::with(&[&format!("tls.cipherSuites={setting}")]).await;
        for order in [[CHACHA20, AES_128, AES_256], [CHACHA20, AES_256, AES_128]] {
            let agreed = shake(&server, &TLS12, suites(&order)).await.unwrap();
            assert_eq!(agreed.suite, first, "{order:?}");
        }
        for suite in [AES_128, AES_256] {
            assert!(shake(&server, &TLS12, suites(&[suite])).await.is_some(), "{suite:?}");
        }
        assert!(shake(&server, &TLS12, suites(&[CHACHA20])).await.is_none());
        // Those of TLS 1.3 are nobody's business.
        for suite in [
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
            CipherSuite::TLS13_AES_256_GCM_SHA384,
        ] {
            assert!(shake(&server, &TLS13, suites(&[suite])).await.is_some(), "{suite:?}");
        }
    }
}

#[tokio::test]
async fn the_first_group_of_the_server_wins_and_others_are_refused() {
    const ALL: [NamedGroup; 3] = [NamedGroup::X25519, NamedGroup::secp256r1, NamedGroup::secp384r1];
    let server = Server::with(&["tls.ecdhCurves=P-384, X25519"]).await;
    for version in [&TLS12, &TLS13] {
        let agreed = shake(&server, version, groups(&ALL)).await.unwrap();
        assert_eq!(agreed.group, NamedGroup::secp384r1, "{version:?}");
        if version == &TLS13 {
            // The client had made its share for X25519.
            assert_eq!(agreed.kind, HandshakeKind::FullWithHelloRetryRequest);
        }
        let agreed = shake(&server, version, groups(&[NamedGroup::secp256r1, NamedGroup::X25519])).await;
        assert_eq!(agreed.unwrap().group, NamedGroup::X25519, "{version:?}");
        assert!(
            shake(&server, version, groups(&[NamedGroup::secp256r1]))
                .await
                .is_none()
        );
    }
    let server = Server::with(&["tls.ecdhCurves=CurveP256"]).await;
    for version in [&TLS12, &TLS13] {
        let agreed = shake(&server, version, groups(&ALL)).await.unwrap();
        assert_eq!(agreed.group, NamedGroup::secp256r1);
        assert!(shake(&server, version, groups(&[NamedGroup::X25519])).await.is_none());
    }
    // Without an order of ours the client's stands, and nobody has to ask twice.
    let server = Server::start().await;
    let agreed = shake(&server, &TLS13, groups(&[NamedGroup::secp384r1, NamedGroup::X25519])).await;
    let agreed = agreed.unwrap();
    assert_eq!(
        (agreed.group, agreed.kind),
        (NamedGroup::secp384r1, HandshakeKind::Full)
    );
}

/// Through every turn of the handshake certificates are issued as ever.
#[tokio::test]
async fn calls_are_answered_under_a_policy() {
    let server = Server::with(&["tls.ecdhCurves=P-384,P-256", "tls.minProtocolVersion=TLSV1_3"]).await;
    server.ask(request().0).await.unwrap();
}

#[tokio::test]
async fn a_key_in_a_file_that_no_suite_can_show_is_refused_at_the_start() {
    use countersign::app::config::Config;
    use countersign::app::serve::App;
    use countersign::app::settings::Settings;
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().display();
    let key = rcgen::KeyPair::from_pem(include_str!("../../vectors/keys/rsa-2048.pem")).unwrap();
    let names = vec!["istiod.istio-system.svc".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    for (name, text) in [
        ("key.pem", key.serialize_pem()),
        ("cert.pem", certificate.pem()),
        ("jwks.json", key_set(&[&TestKey::p256("key")])),
    ] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let yaml = format!(
        "listen: {{address: '127.0.0.1:0'}}\nmonitoring: {{address: '127.0.0.1:0'}}\n\
         ca: {{type: self-signed, selfSigned: {{directory: '{place}/ca'}}}}\n\
         servingCertificate: {{certificateFile: '{place}/cert.pem', keyFile: '{place}/key.pem'}}\n\
         authentication: {{issuers: [{{issuer: 'https://issuer.test', jwksFile: '{place}/jwks.json'}}]}}\n\
         tls: {{cipherSuites: [ECDHE-ECDSA-AES128-GCM-SHA256]}}\n"
    );
    let open = async |assignment: &str| {
        let settings = Settings::parse(&yaml, "test")
            .unwrap()
            .with_assignment(assignment)
            .unwrap();
        let config = Config::check(&settings, &std::collections::BTreeMap::new()).unwrap();
        App::open_quietly(&config)
            .await
            .map(drop)
            .map_err(|error| format!("{error:#}"))
    };
    let refused = open("tls.maxProtocolVersion=TLSV1_2").await.unwrap_err();
    let why = "key.pem: tls.cipherSuites: a serving certificate with an RSA key can use none of them";
    assert!(refused.contains(why), "{refused}");
    open("tls.maxProtocolVersion=TLSV1_3").await.unwrap();
}
