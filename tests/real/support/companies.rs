//! Companies' CAs, made by `openssl` as their administrators would.

use std::path::{Path, PathBuf};

use super::openssl::{key, openssl, text};

/// A kind of CA that people plug in.
pub struct Signer {
    /// What it is called here.
    pub name: &'static str,
    /// Its key, as `openssl genpkey -algorithm` wants it.
    key: &'static [&'static str],
    /// The names of the CAs from the root down to the signer, as sections of an `openssl` configuration.
    names: &'static [&'static str],
    /// The chain file ends with the root, as that of Istio's makefile.
    chain_holds_root: bool,
}

const PLAIN: &[&str] = &["O = Example\nCN = Root CA", "O = Example\nCN = Mesh CA"];

/// As Active Directory names them: components and units several times, two attributes side by side, an e-mail address, and text in the
/// encodings of the time.
const ACTIVE_DIRECTORY: &[&str] = &[
    "1.DC = com\n2.DC = example\n3.DC = corp\nCN = Corp Root CA",
    "1.DC = com\n2.DC = example\n3.DC = corp\n1.OU = PKI\n2.OU = Zertifikate für Geräte\nCN = Issuing CA 1",
    "1.DC = com\n2.DC = example\n3.DC = corp\nOU = Сертификаты\nCN = Mesh CA\n+OU = Produktion\nemailAddress = pki@corp.example.com",
];

const fn rsa(name: &'static str, key: &'static [&'static str], chain_holds_root: bool) -> Signer {
    Signer {
        name,
        key,
        names: PLAIN,
        chain_holds_root,
    }
}

/// The kinds.
pub const SIGNERS: [Signer; 6] = [
    rsa("rsa-2048", &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"], false),
    rsa(
        "rsa-4096-of-istios-makefile",
        &["RSA", "-pkeyopt", "rsa_keygen_bits:4096"],
        true,
    ),
    rsa("p-256", &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"], false),
    rsa("p-384", &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"], false),
    rsa("ed25519", &["ED25519"], false),
    Signer {
        name: "active-directory",
        key: &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        names: ACTIVE_DIRECTORY,
        chain_holds_root: false,
    },
];

/// A CA, ready to be plugged in.
pub struct Company {
    /// The four files.
    pub cacerts: PathBuf,
    /// How many certificates a workload shows: its own, every CA and the root.
    pub shown: usize,
}

impl Company {
    /// Makes one in this directory.
    pub fn make(directory: &Path, signer: &Signer) -> Self {
        let path = |level: usize, kind: &str| directory.join(format!("{level}.{kind}"));
        let last = signer.names.len() - 1;
        for (level, name) in signer.names.iter().enumerate() {
            // Text that fits no older encoding gets the oldest that it fits: T61, then BMP.
            let configuration = format!(
                "[req]\nprompt = no\nutf8 = yes\nstring_mask = default\ndistinguished_name = name\n[name]\n{name}\n[extensions]\n\
                 basicConstraints = critical,CA:true{}\nkeyUsage = critical,keyCertSign,cRLSign\nsubjectKeyIdentifier = hash\n{}",
                if level == last { ",pathlen:0" } else { "" },
                if level == 0 {
                    ""
                } else {
                    "authorityKeyIdentifier = keyid\n"
                },
            );
            std::fs::write(path(level, "conf"), configuration).unwrap();
            // Companies' roots are RSA.
            key(
                &path(level, "key"),
                if level == last {
                    signer.key
                } else {
                    &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"]
                },
            );
            let (configuration, private, certificate) = (path(level, "conf"), path(level, "key"), path(level, "pem"));
            let request = ["req", "-new", "-config", text(&configuration), "-key", text(&private)];
            if level == 0 {
                let root = [
                    "-x509",
                    "-days",
                    "3650",
                    "-extensions",
                    "extensions",
                    "-out",
                    text(&certificate),
                ];
                openssl(&[&request[..], &root].concat()).unwrap();
                continue;
            }
            let csr = path(level, "csr");
            openssl(&[&request[..], &["-out", text(&csr)]].concat()).unwrap();
            openssl(&[
                "x509",
                "-req",
                "-in",
                text(&csr),
                "-CA",
                text(&path(level - 1, "pem")),
                "-CAkey",
                text(&path(level - 1, "key")),
                "-days",
                "730",
                "-extfile",
                text(&configuration),
                "-extensions",
                "extensions",
                "-out",
                text(&certificate),
            ])
            .unwrap();
        }
        let cacerts = directory.join("cacerts");
        std::fs::create_dir(&cacerts).unwrap();
        let copy = |from: PathBuf, to: &str| std::fs::copy(from, cacerts.join(to)).unwrap();
        copy(path(last, "key"), "ca-key.pem");
        copy(path(last, "pem"), "ca-cert.pem");
        copy(path(0, "pem"), "root-cert.pem");
        let above = usize::from(!signer.chain_holds_root);
        let chain = (above..=last)
            .rev()
            .map(|level| std::fs::read_to_string(path(level, "pem")).unwrap());
        std::fs::write(cacerts.join("cert-chain.pem"), chain.collect::<String>()).unwrap();
        Self {
            cacerts,
            shown: signer.names.len() + 1,
        }
    }
}
