//! Settings as an administrator meets them: one test per bad value, checking the message that a person reads.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign::app::config::Config;
use countersign::app::settings::Settings;
use countersign::authority::{CaKind, RootAlgorithm};
use countersign::cluster::Credentials;
use countersign::issue::authenticate::offline::KeySource;
use countersign::platform::crypto::TlsPolicy;
use countersign::platform::crypto::tls_names::TlsVersion;
use countersign::roots::{self, Expression, LabelSelector, Operator, Selection};
use countersign::server::{Quota, ServingSource};
use countersign::telemetry::log::Format;
use rustls::{CipherSuite, NamedGroup};

fn environment(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// A pod in a cluster, where the defaults work.
fn cluster() -> BTreeMap<String, String> {
    environment(&[("KUBERNETES_SERVICE_HOST", "10.0.0.1")])
}

fn check(yaml: &str, environment: &BTreeMap<String, String>) -> Result<Config, String> {
    let settings = Settings::parse(yaml, "serve.yaml").map_err(|error| error.to_string())?;
    let settings = settings
        .with_environment(environment)
        .map_err(|error| error.to_string())?;
    Config::check(&settings, environment).map_err(|problems| problems.to_string())
}

#[test]
fn defaults_work_in_a_cluster() {
    for yaml in ["", "# nothing\n", "---\n", "{}"] {
        let config = check(yaml, &cluster()).unwrap();
        assert_eq!(config.server.address.port(), 15012);
        assert_eq!(config.server.plaintext, None);
        assert_eq!(config.server.monitoring.port(), 15014);
        assert_eq!(config.admin, Some("/var/lib/countersign/admin.sock".into()));
        // No address takes more than a quarter.
        assert_eq!(config.server.connections.open.per_address, 5_000);
        assert_eq!(config.server.calls_in_flight.per_address, 250);
        assert_eq!(config.ca.kind, CaKind::Auto);
        assert_eq!(config.policy.profile.default.seconds(), 86_400);
        let (credentials, review) = config.authentication.token_review.unwrap();
        assert!(matches!(credentials, Credentials::Pod));
        assert_eq!(review.audiences[..], ["istio-ca"]);
        assert!(config.authentication.issuers.is_empty() && config.authentication.client_certificates.is_none());
        assert!(config.missing_here.is_empty());
    }
}

#[test]
fn everything_can_be_set() {
    let yaml = r"
trustDomain: prod.example.org
clusterId: blue
listen:
  address: '[::1]:0'
  plaintext: 127.0.0.1:0
  connections: 10
  connectionsPerAddress: 6
  streamsPerConnection: 8
  messageBytes: 8192
  headerListBytes: 8192
  handshakeSeconds: 3
  callSeconds: 4
  callsInFlight: 7
  threads: 2
monitoring:
  address: 127.0.0.1:0
admin:
  socket: /run/countersign.sock
ca:
  type: self-signed
  directory: /keys
  selfSigned:
    directory: /own
    algorithm: p384
    lifetime: 8760h
certificates:
  defaultLifetime: 1h30m
  maximumLifetime: 48h
  minimumLifetime: 90s
  strictCsr: true
servingCertificate:
  names: [ca.example.org, 10.0.0.7, CA.example.org]
  lifetime: 12h
tls:
  minProtocolVersion: TLSv1_2
  maxProtocolVersion: VersionTLS13
  cipherSuites: [ECDHE-ECDSA-AES256-GCM-SHA384, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]
  ecdhCurves: CurveP384, X25519
authentication:
  tokenReview:
    enabled: true
    audiences: [a, b]
    kubeconfig: /kube/config
  issuers:
  - issuer: https://issuer.example.org
  - issuer: kubernetes/serviceaccount
    jwksFile: /jwks.json
    audiences: [x]
    trustDomain: vm.example.org
    namespaces: [one, two]
    clusterId: green
    maximumTokenLife: 1h
  - issuer: https://third
    jwksUri: http://third/keys?v=1
    allowHttp: true
  - issuer: https://kubernetes.default.svc
    discovery: cluster
  clientCertificates: true
roots:
  configMaps:
    enabled: true
    name: mesh-roots
    discoverySelectors:
    - matchLabels: {env: prod}
      matchExpressions:
      - {key: example.org/mesh, operator: In, values: [a, b]}
      - {key: skip, operator: DoesNotExist}
    - matchExpressions: [{key: x, operator: NotIn, values: ['']}, {key: y, operator: Exists}]
    membersOf: istio-system
    takeOver: true
    proveSpread: false
    arrival: 90s
    writesPerSecond: 7
logging:
  format: json
  level: warn,countersign=debug
shutdown:
  drainSeconds: 0
";
    let config = check(yaml, &environment(&[])).unwrap();
    let review = config.authentication.token_review.as_ref().unwrap();
    assert_eq!(review.1.trust_domain.as_str(), "prod.example.org");
    assert_eq!(config.ca.self_signed.organization, "prod.example.org");
    assert_eq!(config.server.plaintext, Some("127.0.0.1:0".parse().unwrap()));
    assert_eq!(config.admin, Some("/run/countersign.sock".into()));
    let quota = |total, per_address| Quota { total, per_address };
    assert_eq!(config.server.connections.open, quota(10, 6));
    assert_eq!((config.server.calls_in_flight, config.server.threads), (quota(7, 2), 2));
    assert_eq!(config.ca.self_signed.algorithm, RootAlgorithm::P384);
    assert_eq!(config.policy.profile.default.seconds(), 5400);
    let ServingSource::Issued { names, .. } = &config.server.serving else {
        panic!()
    };
    assert_eq!(
        names.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["ca.example.org", "10.0.0.7"]
    );
    let suites = [
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ];
    let groups = [NamedGroup::secp384r1, NamedGroup::X25519];
    let versions = (Some(TlsVersion::V1_2), Some(TlsVersion::V1_3));
    assert_eq!(
        config.server.tls,
        TlsPolicy::new(versions.0, versions.1, suites.into(), groups.into()).unwrap()
    );
    let issuers = &config.authentication.issuers;
    let KeySource::Discovery(uri, _) = &issuers[0].keys else {
        panic!()
    };
    assert_eq!(uri.path(), "/.well-known/openid-configuration");
    assert_eq!(
        (issuers[0].cluster.as_str(), issuers[0].trust_domain.as_str()),
        ("blue", "prod.example.org")
    );
    assert_eq!(issuers[1].keys.jwks_file(), Some("/jwks.json".as_ref()));
    assert_eq!(
        (issuers[1].cluster.as_str(), issuers[1].trust_domain.as_str()),
        ("green", "vm.example.org")
    );
    assert_eq!(
        issuers[1].namespaces.as_deref(),
        Some(&["one".to_owned(), "two".to_owned()][..])
    );
    let KeySource::JwksUri(uri, http) = &issuers[2].keys else {
        panic!()
    };
    assert_eq!(
        (uri.to_string().as_str(), http.allow_http),
        ("http://third/keys?v=1", true)
    );
    let is_kubeconfig =
        |credentials: &Credentials| matches!(credentials, Credentials::Kubeconfig(path) if path.ends_with("config"));
    assert!(matches!(&issuers[3].keys, KeySource::ApiServer(credentials) if is_kubeconfig(credentials)));
    assert!(is_kubeconfig(&review.0));
    let maps = config.root_config_maps.unwrap();
    assert!(!maps.prove_spread);
    let rule = |key: &str, operator| Expression {
        key: key.into(),
        operator,
    };
    let selection = Selection {
        selectors: vec![
            LabelSelector {
                labels: BTreeMap::from([("env".into(), "prod".into())]),
                expressions: vec![
                    rule("example.org/mesh", Operator::In(vec!["a".into(), "b".into()])),
                    rule("skip", Operator::DoesNotExist),
                ],
            },
            LabelSelector {
                labels: BTreeMap::new(),
                expressions: vec![
                    rule("x", Operator::NotIn(vec![String::new()])),
                    rule("y", Operator::Exists),
                ],
            },
        ],
        members_of: Some("istio-system".into()),
    };
    assert_eq!(
        maps.distribution,
        roots::Config {
            name: "mesh-roots".into(),
            selection,
            take_over: true,
            arrival: Duration::from_secs(90),
            writes_per_second: 7,
        }
    );
    assert_eq!(config.logging.format, Format::Json);
    assert_eq!(config.server.connections.drain.as_secs(), 0);
}

#[test]
fn the_environment_wins_over_the_file_and_assignments_over_both() {
    let variables = environment(&[
        ("COUNTERSIGN_LISTEN_CALLS_IN_FLIGHT", "5"),
        ("COUNTERSIGN_LISTEN_PLAINTEXT", "127.0.0.1:0"),
        ("COUNTERSIGN_CLUSTER_ID", "0"),
        ("COUNTERSIGN_SERVING_CERTIFICATE_NAMES", "[a.svc, b.svc]"),
        ("COUNTERSIGN_AUTHENTICATION_ISSUERS", "[{issuer: x, jwksFile: /f}]"),
        ("COUNTERSIGN_CA_TYPE", "self-signed"),
        // What Kubernetes makes of a service named countersign.
        ("COUNTERSIGN_SERVICE_HOST", "10.0.0.9"),
        ("COUNTERSIGN_SERVICE_PORT_GRPC", "15012"),
        ("COUNTERSIGN_PORT", "tcp://10.0.0.9:15012"),
        ("COUNTERSIGN_PORT_15012_TCP_ADDR", "10.0.0.9"),
        ("SOMETHING_ELSE", "x"),
        ("COUNTERSIGN_CONFIG", "serve.yaml"),
    ]);
    let settings = Settings::parse("listen: {callsInFlight: 4, callSeconds: 9}", "serve.yaml")
        .unwrap()
        .with_environment(&variables)
        .unwrap()
        .with_assignment("ca.type=plugged-in")
        .unwrap();
    assert_eq!((settings.listen.calls_in_flight, settings.listen.call_seconds), (5, 9));
    assert_eq!(settings.listen.plaintext.as_deref(), Some("127.0.0.1:0"));
    assert_eq!(settings.cluster_id, "0");
    assert_eq!(settings.serving_certificate.names, ["a.svc", "b.svc"]);
    assert_eq!(settings.authentication.issuers[0].jwks_file.as_deref(), Some("/f"));
    assert_eq!(settings.ca.r#type, "plugged-in");
}

/// In a cluster, where a mesh needs them; elsewhere only if somebody asks for them.
#[test]
fn roots_are_distributed_in_a_cluster() {
    let maps = |yaml: &str, environment: &BTreeMap<String, String>| check(yaml, environment).unwrap().root_config_maps;
    let kept = maps("", &cluster()).unwrap();
    assert!(kept.prove_spread && !kept.distribution.take_over);
    assert_eq!(kept.distribution.name, "istio-ca-root-cert");
    assert_eq!(kept.distribution.selection, Selection::default());
    assert!(maps("roots: {configMaps: {enabled: false}}", &cluster()).is_none());
    let outside = environment(&[]);
    let with_kubeconfig = "authentication: {tokenReview: {kubeconfig: /k}}";
    assert!(maps(with_kubeconfig, &outside).is_none());
    let asked_for = format!("{with_kubeconfig}\nroots: {{configMaps: {{enabled: true}}}}");
    assert!(maps(&asked_for, &outside).is_some());
    let offline = "authentication: {issuers: [{issuer: x, jwksFile: /f}]}\nroots: {configMaps: {enabled: true}}";
    assert_eq!(
        check(offline, &outside).unwrap_err(),
        "roots.configMaps.enabled: there is no API server to keep ConfigMaps in: give authentication.tokenReview.kubeconfig, or leave it out"
    );
}

#[test]
fn the_page_about_roots_shows_the_defaults() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/roots.md")).unwrap();
    let block = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(block.contains("writesPerSecond"), "{block}");
    assert_eq!(Settings::parse(block, "roots.md").unwrap(), Settings::default());
}

#[test]
fn every_problem_is_told_at_once() {
    let told = check("trustDomain: A\nca: {type: x}\nlogging: {format: y}", &cluster()).unwrap_err();
    assert_eq!(told.lines().count(), 3, "{told}");
}

/// name: what is written => the whole message
macro_rules! refused {
    ($($name:ident: $yaml:expr => $message:expr;)*) => {
        pub const VECTORS: &[&str] = &[$($yaml),*];
        $(
        #[test]
        fn $name() {
            assert_eq!(check($yaml, &cluster()).unwrap_err(), $message);
        }
        )*
    };
}

/// All of the texts below that must be refused.
pub fn refused() -> impl Iterator<Item = &'static str> {
    [
        text::VECTORS,
        values::VECTORS,
        tls::VECTORS,
        root_config_maps::VECTORS,
        authentication::VECTORS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

mod text {
    use super::*;

    refused! {
        unknown_section: "listn: {}" => "serve.yaml:1:1: unknown key \"listn\"; did you mean listen?";
        unknown_key: "listen:\n  adress: x" => "serve.yaml:2:3: unknown key \"adress\"; did you mean address?";
        snake_case: "trust_domain: x" => "serve.yaml:1:1: unknown key \"trust_domain\"; did you mean trustDomain?";
        key_in_the_wrong_section: "listen: {}\nstrictCsr: true" => "serve.yaml:2:1: unknown key \"strictCsr\" here; did you mean certificates.strictCsr?";
        unlike_anything: "shutdown: {zzz: 1}" => "serve.yaml:1:12: unknown key \"zzz\"; known are drainSeconds";
        unknown_key_of_an_issuer: "authentication:\n  issuers:\n  - issuer: x\n    jwksUrl: y" => "serve.yaml:4:5: unknown key \"jwksUrl\"; did you mean jwksUri?";
        twice: "trustDomain: a\ntrustDomain: b" => "serve.yaml:2:1: duplicate mapping key `trustDomain` is not allowed here, in \"trustDomain: b\"";
        not_a_number: "listen:\n  connections: many" => "serve.yaml:2:16: a whole number from 0 to 4294967295 is expected, in \"connections: many\"";
        negative: "listen:\n  connections: -1" => "serve.yaml:2:16: a whole number from 0 to 4294967295 is expected, in \"connections: -1\"";
        too_large_a_number: "listen:\n  connections: 4294967296" => "serve.yaml:2:16: a whole number from 0 to 4294967295 is expected, in \"connections: 4294967296\"";
        not_a_switch: "certificates:\n  strictCsr: yes" => "serve.yaml:2:14: invalid boolean (true or false expected), in \"strictCsr: yes\"";
        not_a_list: "servingCertificate:\n  names: a" => "serve.yaml:2:10: a list is expected, such as [a, b], in \"names: a\"";
        a_list_for_a_section: "listen: [a]" => "serve.yaml:1:9: a section of keys and values is expected, in \"listen: [a]\"";
        a_text_for_a_section: "listen: 15012" => "serve.yaml:1:9: a section of keys and values is expected, in \"listen: 15012\"";
        nothing_for_a_text: "trustDomain:" => "serve.yaml:1:12: null is not allowed here, in \"trustDomain:\"";
        not_yaml: "listen: {" => "serve.yaml:1:9: unclosed bracket '{', in \"listen: {\"";
        two_documents: "trustDomain: a\n---\ntrustDomain: b" => "serve.yaml:3:1: only single YAML document expected but multiple found, in \"trustDomain: b\"";
        not_a_mapping: "- a" => "serve.yaml:1:1: a section of keys and values is expected, in \"- a\"";
    }
}

mod values {
    use super::*;

    refused! {
        trust_domain: "trustDomain: Cluster.local" => "trustDomain: trust domain \"Cluster.local\" is not valid: write it as cluster.local";
        trust_domain_as_uri: "trustDomain: spiffe://cluster.local" => "trustDomain: trust domain \"spiffe://cluster.local\" is not valid: give the bare name, without spiffe://";
        cluster_id: "clusterId: ''" => "clusterId: it is empty; give the name that proxies send in their clusterid header, usually Kubernetes";
        address_without_port: "listen: {address: 0.0.0.0}" => "listen.address: \"0.0.0.0\" is not an address with a port; write it as 0.0.0.0:15012 or [::]:15012";
        address_by_name: "monitoring: {address: 'localhost:1'}" => "monitoring.address: \"localhost:1\" is not an address with a port; write it as 0.0.0.0:15012 or [::]:15012";
        plaintext: "listen: {plaintext: 'yes'}" => "listen.plaintext: \"yes\" is not an address with a port; write it as 0.0.0.0:15012 or [::]:15012";
        plaintext_on_the_same_door: "listen: {plaintext: '0.0.0.0:15012'}" => "listen.plaintext: it is the same as listen.address; give it a port of its own";
        monitoring_on_the_same_door: "monitoring: {address: '0.0.0.0:15012'}" => "monitoring.address: it is the same as a listen address; give it a port of its own";
        admin_socket: "ca: {selfSigned: {directory: /var/lib/countersign/in/a/directory/that/is/much/too/deep/for/a/socket/to/have/a/name/in/it/at/all}}" => "admin.socket: its path has 109 bytes, and a Unix socket's has at most 107; give a shorter one, or '' for no admin's door";
        connections: "listen: {connections: 0}" => "listen.connections: 0 is out of range; give 1 to 1000000";
        streams: "listen: {streamsPerConnection: 0}" => "listen.streamsPerConnection: 0 is out of range; give 1 to 100000";
        message: "listen: {messageBytes: 100}" => "listen.messageBytes: 100 is out of range; give 4096 to 4194304";
        headers: "listen: {headerListBytes: 100}" => "listen.headerListBytes: 100 is out of range; give 8192 to 1048576";
        handshake: "listen: {handshakeSeconds: 0}" => "listen.handshakeSeconds: 0 is out of range; give 1 to 60";
        call: "listen: {callSeconds: 61}" => "listen.callSeconds: 61 is out of range; give 1 to 60";
        connections_per_address: "listen: {connections: 8, connectionsPerAddress: 9}" => "listen.connectionsPerAddress: 9 is out of range; give 1 to 8";
        calls_per_address: "listen: {callsInFlightPerAddress: 0}" => "listen.callsInFlightPerAddress: 0 is out of range; give 1 to 1000";
        calls: "listen: {callsInFlight: 0}" => "listen.callsInFlight: 0 is out of range; give 1 to 100000";
        threads: "listen: {threads: 0}" => "listen.threads: 0 is out of range; give 1 to 1024";
        ca_type: "ca: {type: plugin}" => "ca.type: \"plugin\" is none of auto, self-signed, plugged-in";
        ca_directory: "ca: {directory: ''}" => "ca.directory: it is empty; give a path or leave the key out";
        mixed_directories: "ca: {directory: /x, selfSigned: {directory: /x}}" => "ca.selfSigned.directory: it is the same as ca.directory; plugged-in files and a root of our own must not mix";
        algorithm: "ca: {selfSigned: {algorithm: rsa}}" => "ca.selfSigned.algorithm: \"rsa\" is none of p256, p384";
        root_lifetime: "ca: {selfSigned: {lifetime: 10y}}" => "ca.selfSigned.lifetime: \"10y\" is not a span of time: write it as 24h, 90m, 1h30m or 45s";
        short_root: "ca: {selfSigned: {lifetime: 24h}}" => "ca.selfSigned.lifetime: 24h is not longer than certificates.defaultLifetime (24h); a root must outlive what it signs, by years";
        no_lifetime: "certificates: {maximumLifetime: '0'}" => "certificates.maximumLifetime: \"0\" is not a lifetime; give whole seconds, at least one and at most 136 years";
        broken_seconds: "certificates: {minimumLifetime: 60500ms}" => "certificates.minimumLifetime: \"60500ms\" is not a lifetime; give whole seconds, at least one and at most 136 years";
        bare_number: "certificates: {defaultLifetime: '86400'}" => "certificates.defaultLifetime: \"86400\" is not a span of time: write it as 24h, 90m, 1h30m or 45s";
        default_above_maximum: "certificates: {defaultLifetime: 3000h}" => "certificates.defaultLifetime: 3000h is longer than certificates.maximumLifetime (2160h); shorten it or raise the maximum";
        minimum_above_default: "certificates: {minimumLifetime: 25h}" => "certificates.minimumLifetime: 25h is longer than certificates.defaultLifetime (24h); lower it or raise the default";
        tiny_minimum: "certificates: {minimumLifetime: 9s}" => "certificates.minimumLifetime: 9s is less than 10s; proxies with such certificates would do nothing but renew";
        no_names: "servingCertificate: {names: []}" => "servingCertificate.names: it is empty; proxies check our name: give the one in their CA_ADDR, usually istiod.istio-system.svc";
        bad_name: "servingCertificate: {names: [a.svc, 'b c']}" => "servingCertificate.names[1]: \"b c\" is neither a DNS name nor an IP address";
        serving_lifetime: "servingCertificate: {lifetime: 59s}" => "servingCertificate.lifetime: 59s is less than 60s; use a day or more";
        serving_below_the_minimum: "certificates: {minimumLifetime: 10h}\nservingCertificate: {lifetime: 9h}" => "servingCertificate.lifetime: 9h is shorter than certificates.minimumLifetime (10h), which holds for it too; use a day or more";
        half_a_pair: "servingCertificate: {certificateFile: /c}" => "servingCertificate.keyFile: it is missing while certificateFile is set; give both, or neither to have a certificate issued";
        other_half_of_a_pair: "servingCertificate: {keyFile: /k}" => "servingCertificate.certificateFile: it is missing while keyFile is set; give both, or neither to have a certificate issued";
        log_format: "logging: {format: xml}" => "logging.format: \"xml\" is none of text, json";
        log_level: "logging: {level: loud}" => "logging.level: \"loud\" is not a log level: give error, warn, info, debug or trace, or a list such as info,countersign::issue=debug (no such level)";
        drain: "shutdown: {drainSeconds: 3601}" => "shutdown.drainSeconds: 3601 is out of range; give 0 to 3600";
    }
}

mod tls {
    use super::*;

    refused! {
        unknown_version: "tls: {minProtocolVersion: TLSv2}" => "tls.minProtocolVersion: \"TLSv2\" is not a version of TLS; there are TLS_AUTO, TLSV1_2, TLSV1_3";
        old_version: "tls: {minProtocolVersion: VersionTLS10}" => "tls.minProtocolVersion: \"VersionTLS10\" is too old, nobody may speak it any more (RFC 8996); there are TLS_AUTO, TLSV1_2, TLSV1_3";
        minimum_above_maximum: "tls: {minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2}" => "tls.minProtocolVersion: TLS 1.3 is above the maximum, TLS 1.2; lower it or raise the maximum";
        cbc: "tls: {cipherSuites: 'ECDHE-ECDSA-AES128-GCM-SHA256, TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256'}" => "tls.cipherSuites[1]: \"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256\" is a CBC suite, which HTTP/2 forbids (RFC 9113, appendix A); there are TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256";
        curve: "tls: {ecdhCurves: [CurveP521]}" => "tls.ecdhCurves[0]: \"CurveP521\" is not a key-exchange group of this build; there are X25519, P-256, P-384";
        comma_too_many: "tls: {ecdhCurves: 'X25519,'}" => "tls.ecdhCurves[1]: \"\" is not a key-exchange group of this build; there are X25519, P-256, P-384";
        without_http2: "tls: {cipherSuites: [ECDHE-ECDSA-AES256-GCM-SHA384]}" => "tls.cipherSuites: no suite that HTTP/2 over TLS 1.2 requires is among them (RFC 9113, 9.2.2); add TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 or TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, or allow TLS 1.3 alone";
        not_for_our_key: "tls: {maxProtocolVersion: TLSV1_2, cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256]}" => "tls.cipherSuites: a serving certificate with an ECDSA key can use none of them, and TLS 1.3 is not allowed; add TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, or raise the maximum";
        a_number: "tls: {ecdhCurves: 1}" => "serve.yaml:1:7: invalid type: integer `1`, expected a list of names, or names with commas between them, in \"tls: {ecdhCurves: 1}\"";
    }

    #[test]
    fn a_list_a_text_a_variable_and_an_assignment_say_the_same() {
        let told = check("tls: {ecdhCurves: [P-384, X25519]}", &cluster())
            .unwrap()
            .server
            .tls;
        assert_ne!(told, TlsPolicy::default());
        assert_eq!(
            check("tls: {ecdhCurves: 'P-384,X25519'}", &cluster())
                .unwrap()
                .server
                .tls,
            told
        );
        let mut variables = cluster();
        for value in ["P-384, X25519", "[P-384, X25519]"] {
            variables.insert("COUNTERSIGN_TLS_ECDH_CURVES".into(), value.into());
            assert_eq!(check("", &variables).unwrap().server.tls, told, "{value}");
            let settings = Settings::default().with_assignment(&format!("tls.ecdhCurves={value}"));
            let config = Config::check(&settings.unwrap(), &cluster()).unwrap();
            assert_eq!(config.server.tls, told, "{value}");
        }
    }

    /// OpenShift's profile of this name, as it writes it.
    #[test]
    fn the_modern_profile_is_taken_as_it_is() {
        let suites = "[TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256]";
        let yaml = format!("tls: {{minProtocolVersion: VersionTLS13, cipherSuites: {suites}}}");
        assert!(check(&yaml, &cluster()).is_ok());
    }

    #[test]
    fn empty_means_default() {
        for yaml in [
            "tls: {}",
            "tls: {cipherSuites: [], ecdhCurves: ''}",
            "tls: {minProtocolVersion: '', maxProtocolVersion: TLS_AUTO}",
        ] {
            assert_eq!(
                check(yaml, &cluster()).unwrap().server.tls,
                TlsPolicy::default(),
                "{yaml}"
            );
        }
    }
}

mod root_config_maps {
    use super::*;

    refused! {
        name: "roots: {configMaps: {name: My_Roots}}" => "roots.configMaps.name: \"My_Roots\" is no name of a ConfigMap; istiod's is istio-ca-root-cert";
        no_name: "roots: {configMaps: {name: ''}}" => "roots.configMaps.name: \"\" is no name of a ConfigMap; istiod's is istio-ca-root-cert";
        members_of: "roots: {configMaps: {membersOf: A}}" => "roots.configMaps.membersOf: \"A\" is not a namespace name (a DNS label: lower-case letters, digits and dashes, at most 63)";
        label_key: "roots: {configMaps: {discoverySelectors: [{}, {matchLabels: {'a/b/c': x}}]}}" => "roots.configMaps.discoverySelectors[1]: \"a/b/c\" is no key of a label; write it as example.org/name or name";
        label_value: "roots: {configMaps: {discoverySelectors: [{matchLabels: {a: 'x y'}}]}}" => "roots.configMaps.discoverySelectors[0]: \"x y\" is no value of a label; it takes at most 63 letters, digits, '-', '_' and '.'";
        operator: "roots: {configMaps: {discoverySelectors: [{matchExpressions: [{key: a, operator: Is, values: [b]}]}]}}" => "roots.configMaps.discoverySelectors[0]: \"Is\" is none of In, NotIn, Exists, DoesNotExist";
        no_values: "roots: {configMaps: {discoverySelectors: [{matchExpressions: [{key: a, operator: In}]}]}}" => "roots.configMaps.discoverySelectors[0]: the rule for a has no values; list some";
        values_too_many: "roots: {configMaps: {discoverySelectors: [{matchExpressions: [{key: a, operator: Exists, values: [b]}]}]}}" => "roots.configMaps.discoverySelectors[0]: the rule for a takes no values; leave them out";
        no_key: "roots: {configMaps: {discoverySelectors: [{matchExpressions: [{operator: Exists}]}]}}" => "roots.configMaps.discoverySelectors[0]: \"\" is no key of a label; write it as example.org/name or name";
        unknown_key: "roots: {configMaps: {discoverySelectors: [{matchLabel: {}}]}}" => "serve.yaml:1:44: unknown key \"matchLabel\"; did you mean matchLabels?";
        arrival: "roots: {configMaps: {arrival: 2h}}" => "roots.configMaps.arrival: 2h is more than an hour; kubelets take minutes";
        no_time: "roots: {configMaps: {arrival: soon}}" => "roots.configMaps.arrival: \"soon\" is not a span of time: write it as 24h, 90m, 1h30m or 45s";
        rate: "roots: {configMaps: {writesPerSecond: 0}}" => "roots.configMaps.writesPerSecond: 0 is out of range; give 1 to 10000";
    }
}

mod authentication {
    use super::*;

    refused! {
        nobody: "authentication: {tokenReview: {enabled: false}}" => "authentication: nobody would be believed: leave tokenReview on, or list issuers whose tokens are verified here";
        certificates_alone: "authentication: {tokenReview: {enabled: false}, clientCertificates: true}" => "authentication: certificates alone would be a circle: the first one needs a token; leave tokenReview on, or list issuers whose tokens are verified here";
        no_audience: "authentication: {tokenReview: {audiences: []}}" => "authentication.tokenReview.audiences: an audience is missing or empty; without one, tokens made for other services would be accepted: use istio-ca";
        empty_audience: "authentication: {issuers: [{issuer: x, jwksFile: /f, audiences: ['']}]}" => "authentication.issuers[0].audiences: an audience is missing or empty; without one, tokens made for other services would be accepted: use istio-ca";
        no_issuer: "authentication: {issuers: [{}]}" => "authentication.issuers[0].issuer: it is empty; give exactly what the tokens' iss says";
        issuer_twice: "authentication: {issuers: [{issuer: x, jwksFile: /f}, {issuer: x, jwksFile: /g}]}" => "authentication.issuers[1].issuer: \"x\" stands here twice for cluster \"Kubernetes\"; give each cluster its clusterId";
        two_sources: "authentication: {issuers: [{issuer: x, jwksFile: /f, jwksUri: 'https://x'}]}" => "authentication.issuers[0].discovery: only one of discovery, jwksUri and jwksFile can say where the keys are; leave the others out";
        discovery: "authentication: {issuers: [{issuer: 'https://x', discovery: auto}]}" => "authentication.issuers[0].discovery: \"auto\" is none of issuer, cluster";
        nothing_to_discover_at: "authentication: {issuers: [{issuer: kubernetes}]}" => "authentication.issuers[0].issuer: \"kubernetes\" is not an https address; write it as https://host/path";
        query: "authentication: {issuers: [{issuer: 'https://x/?y'}]}" => "authentication.issuers[0].issuer: \"https://x/?y\" has a query, and an issuer to discover keys at has none; give jwksUri";
        unprotected: "authentication: {issuers: [{issuer: 'http://x'}]}" => "authentication.issuers[0].issuer: \"http://x\" is not protected: whoever sits on the way can make any identity; use https, or set allowHttp: true for tests";
        not_the_web: "authentication: {issuers: [{issuer: x, jwksUri: 'file:///f'}]}" => "authentication.issuers[0].jwksUri: \"file:///f\" is not an https address; write it as https://host/path";
        password: "authentication: {issuers: [{issuer: x, jwksUri: 'https://u:p@x/'}]}" => "authentication.issuers[0].jwksUri: it holds a user name or password, which would end up in logs; leave that out";
        fragment: "authentication: {issuers: [{issuer: x, jwksUri: 'https://x/keys#y'}]}" => "authentication.issuers[0].jwksUri: \"https://x/keys#y\" has a fragment; leave out # and what follows";
        empty_cluster: "authentication: {issuers: [{issuer: x, jwksFile: /f, clusterId: ''}]}" => "authentication.issuers[0].clusterId: it is empty; give a name, or leave it out for ours";
        useless_ca_file: "authentication: {issuers: [{issuer: x, jwksFile: /f, caFile: /c}]}" => "authentication.issuers[0].caFile: it is set, but the keys do not come over the network with it; leave it out";
        foreign_domain: "authentication: {issuers: [{issuer: x, jwksFile: /f, trustDomain: X}]}" => "authentication.issuers[0].trustDomain: trust domain \"X\" is not valid: write it as x";
        no_namespace: "authentication: {issuers: [{issuer: x, jwksFile: /f, namespaces: []}]}" => "authentication.issuers[0].namespaces: it is empty, so that nobody would be believed; list namespaces, or leave it out for all";
        bad_namespace: "authentication: {issuers: [{issuer: x, jwksFile: /f, namespaces: [a, B]}]}" => "authentication.issuers[0].namespaces: \"B\" is not a namespace name (a DNS label: lower-case letters, digits and dashes, at most 63)";
        token_life: "authentication: {issuers: [{issuer: x, jwksFile: /f, maximumTokenLife: 1d}]}" => "authentication.issuers[0].maximumTokenLife: \"1d\" is not a span of time: write it as 24h, 90m, 1h30m or 45s";
    }

    /// What only a pod has is missing elsewhere; the settings themselves are in order.
    #[test]
    fn a_pod_s_settings_elsewhere() {
        let missing = |yaml: &str, environment: &BTreeMap<String, String>| -> Vec<String> {
            let config = check(yaml, environment).unwrap();
            config.missing_here.iter().map(ToString::to_string).collect()
        };
        let review = "authentication.tokenReview: it needs the credentials of a pod, and this is none (KUBERNETES_SERVICE_HOST is not set)";
        let on = "authentication: {tokenReview: {enabled: true}}";
        let only_certificates = "authentication: {clientCertificates: true}";
        let cluster_keys = "authentication: {issuers: [{issuer: x, discovery: cluster}]}";
        for yaml in ["", on, only_certificates] {
            assert_eq!(missing(yaml, &environment(&[])), [review], "{yaml}");
        }
        assert_eq!(
            missing(cluster_keys, &environment(&[])),
            [review.replace("tokenReview", "issuers[0].discovery")]
        );
        for yaml in ["", on, only_certificates, cluster_keys] {
            assert!(missing(yaml, &cluster()).is_empty(), "{yaml}");
        }
        let with_kubeconfig = "authentication: {tokenReview: {kubeconfig: /k}}";
        assert!(missing(with_kubeconfig, &environment(&[])).is_empty());
    }

    /// With issuers to believe, reviews are on only where there is an API server to ask.
    #[test]
    fn reviews_beside_issuers() {
        let yaml = "authentication: {issuers: [{issuer: x, jwksFile: /f}]}";
        let elsewhere = check(yaml, &environment(&[])).unwrap();
        assert!(elsewhere.authentication.token_review.is_none() && elsewhere.missing_here.is_empty());
        assert!(check(yaml, &cluster()).unwrap().authentication.token_review.is_some());
    }

    #[test]
    fn keys_of_a_cluster_without_reviews() {
        let yaml = "authentication: {tokenReview: {enabled: false, kubeconfig: /k}, issuers: [{issuer: x, discovery: cluster}]}";
        let authentication = check(yaml, &environment(&[])).unwrap().authentication;
        assert!(authentication.token_review.is_none());
        assert!(
            matches!(&authentication.issuers[0].keys, KeySource::ApiServer(Credentials::Kubeconfig(path)) if path.as_os_str() == "/k")
        );
    }
}

mod overrides {
    use super::*;

    fn variable(name: &str, value: &str) -> String {
        Settings::default()
            .with_environment(&environment(&[(name, value)]))
            .unwrap_err()
            .to_string()
    }

    fn assignment(text: &str) -> String {
        Settings::default().with_assignment(text).unwrap_err().to_string()
    }

    #[test]
    fn unknown_variable() {
        assert_eq!(
            variable("COUNTERSIGN_LISTEN_ADRESS", "x"),
            "COUNTERSIGN_LISTEN_ADRESS: unknown variable \"COUNTERSIGN_LISTEN_ADRESS\"; did you mean COUNTERSIGN_LISTEN_ADDRESS?"
        );
    }

    #[test]
    fn bad_value_in_a_variable() {
        assert_eq!(
            variable("COUNTERSIGN_LISTEN_THREADS", "two"),
            "COUNTERSIGN_LISTEN_THREADS: a whole number from 0 to 4294967295 is expected, in \"two\""
        );
    }

    #[test]
    fn values_that_do_not_fit() {
        for (text, expected) in [
            (
                "servingCertificate.names=a",
                "--set servingCertificate.names: a list is expected, such as [a, b], in \"a\"",
            ),
            (
                "listen.connections=-1",
                "--set listen.connections: a whole number from 0 to 4294967295 is expected, in \"-1\"",
            ),
            (
                "certificates.strictCsr=yes",
                "--set certificates.strictCsr: invalid boolean (true or false expected), in \"yes\"",
            ),
            (
                "authentication.issuers=[{isuer: x}]",
                "--set authentication.issuers: unknown key \"isuer\"; did you mean issuer?",
            ),
        ] {
            assert_eq!(assignment(text), expected);
        }
    }

    #[test]
    fn bad_yaml_in_a_variable() {
        assert_eq!(
            variable("COUNTERSIGN_AUTHENTICATION_ISSUERS", "[{"),
            "COUNTERSIGN_AUTHENTICATION_ISSUERS: unclosed bracket '{', in \"[{\""
        );
    }

    #[test]
    fn unknown_assignment() {
        assert_eq!(
            assignment("listen.adress=x"),
            "--set listen.adress=x: unknown key \"listen.adress\"; did you mean listen.address?"
        );
    }

    #[test]
    fn assignment_without_value() {
        assert_eq!(
            assignment("listen.address"),
            "--set listen.address: write it as key=value, such as logging.level=debug"
        );
    }

    #[test]
    fn unlike_any_setting() {
        assert_eq!(
            assignment("zzz=1"),
            "--set zzz=1: unknown key \"zzz\"; countersign serve --validate prints all settings"
        );
    }

    #[test]
    fn whole_sections_are_not_assigned() {
        assert!(assignment("listen={}").starts_with("--set listen={}: unknown key \"listen\""));
    }
}
