//! Generated code is what `proto/` says. `UPDATE=1 cargo test --test it generated` writes it anew.

use std::path::{Path, PathBuf};

use prost::Message;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The code of one contract, and its descriptors.
fn generated(contract: &str, code: &str) -> (Vec<u8>, Vec<u8>) {
    let descriptors = protox::compile([root().join("proto").join(contract)], [root().join("proto")]).unwrap();
    let out = tempfile::tempdir().unwrap();
    tonic_prost_build::configure()
        .out_dir(out.path())
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors.clone())
        .unwrap();
    (
        std::fs::read(out.path().join(code)).unwrap(),
        descriptors.encode_to_vec(),
    )
}

#[test]
fn code_is_generated_from_the_contract() {
    let (istio, descriptors) = generated("citadel.proto", "istio.v1.auth.rs");
    // Its descriptors are nobody's business: reflection is on the public door.
    let (admin, _) = generated("countersign/admin/v1/admin.proto", "countersign.admin.v1.rs");
    let current = [
        ("src/proto/istio.v1.auth.rs", istio),
        ("src/proto/descriptors.bin", descriptors),
        ("src/proto/countersign.admin.v1.rs", admin),
    ];
    // All are written before any is judged.
    if std::env::var_os("UPDATE").is_some() {
        for (path, wanted) in &current {
            std::fs::write(root().join(path), wanted).unwrap();
        }
    }
    for (path, wanted) in current {
        assert!(
            std::fs::read(root().join(path)).unwrap_or_default() == wanted,
            "{path} is out of date: see the head of this file"
        );
    }
}
