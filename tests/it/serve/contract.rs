//! What a call for a certificate may say, and what it gets.

use countersign::agent::{ClientIdentity, check_answer};
use countersign::model::Identity;
use countersign::platform::{Clock, SystemClock};
use countersign::proto::istio::{IstioCertificateRequest, IstioCertificateResponse};
use prost_types::value::Kind;
use tonic::{Code, Request};

use crate::support::server::{IDENTITY, Server, request};

fn lifetime(answer: &IstioCertificateResponse) -> i64 {
    let leaf = countersign::model::pem::blocks(answer.cert_chain[0].as_bytes(), 1).unwrap();
    let validity = countersign::model::CaCertificate::parse(&leaf[0].der)
        .unwrap()
        .validity();
    validity.not_after.since(SystemClock.now())
}

fn metadata(key: &str, value: Kind) -> Option<prost_types::Struct> {
    let value = prost_types::Value { kind: Some(value) };
    Some(prost_types::Struct {
        fields: [(key.to_owned(), value)].into(),
    })
}

/// Lines 25 to 32, 34: what an answer is made of.
#[tokio::test]
async fn an_answer_is_leaf_then_bundle() {
    let server = Server::start().await;
    let (wish, key) = request();
    let answer = server.ask(wish).await.unwrap();
    assert_eq!(answer.cert_chain.len(), 2);
    assert_eq!(answer.cert_chain[1], server.root);
    assert!(
        answer
            .cert_chain
            .iter()
            .all(|element| element.ends_with("-----END CERTIFICATE-----\n"))
    );
    check_answer(
        &answer.cert_chain,
        &key,
        &Identity::parse(IDENTITY).unwrap(),
        SystemClock.now(),
    )
    .unwrap();
    let again = server.ask(request().0).await.unwrap();
    assert_eq!(again.cert_chain[1], answer.cert_chain[1]);
    assert_ne!(again.cert_chain[0], answer.cert_chain[0]);
}

/// Line 23: lifetimes.
#[tokio::test]
async fn lifetimes_are_default_exact_or_refused() {
    let server = Server::start().await;
    for (asked, expected) in [
        (0, Ok(86_400)),
        (-1, Ok(86_400)),
        (i64::MIN, Ok(86_400)),
        (60, Ok(60)),
        (3_600, Ok(3_600)),
        (7_776_000, Ok(7_776_000)),
        (
            59,
            Err(
                "CSR signing error (requested TTL 59 s is less than the min allowed TTL 60 s: its owner would renew without end)",
            ),
        ),
        (
            7_776_001,
            Err("CSR signing error (requested TTL 7776001 s is greater than the max allowed TTL 7776000 s)"),
        ),
        (
            i64::MAX,
            Err(
                "CSR signing error (requested TTL 9223372036854775807 s is greater than the max allowed TTL 7776000 s)",
            ),
        ),
    ] {
        let answer = server
            .ask(IstioCertificateRequest {
                validity_duration: asked,
                ..request().0
            })
            .await;
        match expected {
            Ok(seconds) => {
                let got = lifetime(&answer.unwrap());
                assert!((seconds - 1..=seconds).contains(&got), "{asked}: {got}");
            }
            Err(message) => {
                let status = answer.unwrap_err();
                assert_eq!(
                    (status.code(), status.message()),
                    (Code::InvalidArgument, message),
                    "{asked}"
                );
            }
        }
    }
}

/// Lines 19, 20, 22: metadata.
#[tokio::test]
async fn impersonation_is_refused_and_other_metadata_ignored() {
    let server = Server::start().await;
    let text = |text: &str| Kind::StringValue(text.into());
    for (key, value) in [
        ("CertSigner", text("")),
        ("CertSigner", text("signer1")),
        ("Unknown", Kind::NumberValue(1.0)),
        ("ImpersonatedIdentity", text("")),
        ("impersonatedidentity", text("spiffe://cluster.local/ns/x/sa/y")),
    ] {
        let wish = IstioCertificateRequest {
            metadata: metadata(key, value),
            ..request().0
        };
        server.ask(wish).await.unwrap();
    }
    for value in [
        text("spiffe://cluster.local/ns/x/sa/y"),
        text(IDENTITY),
        text("junk"),
        Kind::NullValue(0),
        Kind::NumberValue(1.0),
        Kind::BoolValue(true),
        Kind::ListValue(prost_types::ListValue::default()),
    ] {
        let wish = IstioCertificateRequest {
            metadata: metadata("ImpersonatedIdentity", value.clone()),
            ..request().0
        };
        let status = server.ask(wish).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{value:?}");
        assert_eq!(status.message(), "request impersonation authentication failure");
    }
}

/// Lines 10, 11, 13: where the token is looked for.
#[tokio::test]
async fn the_first_bearer_token_counts() {
    let server = Server::start().await;
    let good = server.token();
    let bearer = format!("Bearer {good}");
    let (lower, basic, junk) = (
        format!("bearer {good}"),
        "Basic dXNlcg==".to_owned(),
        "Bearer junk".to_owned(),
    );
    let expired = format!("Bearer {}", server.token_for(-30));
    for (headers, accepted) in [
        (vec![&bearer], true),
        (vec![&lower], true),
        (vec![&basic, &bearer], true),
        (vec![], false),
        (vec![&basic], false),
        (vec![&junk, &bearer], false),
        (vec![&good], false),
        (vec![&expired], false),
    ] {
        let headers: Vec<&str> = headers.into_iter().map(String::as_str).collect();
        match server.call(&headers, request().0).await {
            Ok(_) => assert!(accepted, "{headers:?}"),
            Err(status) => {
                assert!(!accepted, "{headers:?}: {status}");
                assert_eq!(status.code(), Code::Unauthenticated);
                assert_eq!(status.message(), "request authenticate failure");
            }
        }
    }
    for (cluster, accepted) in [
        (vec![""], true),
        (vec!["Kubernetes"], true),
        (vec!["a", "b"], true),
        (vec!["other"], false),
    ] {
        let mut call = Request::new(request().0);
        call.metadata_mut().insert("authorization", bearer.parse().unwrap());
        for value in &cluster {
            call.metadata_mut().append("clusterid", value.parse().unwrap());
        }
        let answer = server.client(None).create_certificate(call).await;
        assert_eq!(answer.is_ok(), accepted, "{cluster:?}");
    }
}

/// Lines 5 and 12: client certificates.
#[tokio::test]
async fn a_client_certificate_renews_itself_and_never_blocks_a_token() {
    let server = Server::with(&["authentication.clientCertificates=true"]).await;
    let (wish, key) = request();
    let answer = server.ask(wish).await.unwrap();
    let with_root = answer.cert_chain.concat();
    let own = || {
        Some(ClientIdentity {
            chain: with_root.as_bytes(),
            key: Box::leak(Box::new(key.pem())).as_bytes(),
        })
    };
    // No token: the certificate decides, even with the root at the end of its chain, as Istio's agent sends it.
    server.client(own()).create_certificate(request().0).await.unwrap();
    // An expired token does not hurt it; a wrong one is final.
    for (token, accepted) in [(server.token_for(-30), true), ("junk".to_owned(), false)] {
        let mut call = Request::new(request().0);
        call.metadata_mut()
            .insert("authorization", format!("Bearer {token}").parse().unwrap());
        assert_eq!(server.client(own()).create_certificate(call).await.is_ok(), accepted);
    }
    // A certificate of somebody else: no help without a token, no harm with one.
    let stranger = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
    let (chain, key) = (stranger.cert.pem(), stranger.signing_key.serialize_pem());
    let foreign = || {
        Some(ClientIdentity {
            chain: chain.as_bytes(),
            key: key.as_bytes(),
        })
    };
    let refused = server
        .client(foreign())
        .create_certificate(request().0)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut call = Request::new(request().0);
    call.metadata_mut()
        .insert("authorization", format!("Bearer {}", server.token()).parse().unwrap());
    server.client(foreign()).create_certificate(call).await.unwrap();
    // Where it is not switched on, it counts for nothing.
    let strict = Server::start().await;
    let (wish, key) = request();
    let chain = strict.ask(wish).await.unwrap().cert_chain.concat();
    let own = ClientIdentity {
        chain: chain.as_bytes(),
        key: Box::leak(Box::new(key.pem())).as_bytes(),
    };
    let refused = strict
        .client(Some(own))
        .create_certificate(request().0)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}
