//! Signatures that take long to check are checked off the async threads, in bounded number: with no room at all, exactly those wait.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use countersign::authority::CaState;
use countersign::issue::authenticate::{AuthenticateError, Authenticators, Caller};
use countersign::model::{BearerToken, ClientCertificate, Credentials, KeyAlgorithm, Request, Timestamp, TrustDomain};
use countersign::platform::{Clock, SlowWork};
use rustls_pki_types::CertificateDer;

use super::super::support::ca::{TestCa, signed, workload, years};
use super::super::support::tokens::{TestKey, Token, key_set};
use super::{ApiServer, NOW, Rig, issuer};

const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";

/// Authenticates without room for slow work, and says whether it waits; then with room, and says who it is.
async fn waits(
    rig: &Rig,
    ca: &TestCa,
    token: Option<String>,
    certificate: Option<ClientCertificate>,
) -> (bool, String) {
    let domain = TrustDomain::parse("cluster.local").unwrap();
    let authenticators = Authenticators::new(Some(rig.offline.clone()), None, Some(domain)).unwrap();
    let request = Request {
        csr: String::new(),
        lifetime: 0,
        impersonation: None,
        credentials: Credentials {
            token: token.map(BearerToken::new),
            client_certificate: certificate.map(Arc::new),
        },
        cluster_id: None,
        peer: None,
    };
    let (now, deadline) = (rig.clock.now(), rig.clock.instant() + Duration::from_secs(60));
    let ask = async |room| -> Result<Caller, AuthenticateError> {
        let room = SlowWork::new(room);
        authenticators
            .authenticate(
                &request,
                &Arc::new(CaState::fixed(ca.snapshot.clone())),
                now,
                deadline,
                &room,
            )
            .await
    };
    let waits = {
        let asking = pin!(ask(0));
        asking.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    };
    (waits, ask(1).await.unwrap().identity().to_string())
}

#[tokio::test]
async fn tokens_signed_with_es384() {
    let keys = [TestKey::rsa("a"), TestKey::p256("b"), TestKey::p384("c")];
    let server = ApiServer::with_keys(key_set(&keys.each_ref()));
    let rig = Rig::ready(vec![issuer(server.source())]).await;
    let ca = TestCa::new(Timestamp::from_unix(NOW));
    for (key, slow) in keys.iter().zip([false, false, true]) {
        let token = Token::new(NOW).mint(key);
        assert_eq!(
            waits(&rig, &ca, Some(token), None).await,
            (slow, CART.into()),
            "{}",
            key.algorithm()
        );
    }
}

#[tokio::test]
async fn client_certificates_under_a_p384_signer() {
    let rig = Rig::new(vec![issuer(ApiServer::with_keys(key_set(&[])).source())]);
    let validity = years(Timestamp::from_unix(NOW));
    for (kind, slow) in [
        (KeyAlgorithm::P256, false),
        (KeyAlgorithm::Rsa(2048), false),
        (KeyAlgorithm::P384, true),
    ] {
        let ca = TestCa::with(kind, validity);
        let leaf = CertificateDer::from(signed(&workload(CART, validity), &ca.signer).der().to_vec());
        let certificate = ClientCertificate { leaf };
        assert_eq!(
            waits(&rig, &ca, None, Some(certificate)).await,
            (slow, CART.into()),
            "{kind}"
        );
    }
}
