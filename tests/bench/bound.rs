//! The bound: what a certificate costs if a core does nothing but verify one CSR, verify one token and make one signature, with the crypto
//! library that the server uses, called directly.

use anyhow::{Context, Result, ensure};
use rcgen::{CertificateParams, KeyPair};
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair as RsaKeyPair, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey,
};
use serde::Serialize;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use crate::figures::median;
use crate::machine::thread_cpu;
use crate::material::Algorithm;

/// How often each operation is repeated for one sample. Long enough for a steady clock, short enough to be done between two runs.
const REPEATS: usize = 400;
/// About the signed part of a service-account token.
const TOKEN_LENGTH: usize = 800;
/// About the to-be-signed part of a leaf.
const LEAF_LENGTH: usize = 500;

/// CPU microseconds of each operation.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bound {
    /// The self-signature of a P-256 CSR.
    pub csr: f64,
    /// An RS256 signature by a 2048-bit key.
    pub rs256: f64,
    /// An ES256 signature.
    pub es256: f64,
    /// One P-256 signature.
    pub signature: f64,
}

impl Bound {
    /// One certificate.
    pub fn of(&self, tokens: Algorithm) -> f64 {
        let token = match tokens {
            Algorithm::Rs256 => self.rs256,
            Algorithm::Es256 => self.es256,
        };
        self.csr + token + self.signature
    }

    /// Operation by operation.
    pub fn median(samples: &[Self]) -> Option<Self> {
        let middle = |pick: fn(&Self) -> f64| median(&samples.iter().map(pick).collect::<Vec<_>>());
        Some(Self {
            csr: middle(|sample| sample.csr)?,
            rs256: middle(|sample| sample.rs256)?,
            es256: middle(|sample| sample.es256)?,
            signature: middle(|sample| sample.signature)?,
        })
    }
}

/// Keys and signatures to measure with.
pub struct Probe {
    random: SystemRandom,
    csr_key: Vec<u8>,
    csr_body: Vec<u8>,
    csr_signature: Vec<u8>,
    token: Vec<u8>,
    rsa_key: PublicKeyComponents<Vec<u8>>,
    rsa_signature: Vec<u8>,
    token_key: EcdsaKeyPair,
    token_signature: Vec<u8>,
    leaf: Vec<u8>,
    leaf_key: EcdsaKeyPair,
}

impl Probe {
    /// Makes them; `rsa_key` is PKCS#8.
    pub fn new(rsa_key: &[u8]) -> Result<Self> {
        let random = SystemRandom::new();
        let csr = CertificateParams::default().serialize_request(&KeyPair::generate()?)?;
        let (_, csr) = X509CertificationRequest::from_der(csr.der())?;
        let info = &csr.certification_request_info;

        let token = vec![b'e'; TOKEN_LENGTH];
        let rsa = RsaKeyPair::from_pkcs8(rsa_key)
            .ok()
            .context("the RSA key is no PKCS#8 key")?;
        let mut rsa_signature = vec![0; rsa.public().modulus_len()];
        let token_key = p256(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)?;
        let signed = rsa
            .sign(&RSA_PKCS1_SHA256, &random, &token, &mut rsa_signature)
            .and_then(|()| token_key.sign(&random, &token))
            .ok()
            .context("signing a token failed")?;
        let probe = Self {
            csr_key: info.subject_pki.subject_public_key.data.to_vec(),
            csr_body: info.raw.to_vec(),
            csr_signature: csr.signature_value.data.to_vec(),
            rsa_key: rsa.public().into(),
            rsa_signature,
            token_signature: signed.as_ref().to_vec(),
            token_key,
            token,
            leaf: vec![b'c'; LEAF_LENGTH],
            leaf_key: p256(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)?,
            random,
        };
        ensure!(
            probe.verify_csr() && probe.verify_rs256() && probe.verify_es256() && probe.sign(),
            "an operation of the bound fails"
        );
        Ok(probe)
    }

    /// Measures once, on the core that this thread is on.
    pub fn measure(&self) -> Bound {
        Bound {
            csr: microseconds(|| self.verify_csr()),
            rs256: microseconds(|| self.verify_rs256()),
            es256: microseconds(|| self.verify_es256()),
            signature: microseconds(|| self.sign()),
        }
    }

    fn verify_csr(&self) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.csr_key)
            .verify(&self.csr_body, &self.csr_signature)
            .is_ok()
    }

    fn verify_rs256(&self) -> bool {
        self.rsa_key
            .verify(&RSA_PKCS1_2048_8192_SHA256, &self.token, &self.rsa_signature)
            .is_ok()
    }

    fn verify_es256(&self) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.token_key.public_key())
            .verify(&self.token, &self.token_signature)
            .is_ok()
    }

    fn sign(&self) -> bool {
        self.leaf_key.sign(&self.random, &self.leaf).is_ok()
    }
}

fn p256(algorithm: &'static EcdsaSigningAlgorithm, random: &SystemRandom) -> Result<EcdsaKeyPair> {
    EcdsaKeyPair::generate_pkcs8(algorithm, random)
        .ok()
        .and_then(|key| EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), random).ok())
        .context("making a P-256 key failed")
}

fn microseconds(operation: impl Fn() -> bool) -> f64 {
    let start = thread_cpu();
    let done = (0..REPEATS).filter(|_| std::hint::black_box(operation())).count();
    (thread_cpu() - start).as_secs_f64() * 1e6 / done as f64
}
