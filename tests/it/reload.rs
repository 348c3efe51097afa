//! The CA's files change while it serves: taken when they are sound, and nobody is cut off by another root.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign::agent::{Connection, Endpoint};
use countersign::authority::steering::{Act, Files};
use countersign::model::{CaCertificate, Fingerprint};
use countersign::platform::{Clock, SystemClock, TestClock};
use countersign::proto::istio::istio_certificate_service_client::IstioCertificateServiceClient;
use rcgen::{CertifiedIssuer, KeyPair};
use tonic::{Code, Request, Status};

use crate::support::ca::{authority, root, years};
use crate::support::server::{Server, request};

const HOUR: i64 = 3600;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn new_root(name: &str) -> Issuer {
    root(name, KeyPair::generate().unwrap(), years(SystemClock.now()))
}

fn intermediate(name: &str, root: &Issuer) -> Issuer {
    let params = authority(name, years(SystemClock.now()));
    CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), root).unwrap()
}

/// The four files of a folder, each replaced in place as `cp` does.
fn write(folder: &Path, signer: &Issuer, roots: &[&Issuer]) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("ca-cert.pem"), signer.pem()).unwrap();
    std::fs::write(folder.join("ca-key.pem"), signer.key().serialize_pem()).unwrap();
    std::fs::write(folder.join("cert-chain.pem"), signer.pem()).unwrap();
    let roots: String = roots.iter().map(|root| root.pem()).collect();
    std::fs::write(folder.join("root-cert.pem"), roots).unwrap();
}

fn fingerprint(issuer: &Issuer) -> Fingerprint {
    Fingerprint::of(issuer.der())
}

/// A CA with a plugged-in folder, a clock to turn, and a door without TLS, since a client's own clock cannot be turned.
struct Mesh {
    server: Server,
    clock: Arc<TestClock>,
}

/// What a workload was answered.
#[derive(Debug)]
struct Answer {
    signer: Fingerprint,
    roots: Vec<Fingerprint>,
}

impl Mesh {
    async fn new(signer: &Issuer, root: &Issuer) -> Self {
        let directory = tempfile::tempdir().unwrap();
        write(&directory.path().join("cacerts"), signer, &[root]);
        let clock = Arc::new(TestClock::at(SystemClock.now()));
        Self::open(directory, clock, "plugged-in").await
    }

    async fn open(directory: tempfile::TempDir, clock: Arc<TestClock>, kind: &str) -> Self {
        let folder = format!("ca.directory={}", directory.path().join("cacerts").display());
        let kind = format!("ca.type={kind}");
        let settings = [&*kind, &*folder, "listen.plaintext=127.0.0.1:0"];
        let server = Server::at(clock.clone(), directory, &settings).await;
        Self { server, clock }
    }

    fn folder(&self) -> PathBuf {
        self.server.directory.path().join("cacerts")
    }

    async fn reload(&self) -> Result<(), String> {
        self.server
            .steering
            .act(Act::Reload)
            .await
            .map_err(|error| error.to_string())
    }

    async fn act(&self, act: Act) {
        self.server.steering.act(act).await.unwrap();
    }

    /// Lets time pass, and the CA notice.
    async fn pass(&self, hours: i64) {
        // The wall clock alone: keys of token issuers grow old by the other one.
        self.clock.set(self.clock.now().plus(hours * HOUR));
        let _ = self.reload().await;
    }

    async fn ask(&self) -> Result<Answer, Status> {
        let address = self.server.addresses.plaintext.unwrap();
        let endpoint = Endpoint::new(&address.to_string(), Connection::Plaintext).unwrap();
        let mut client = IstioCertificateServiceClient::new(endpoint.channel().unwrap());
        let (message, _) = request();
        let mut call = Request::new(message);
        let bearer = format!("Bearer {}", self.server.token());
        call.metadata_mut().insert("authorization", bearer.parse().unwrap());
        let chain = client.create_certificate(call).await?.into_inner().cert_chain;
        let parse = |text: &str| -> Vec<CaCertificate> {
            rustls_pki_types::pem::PemObject::pem_slice_iter(text.as_bytes())
                .map(|der: Result<rustls_pki_types::CertificateDer<'_>, _>| {
                    CaCertificate::parse(&der.unwrap()).unwrap()
                })
                .collect()
        };
        let roots = parse(chain.last().unwrap());
        // A self-signed root stands only in the bundle.
        let signer = if chain.len() > 2 {
            parse(&chain[1]).remove(0)
        } else {
            roots[0].clone()
        };
        // Whatever happens, an answer is of one piece.
        let leaf = parse(&chain[0]).remove(0);
        let issuer = parse(&chain[1..].concat())
            .into_iter()
            .find(|ca| ca.subject() == leaf.issuer());
        assert!(issuer.is_some(), "{chain:?}");
        Ok(Answer {
            signer: signer.fingerprint(),
            roots: roots.iter().map(CaCertificate::fingerprint).collect(),
        })
    }

    async fn files(&self) -> Files {
        self.server.steering.status().await.unwrap().files
    }

    /// As a restart: everything in memory is lost.
    async fn restart(self, kind: &str) -> Self {
        let clock = self.clock.clone();
        let (directory, ended) = self.server.leave().await;
        ended.unwrap();
        Self::open(directory, clock, kind).await
    }
}

#[tokio::test]
async fn a_new_signer_under_the_same_root_signs_at_once() {
    let root = new_root("Root");
    let (one, two) = (intermediate("One", &root), intermediate("Two", &root));
    let mesh = Mesh::new(&one, &root).await;
    assert_eq!(mesh.ask().await.unwrap().signer, fingerprint(&one));
    write(&mesh.folder(), &two, &[&root]);
    mesh.reload().await.unwrap();
    let answer = mesh.ask().await.unwrap();
    assert_eq!(answer.signer, fingerprint(&two));
    assert_eq!(answer.roots, [fingerprint(&root)]);
    assert!(mesh.server.metrics.render().contains("countersign_ca_files_in_force 1"));
}

/// Kubelet changes a mounted Secret by one rename of the link `..data`.
#[tokio::test]
async fn a_swapped_link_is_noticed_without_being_told() {
    let root = new_root("Root");
    let (one, two) = (intermediate("One", &root), intermediate("Two", &root));
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("cacerts");
    write(&folder.join("..2026_1"), &one, &[&root]);
    write(&folder.join("..2026_2"), &two, &[&root]);
    symlink("..2026_1", folder.join("..data")).unwrap();
    for name in ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"] {
        symlink(Path::new("..data").join(name), folder.join(name)).unwrap();
    }
    let clock = Arc::new(TestClock::at(SystemClock.now()));
    let mesh = Mesh::open(directory, clock, "auto").await;
    assert_eq!(mesh.ask().await.unwrap().signer, fingerprint(&one));
    symlink("..2026_2", folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    let noticed = async {
        while mesh.ask().await.unwrap().signer != fingerprint(&two) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), noticed)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_cannot_be_used_leaves_the_last_good_one_signing() {
    let root = new_root("Root");
    let (one, two) = (intermediate("One", &root), intermediate("Two", &root));
    let mesh = Mesh::new(&one, &root).await;
    // Half copied: the certificate of the new one, the key of the old.
    std::fs::write(mesh.folder().join("ca-cert.pem"), two.pem()).unwrap();
    let refused = mesh.reload().await.unwrap_err();
    assert!(
        refused.contains("ca-key.pem") && refused.contains("sign on"),
        "{refused}"
    );
    assert!(matches!(mesh.files().await, Files::Bad(_)));
    assert_eq!(mesh.ask().await.unwrap().signer, fingerprint(&one));
    assert!(mesh.server.metrics.render().contains("countersign_ca_files_in_force 0"));
    // Asked again, it says so again.
    assert_eq!(mesh.reload().await.unwrap_err(), refused);
    write(&mesh.folder(), &two, &[&root]);
    mesh.reload().await.unwrap();
    assert_eq!(mesh.ask().await.unwrap().signer, fingerprint(&two));
    assert_eq!(mesh.files().await, Files::Taken);
}

#[tokio::test]
async fn another_root_is_published_then_signs_then_the_old_one_retires() {
    let (old_root, new_root) = (new_root("Old"), new_root("New"));
    let (old, new) = (
        intermediate("Old signer", &old_root),
        intermediate("New signer", &new_root),
    );
    let mesh = Mesh::new(&old, &old_root).await;
    mesh.ask().await.unwrap();
    write(&mesh.folder(), &new, &[&new_root]);
    mesh.reload().await.unwrap();
    let answer = mesh.ask().await.unwrap();
    assert_eq!(
        answer.signer,
        fingerprint(&old),
        "somebody may not know the new root yet"
    );
    assert_eq!(answer.roots, [fingerprint(&old_root), fingerprint(&new_root)]);
    // A day, rounded up, and the margin.
    mesh.pass(25).await;
    assert_eq!(
        mesh.ask().await.unwrap().signer,
        fingerprint(&old),
        "nobody said that it was distributed"
    );
    mesh.act(Act::Confirm).await;
    let answer = mesh.ask().await.unwrap();
    assert_eq!(answer.signer, fingerprint(&new));
    assert_eq!(answer.roots, [fingerprint(&old_root), fingerprint(&new_root)]);
    mesh.pass(23).await;
    assert_eq!(
        mesh.ask().await.unwrap().roots.len(),
        2,
        "leaves under the old one are valid"
    );
    mesh.pass(2).await;
    assert_eq!(mesh.ask().await.unwrap().roots, [fingerprint(&new_root)]);
}

#[tokio::test]
async fn an_admin_who_knows_need_not_wait() {
    let (old_root, new_root) = (new_root("Old"), new_root("New"));
    let (old, new) = (
        intermediate("Old signer", &old_root),
        intermediate("New signer", &new_root),
    );
    let mesh = Mesh::new(&old, &old_root).await;
    mesh.ask().await.unwrap();
    assert!(
        mesh.server.steering.act(Act::ActivateNow).await.is_err(),
        "nothing is pending"
    );
    write(&mesh.folder(), &new, &[&new_root]);
    mesh.reload().await.unwrap();
    mesh.act(Act::ActivateNow).await;
    assert_eq!(mesh.ask().await.unwrap().signer, fingerprint(&new));
}

#[tokio::test]
async fn files_that_vanish_are_signed_with_until_the_process_ends() {
    let root = new_root("Root");
    let one = intermediate("One", &root);
    let mesh = Mesh::new(&one, &root).await;
    let kept = tempfile::tempdir().unwrap();
    std::fs::rename(mesh.folder(), kept.path().join("cacerts")).unwrap();
    mesh.reload().await.unwrap();
    assert_eq!(mesh.files().await, Files::Gone);
    assert_eq!(mesh.ask().await.unwrap().signer, fingerprint(&one));
    // A company's key is never copied: a new process has none.
    for kind in ["plugged-in", "auto"] {
        let again = Mesh::new(&one, &root).await;
        std::fs::remove_dir_all(again.folder()).unwrap();
        let again = again.restart(kind).await;
        let refused = again.ask().await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
        let status = again.server.steering.status().await.unwrap();
        let why = status.chain.unwrap_err();
        assert!(why.contains("put the files back"), "{why}");
        assert_eq!(status.roots.len(), 1, "the bundle is kept");
        write(&again.folder(), &one, &[&root]);
        again.reload().await.unwrap();
        assert_eq!(again.ask().await.unwrap().signer, fingerprint(&one));
        again.server.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_change_survives_restarts() {
    let (old_root, new_root) = (new_root("Old"), new_root("New"));
    let (old, new) = (
        intermediate("Old signer", &old_root),
        intermediate("New signer", &new_root),
    );
    let mesh = Mesh::new(&old, &old_root).await;
    mesh.ask().await.unwrap();
    write(&mesh.folder(), &new, &[&new_root]);
    mesh.reload().await.unwrap();
    // The old key is gone with the process, and nobody may sign with the new one yet.
    let mesh = mesh.restart("plugged-in").await;
    assert_eq!(mesh.ask().await.unwrap_err().code(), Code::Unavailable);
    mesh.act(Act::Confirm).await;
    let mesh = mesh.restart("plugged-in").await;
    assert_eq!(
        mesh.ask().await.unwrap_err().code(),
        Code::Unavailable,
        "a leaf without the new root is valid"
    );
    mesh.pass(26).await;
    assert_eq!(mesh.ask().await.unwrap().signer, fingerprint(&new));
}

#[tokio::test]
async fn a_self_signed_ca_gives_way_to_a_company_and_back() {
    let root = new_root("Company");
    let one = intermediate("One", &root);
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock::at(SystemClock.now()));
    let mesh = Mesh::open(directory, clock, "auto").await;
    let own = mesh.ask().await.unwrap().signer;
    write(&mesh.folder(), &one, &[&root]);
    mesh.reload().await.unwrap();
    assert_eq!(mesh.ask().await.unwrap().signer, own);
    // Its key is ours and stays at hand.
    let mesh = mesh.restart("auto").await;
    assert_eq!(mesh.ask().await.unwrap().signer, own);
    mesh.act(Act::Confirm).await;
    mesh.pass(26).await;
    assert_eq!(mesh.ask().await.unwrap().signer, fingerprint(&one));
    let mesh = mesh.restart("self-signed").await;
    assert_eq!(
        mesh.ask().await.unwrap().signer,
        fingerprint(&one),
        "every client trusts the old root still, but leaves without it may be valid"
    );
}

#[tokio::test]
async fn a_withdrawn_signer_signs_no_more() {
    let root = new_root("Root");
    let (one, two) = (intermediate("One", &root), intermediate("Two", &root));
    let mesh = Mesh::new(&one, &root).await;
    mesh.ask().await.unwrap();
    mesh.act(Act::Withdraw(fingerprint(&one))).await;
    assert_eq!(mesh.ask().await.unwrap_err().code(), Code::Unavailable);
    let mesh = mesh.restart("plugged-in").await;
    assert_eq!(
        mesh.ask().await.unwrap_err().code(),
        Code::Unavailable,
        "not after a restart either"
    );
    write(&mesh.folder(), &two, &[&root]);
    mesh.reload().await.unwrap();
    assert_eq!(mesh.ask().await.unwrap().signer, fingerprint(&two));
}

#[tokio::test]
async fn a_self_signed_root_gets_another_key_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock::at(SystemClock.now()));
    let mesh = Mesh::open(directory, clock, "self-signed").await;
    let old = mesh.ask().await.unwrap().signer;
    mesh.act(Act::Rotate).await;
    assert!(
        mesh.server.steering.act(Act::Rotate).await.is_err(),
        "one change at a time"
    );
    let answer = mesh.ask().await.unwrap();
    assert_eq!((answer.signer, answer.roots.len()), (old, 2));
    // Both keys are ours: a restart in the middle loses nothing.
    let mesh = mesh.restart("self-signed").await;
    assert_eq!(mesh.ask().await.unwrap().roots, answer.roots);
    mesh.act(Act::Confirm).await;
    mesh.pass(26).await;
    mesh.ask().await.unwrap();
    mesh.pass(26).await;
    let last = mesh.ask().await.unwrap();
    assert_eq!(last.roots, answer.roots[1..], "only the new one is left");
    let own = mesh.server.directory.path().join("ca");
    assert!(!own.join("ca-key.pem").exists(), "the old key is gone");
    let mesh = mesh.restart("self-signed").await;
    assert_eq!(mesh.ask().await.unwrap().roots, last.roots);
}

#[tokio::test]
async fn a_self_signed_root_renews_itself_under_the_same_key() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock::at(SystemClock.now()));
    let mesh = Mesh::open(directory, clock, "self-signed").await;
    let old = mesh.ask().await.unwrap().roots;
    let own = mesh.server.directory.path().join("ca");
    let key = std::fs::read(own.join("ca-key.pem")).unwrap();
    let years = 365 * 24;
    mesh.pass(8 * years - 24).await;
    assert_eq!(mesh.ask().await.unwrap().roots, old);
    mesh.pass(48).await;
    let both = mesh.ask().await.unwrap().roots;
    assert_eq!(both.len(), 2);
    assert_eq!(both[0], old[0], "what clients hold stays");
    assert_eq!(std::fs::read(own.join("ca-key.pem")).unwrap(), key);
    let roots = std::fs::read(own.join("root-cert.pem")).unwrap();
    let parsed: Vec<CaCertificate> = rustls_pki_types::pem::PemObject::pem_slice_iter(&roots)
        .map(|der: Result<rustls_pki_types::CertificateDer<'_>, _>| CaCertificate::parse(&der.unwrap()).unwrap())
        .collect();
    let [new, before] = parsed.as_slice() else {
        panic!("{parsed:?}")
    };
    assert_eq!(
        (new.subject(), new.public_key_info(), new.key_id()),
        (before.subject(), before.public_key_info(), before.key_id())
    );
    assert!(new.validity().not_after > before.validity().not_after);
    // Nobody needs to distribute anything: it signs when those who know only the old dates are gone, and outlives them.
    mesh.pass(26).await;
    let mesh = mesh.restart("self-signed").await;
    mesh.pass(2 * years).await;
    mesh.ask().await.unwrap();
}
