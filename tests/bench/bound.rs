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

/// Different CSRs, tokens and leaves in one sample: with the same ones again and again, the processor would learn their numbers by heart.
const SAMPLES: usize = 400;
/// About the signed part of a service-account token.
const TOKEN_LENGTH: usize = 800;
/// About the to-be-signed part of a leaf.
const LEAF_LENGTH: usize = 500;

/// CPU microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bound {
    /// The self-signature of a P-256 CSR, by itself.
    pub csr: f64,
    /// An RS256 signature by a 2048-bit key, by itself.
    pub rs256: f64,
    /// An ES256 signature, by itself.
    pub es256: f64,
    /// Making a P-256 signature, by itself.
    pub signature: f64,
    /// One certificate for an RS256 token: the three in turn.
    pub with_rs256: f64,
    /// One certificate for an ES256 token: the three in turn.
    pub with_es256: f64,
}

impl Bound {
    /// One certificate.
    pub fn of(&self, tokens: Algorithm) -> f64 {
        match tokens {
            Algorithm::Rs256 => self.with_rs256,
            Algorithm::Es256 => self.with_es256,
        }
    }

    /// Operation by operation.
    pub fn median(samples: &[Self]) -> Option<Self> {
        let middle = |pick: fn(&Self) -> f64| median(&samples.iter().map(pick).collect::<Vec<_>>());
        Some(Self {
            csr: middle(|sample| sample.csr)?,
            rs256: middle(|sample| sample.rs256)?,
            es256: middle(|sample| sample.es256)?,
            signature: middle(|sample| sample.signature)?,
            with_rs256: middle(|sample| sample.with_rs256)?,
            with_es256: middle(|sample| sample.with_es256)?,
        })
    }
}

/// Keys and signatures to measure with.
pub struct Probe {
    random: SystemRandom,
    rsa_key: PublicKeyComponents<Vec<u8>>,
    token_key: EcdsaKeyPair,
    leaf_key: EcdsaKeyPair,
    cases: Vec<Case>,
}

struct Case {
    csr_key: Vec<u8>,
    csr_body: Vec<u8>,
    csr_signature: Vec<u8>,
    token: Vec<u8>,
    rs256: Vec<u8>,
    es256: Vec<u8>,
    leaf: Vec<u8>,
}

impl Probe {
    /// Makes them; `rsa_key` is PKCS#8.
    pub fn new(rsa_key: &[u8]) -> Result<Self> {
        let random = SystemRandom::new();
        let rsa = RsaKeyPair::from_pkcs8(rsa_key)
            .ok()
            .context("the RSA key is no PKCS#8 key")?;
        let token_key = p256(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)?;
        let probe = Self {
            cases: (0..SAMPLES)
                .map(|number| Case::new(number, &rsa, &token_key, &random))
                .collect::<Result<_>>()?,
            rsa_key: rsa.public().into(),
            token_key,
            leaf_key: p256(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)?,
            random,
        };
        ensure!(
            probe.cases.iter().all(|case| {
                probe.verify_csr(case) && probe.verify_rs256(case) && probe.verify_es256(case) && probe.sign(case)
            }),
            "an operation of the bound fails"
        );
        Ok(probe)
    }

    /// Measures once, on the core that this thread is on.
    pub fn measure(&self) -> Bound {
        Bound {
            csr: self.microseconds(|case| self.verify_csr(case)),
            rs256: self.microseconds(|case| self.verify_rs256(case)),
            es256: self.microseconds(|case| self.verify_es256(case)),
            signature: self.microseconds(|case| self.sign(case)),
            with_rs256: self.microseconds(|case| self.verify_csr(case) && self.verify_rs256(case) && self.sign(case)),
            with_es256: self.microseconds(|case| self.verify_csr(case) && self.verify_es256(case) && self.sign(case)),
        }
    }

    fn microseconds(&self, operation: impl Fn(&Case) -> bool) -> f64 {
        let start = thread_cpu();
        let done = self
            .cases
            .iter()
            .filter(|case| std::hint::black_box(operation(case)))
            .count();
        (thread_cpu() - start).as_secs_f64() * 1e6 / done as f64
    }

    fn verify_csr(&self, case: &Case) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &case.csr_key)
            .verify(&case.csr_body, &case.csr_signature)
            .is_ok()
    }

    fn verify_rs256(&self, case: &Case) -> bool {
        self.rsa_key
            .verify(&RSA_PKCS1_2048_8192_SHA256, &case.token, &case.rs256)
            .is_ok()
    }

    fn verify_es256(&self, case: &Case) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.token_key.public_key())
            .verify(&case.token, &case.es256)
            .is_ok()
    }

    fn sign(&self, case: &Case) -> bool {
        self.leaf_key.sign(&self.random, &case.leaf).is_ok()
    }
}

impl Case {
    fn new(number: usize, rsa: &RsaKeyPair, token_key: &EcdsaKeyPair, random: &SystemRandom) -> Result<Self> {
        let csr = CertificateParams::default().serialize_request(&KeyPair::generate()?)?;
        let (_, csr) = X509CertificationRequest::from_der(csr.der())?;
        let info = &csr.certification_request_info;
        let text = |length| format!("{number:0length$}").into_bytes();
        let token = text(TOKEN_LENGTH);
        let mut rs256 = vec![0; rsa.public().modulus_len()];
        let es256 = rsa
            .sign(&RSA_PKCS1_SHA256, random, &token, &mut rs256)
            .and_then(|()| token_key.sign(random, &token))
            .ok()
            .context("signing a token failed")?;
        Ok(Self {
            csr_key: info.subject_pki.subject_public_key.data.to_vec(),
            csr_body: info.raw.to_vec(),
            csr_signature: csr.signature_value.data.to_vec(),
            token,
            rs256,
            es256: es256.as_ref().to_vec(),
            leaf: text(LEAF_LENGTH),
        })
    }
}

fn p256(algorithm: &'static EcdsaSigningAlgorithm, random: &SystemRandom) -> Result<EcdsaKeyPair> {
    EcdsaKeyPair::generate_pkcs8(algorithm, random)
        .ok()
        .and_then(|key| EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), random).ok())
        .context("making a P-256 key failed")
}
