//! Signers, documents and fixtures for the tests of this crate.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

pub mod asking;
pub mod der;
pub mod private;

use std::path::PathBuf;

use assay_verify::{Item, Outcome, PublicKey, Verifier, verify};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use image::Digest;
use serde_json::{Value, json};

pub const COSIGN_SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// A key pair.
pub enum Signer {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl Signer {
    pub fn p256() -> Self {
        Self::Ecdsa(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
    }

    /// One signer of each key type.
    pub fn of_each_type() -> Vec<(&'static str, Self)> {
        vec![
            ("ECDSA-P256", Self::p256()),
            (
                "ECDSA-P384",
                Self::Ecdsa(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap()),
            ),
            ("Ed25519", Self::Ed25519(Ed25519KeyPair::generate().unwrap())),
            ("RSA-2048", Self::rsa(KeySize::Rsa2048)),
        ]
    }

    pub fn rsa(size: KeySize) -> Self {
        Self::Rsa(RsaKeyPair::generate(size).unwrap())
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ecdsa(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .unwrap();
                signature
            }
        }
    }

    pub fn spki(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match self {
            Self::Ecdsa(pair) => pair.public_key().as_der().unwrap(),
            Self::Ed25519(pair) => pair.public_key().as_der().unwrap(),
            Self::Rsa(pair) => pair.public_key().as_der().unwrap(),
        };
        der.as_ref().to_vec()
    }

    pub fn public(&self) -> PublicKey {
        PublicKey::from_pem(&pem("PUBLIC KEY", &self.spki())).unwrap()
    }

    /// The item of a simple-signing payload signed by this signer.
    pub fn simple_signing(&self, payload: impl AsRef<[u8]>) -> Item {
        let payload = payload.as_ref();
        Item::from_simple_signing(
            Bytes::copy_from_slice(payload),
            &STANDARD.encode(self.sign(payload)),
        )
    }

    /// The JSON of a bundle around a payload signed by this signer.
    pub fn bundle(&self, payload_type: &str, payload: impl AsRef<[u8]>) -> Value {
        let payload = payload.as_ref();
        let signature = self.sign(&pae(payload_type, payload));
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": "aGludA=="}},
            "dsseEnvelope": {
                "payload": STANDARD.encode(payload),
                "payloadType": payload_type,
                "signatures": [{"sig": STANDARD.encode(signature)}],
            },
        })
    }

    /// The item of a bundle around a statement signed by this signer.
    pub fn statement(&self, statement: impl AsRef<[u8]>) -> Item {
        item(&self.bundle(IN_TOTO, statement))
    }
}

/// Written apart from the crate's own encoding, from the text of the DSSE specification.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = b"DSSEv1".to_vec();
    for part in [payload_type.as_bytes(), payload] {
        bytes.extend_from_slice(format!(" {} ", part.len()).as_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

pub fn item(bundle: &Value) -> Item {
    Item::from_bundle(bundle.to_string().as_bytes())
}

pub fn pem(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let lines: Vec<&str> = base64
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// Asks a key about an item, and nothing else.
pub fn verify_signature(item: &Item, subject: &Digest, key: &PublicKey) -> Outcome {
    verify(item, subject, &Verifier::by_key(key.clone()))
}

/// The digest most tests sign.
pub fn subject() -> Digest {
    Digest::sha256(b"the image")
}

/// A digest nobody signs.
pub fn other_subject() -> Digest {
    Digest::sha256(b"another image")
}

pub fn payload(subject: &Digest) -> String {
    format!(
        r#"{{"critical":{{"identity":{{"docker-reference":"registry.example.com/shop/web"}},"image":{{"docker-manifest-digest":"{subject}"}},"type":"cosign container image signature"}},"optional":null}}"#
    )
}

pub fn statement(subject: &Digest, predicate_type: &str) -> String {
    let hex = subject.hex();
    format!(
        r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"digest":{{"sha256":"{hex}"}}}}],"predicateType":"{predicate_type}","predicate":{{}}}}"#
    )
}

/// A file that `hack/verify-fixtures.sh` made.
pub fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn fixture_text(name: &str) -> String {
    String::from_utf8(fixture(name)).unwrap().trim().to_owned()
}

pub fn fixture_key(name: &str) -> PublicKey {
    PublicKey::from_pem(&fixture_text(&format!("{name}.pub"))).unwrap()
}

/// The digest that all fixtures are about.
pub fn fixture_subject() -> Digest {
    fixture_text("digest").parse().unwrap()
}

pub fn fixture_simple_signing(name: &str) -> Item {
    Item::from_simple_signing(
        fixture(&format!("{name}.payload")).into(),
        &fixture_text(&format!("{name}.sig")),
    )
}

pub fn fixture_bundle(name: &str) -> Item {
    Item::from_bundle(&fixture(&format!("{name}.bundle.json")))
}
