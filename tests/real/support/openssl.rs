//! The `openssl` command: an implementation that shares nothing with ours.

use std::path::Path;
use std::process::Command;

use super::process::output;

/// `openssl …`, with an environment of its own; its standard output when it succeeds.
pub fn openssl(arguments: &[&str]) -> Result<String, String> {
    output(Command::new("openssl").args(arguments))
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A new RSA key, PKCS#8.
pub fn rsa_key(path: &Path, bits: u32) {
    key(path, &["RSA", "-pkeyopt", &format!("rsa_keygen_bits:{bits}")]);
}

/// A new key, PKCS#8, of the kind that these arguments of `genpkey -algorithm` name.
pub fn key(path: &Path, kind: &[&str]) {
    let arguments = [&["genpkey", "-out", text(path), "-algorithm"], kind].concat();
    openssl(&arguments).unwrap();
}

/// A signature over the SHA-256 of this text.
pub fn sign_sha256(key: &Path, signed: &[u8]) -> Vec<u8> {
    let directory = super::process::scratch();
    let (input, signature) = (directory.path().join("input"), directory.path().join("signature"));
    std::fs::write(&input, signed).unwrap();
    let arguments = ["dgst", "-sha256", "-sign", text(key), "-out", text(&signature), text(&input)];
    openssl(&arguments).unwrap();
    std::fs::read(signature).unwrap()
}

/// Whether the first certificate of `leaf` leads to `roots`, by way of those in `others`, for this purpose (`sslserver`, `sslclient`).
pub fn verify(leaf: &Path, others: &Path, roots: &Path, purpose: &str) -> Result<(), String> {
    let (leaf, others, roots) = (text(leaf), text(others), text(roots));
    let arguments = [
        "verify", "-x509_strict", "-purpose", purpose, "-CAfile", roots, "-no-CApath", "-no-CAstore", "-untrusted", others, leaf,
    ];
    let answer = openssl(&arguments)?;
    if answer.trim_end().ends_with(": OK") { Ok(()) } else { Err(answer) }
}
