//! The TLS policy, judged by `openssl`: each version, suite and group, allowed and refused, in the server's order.

use serde_json::{Value, json};

use crate::support::countersign::Countersign;
use crate::support::openssl::handshake;
use crate::support::scene::Scene;

fn with(tls: Value) -> Scene {
    Scene::offline(json!({ "tls": tls }))
}

/// What `openssl` says of a handshake; nothing when there was none, or not with `h2` and a certificate that holds.
fn shake(server: &Countersign, arguments: &[&str]) -> Option<String> {
    let printed = handshake(server, &[&["-alpn", "h2"], arguments].concat()).ok()?;
    let good = ["ALPN protocol: h2", "Verify return code: 0 (ok)"];
    good.iter().all(|line| printed.contains(line)).then_some(printed)
}

fn assert_only(server: &Countersign, cases: &[(&[&str], bool)]) {
    for (arguments, allowed) in cases {
        assert_eq!(shake(server, arguments).is_some(), *allowed, "{arguments:?}");
    }
}

fn assert_says(server: &Countersign, arguments: &[&str], expected: &str) {
    let printed = shake(server, arguments).unwrap();
    assert!(
        printed.contains(expected),
        "{arguments:?}: no {expected:?} in\n{printed}"
    );
}

#[test]
fn versions_are_held_to() {
    let old: &[&str] = &["-tls1_2"];
    let new: &[&str] = &["-tls1_3"];
    let ancient: &[&str] = &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"];
    for (tls, old_allowed, new_allowed) in [
        (json!({"minProtocolVersion": "TLSV1_2"}), true, true),
        (json!({"minProtocolVersion": "VersionTLS13"}), false, true),
        (json!({"maxProtocolVersion": "TLSv1_2"}), true, false),
    ] {
        let scene = with(tls);
        assert_only(
            &scene.server,
            &[(old, old_allowed), (new, new_allowed), (ancient, false)],
        );
    }
}

#[test]
fn suites_are_held_to_in_the_servers_order() {
    const AES_128: &str = "ECDHE-ECDSA-AES128-GCM-SHA256";
    const AES_256: &str = "ECDHE-ECDSA-AES256-GCM-SHA384";
    const CHACHA20: &str = "ECDHE-ECDSA-CHACHA20-POLY1305";
    for (first, second) in [(AES_128, AES_256), (AES_256, AES_128), (CHACHA20, AES_128)] {
        let scene = with(json!({"cipherSuites": format!("{first}, {second}")}));
        let server = &scene.server;
        for suite in [AES_128, AES_256, CHACHA20] {
            let allowed = [first, second].contains(&suite);
            assert_only(server, &[(&["-tls1_2", "-cipher", suite], allowed)]);
        }
        for order in [format!("{second}:{first}"), format!("{first}:{second}")] {
            let expected = format!("New, TLSv1.2, Cipher is {first}");
            assert_says(server, &["-tls1_2", "-cipher", &order], &expected);
        }
        for suite in [
            "TLS_AES_128_GCM_SHA256",
            "TLS_AES_256_GCM_SHA384",
            "TLS_CHACHA20_POLY1305_SHA256",
        ] {
            assert_only(server, &[(&["-tls1_3", "-ciphersuites", suite], true)]);
        }
    }
}

#[test]
fn groups_are_held_to_in_the_servers_order() {
    const SHOWN: [(&str, &str); 3] = [
        ("X25519", "Server Temp Key: X25519"),
        ("P-256", "Server Temp Key: ECDH, prime256v1"),
        ("P-384", "Server Temp Key: ECDH, secp384r1"),
    ];
    for listed in [vec!["P-256"], vec!["P-384", "P-256"], vec!["P-256", "X25519"]] {
        let scene = with(json!({ "ecdhCurves": listed }));
        for version in ["-tls1_2", "-tls1_3"] {
            for (group, shown) in SHOWN {
                let one = [version, "-groups", group];
                // In TLS 1.2 `openssl` wants the curve of our certificate's key among its groups.
                if version == "-tls1_3" {
                    assert_only(&scene.server, &[(&one, listed.contains(&group))]);
                }
                if group == listed[0] {
                    for order in ["X25519:P-256:P-384", "P-384:P-256:X25519"] {
                        assert_says(&scene.server, &[version, "-groups", order], shown);
                    }
                }
            }
        }
        // Istio's own client finds its way too.
        scene.sign(&scene.pod.token()).assert_good();
    }
}
