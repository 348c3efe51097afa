//! The `openssl` command: an implementation that shares nothing with ours.

use std::path::Path;
use std::process::Command;

use super::countersign::Countersign;
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
    let arguments = [
        "dgst",
        "-sha256",
        "-sign",
        text(key),
        "-out",
        text(&signature),
        text(&input),
    ];
    openssl(&arguments).unwrap();
    std::fs::read(signature).unwrap()
}

/// Whether the first certificate of `chain` leads, by way of the others, to `roots`, for servers and for clients, with more flags.
pub fn verify(chain: &Path, roots: &Path, flags: &[&str]) -> Result<(), String> {
    let (chain, roots) = (text(chain), text(roots));
    for purpose in ["sslserver", "sslclient"] {
        let verify = ["verify", "-no-CApath", "-no-CAstore", "-purpose", purpose];
        let files = ["-CAfile", roots, "-untrusted", chain, chain];
        let answer = openssl(&[&verify[..], flags, &files].concat())?;
        if !answer.ends_with(": OK\n") {
            return Err(answer);
        }
    }
    Ok(())
}

/// RFC 5280 to the letter, for what is ours down from the root.
pub const STRICT: &[&str] = &["-x509_strict"];

/// A handshake by `openssl s_client`, and what it printed; `Err` when there was none.
pub fn handshake(server: &Countersign, arguments: &[&str]) -> Result<String, String> {
    let mut client = Command::new("openssl");
    client.args(["s_client", "-connect", &server.address.to_string(), "-CAfile"]);
    client.arg(server.root()).arg("-verify_return_error");
    output(client.args(arguments))
}
