//! Generated code is what `proto/` says. `UPDATE=1 cargo test --test it generated` writes it anew.

use std::path::{Path, PathBuf};

use prost::Message;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[test]
fn code_is_generated_from_the_contract() {
    let descriptors = protox::compile([root().join("proto/citadel.proto")], [root().join("proto")]).unwrap();
    let out = tempfile::tempdir().unwrap();
    tonic_prost_build::configure()
        .out_dir(out.path())
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors.clone())
        .unwrap();
    let code = std::fs::read(out.path().join("istio.v1.auth.rs")).unwrap();
    let current = [
        ("src/proto/istio.v1.auth.rs", code),
        ("src/proto/descriptors.bin", descriptors.encode_to_vec()),
    ];
    for (path, wanted) in current {
        let path = root().join(path);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        }
        assert!(
            std::fs::read(&path).unwrap_or_default() == wanted,
            "{} is out of date: see the head of this file",
            path.display()
        );
    }
}
