//! Which texts are keys, what a refusal says, and that a key has one name (B44).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::process::Command;

use assay_verify::{KeyAlgorithm, KeyError, PublicKey};
use aws_lc_rs::rsa::KeySize;
use common::{Signer, pem};
use spki::SubjectPublicKeyInfoRef;
use spki::der::asn1::UintRef;
use spki::der::{Decode, Reader, SliceReader};

fn refusal(text: &str) -> (KeyError, String) {
    let error = PublicKey::from_pem(text).unwrap_err();
    let message = error.to_string();
    (error, message)
}

/// Output of a shell pipeline around the openssl command.
fn openssl(pipeline: &str) -> String {
    let output = Command::new("sh").arg("-c").arg(pipeline).output().unwrap();
    assert!(
        output.status.success(),
        "{pipeline}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn public_half_of(generate: &str) -> String {
    openssl(&format!("openssl {generate} 2>/dev/null | openssl pkey -pubout"))
}

#[test]
fn every_supported_type_is_read_as_openssl_writes_it() {
    let keys = [
        (
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
            KeyAlgorithm::EcdsaP256,
            "ECDSA-P256",
        ),
        (
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384",
            KeyAlgorithm::EcdsaP384,
            "ECDSA-P384",
        ),
        ("genpkey -algorithm ed25519", KeyAlgorithm::Ed25519, "Ed25519"),
        ("genrsa 2048", KeyAlgorithm::Rsa { bits: 2048 }, "RSA-2048"),
        ("genrsa 3072", KeyAlgorithm::Rsa { bits: 3072 }, "RSA-3072"),
        ("genrsa -3 2056", KeyAlgorithm::Rsa { bits: 2056 }, "RSA-2056"),
    ];
    for (generate, algorithm, shown) in keys {
        let text = public_half_of(generate);
        let key = PublicKey::from_pem(&text).unwrap();
        assert_eq!(key.algorithm(), algorithm);
        assert_eq!(key.algorithm().to_string(), shown);
        assert_eq!(
            PublicKey::from_pem(&format!("\n  {}\r\n\n", text.replace('\n', "\r\n"))).unwrap(),
            key
        );
    }
}

#[test]
fn every_unsupported_type_is_named_in_the_refusal() {
    let keys = [
        (
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521",
            "ECDSA P-521",
        ),
        (
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1",
            "ECDSA secp256k1",
        ),
        (
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit",
            "EC with explicit",
        ),
        ("genrsa 1024", "RSA key of 1024 bits"),
        ("genrsa 2040", "RSA key of 2040 bits"),
        (
            "genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048",
            "RSASSA-PSS",
        ),
        ("genpkey -algorithm x25519", "X25519"),
        ("genpkey -algorithm ed448", "Ed448"),
    ];
    for (generate, named) in keys {
        let (_, message) = refusal(&public_half_of(generate));
        assert!(
            message.contains(named) && message.contains("expected"),
            "{generate}: {message}"
        );
    }
}

#[test]
fn a_text_that_is_no_public_key_is_called_what_it_is() {
    let key = pem("PUBLIC KEY", &Signer::p256().spki());
    let texts = [
        (String::new(), "the text is empty"),
        (
            "ssh-ed25519 AAAAC3Nz release@example.com".into(),
            "SSH public key",
        ),
        ("{\"kty\":\"EC\"}".into(), "JSON"),
        (format!("{key}{key}"), "2 PEM blocks"),
        (
            format!("# the release key\n{key}"),
            "text outside the PEM block (\"# the release key\")",
        ),
        (
            format!("{key}trailing"),
            "text outside the PEM block (\"trailing\")",
        ),
        (pem("CERTIFICATE", b"x"), "a certificate"),
        (pem("EC PRIVATE KEY", b"x"), "a private key"),
        (pem("ENCRYPTED SIGSTORE PRIVATE KEY", b"x"), "a private key"),
        (pem("RSA PUBLIC KEY", b"x"), "PKCS#1"),
        (pem("PGP PUBLIC KEY BLOCK", b"x"), "OpenPGP"),
        (
            key.replace("-----END PUBLIC KEY-----", ""),
            "there is no `-----END PUBLIC KEY-----` line",
        ),
        (key.replace("END PUBLIC", "END PRIVATE"), "the closing line"),
        (key.replacen("M", "!", 1), "does not decode"),
        (pem("PUBLIC KEY", b"not DER"), "holds no SubjectPublicKeyInfo"),
        (pem("PUBLIC KEY", b""), "holds no SubjectPublicKeyInfo"),
        ("A".repeat(100_000), "100000 bytes"),
    ];
    for (text, named) in texts {
        let (_, message) = refusal(&text);
        assert!(
            message.contains(named) && message.contains("expected one PEM block"),
            "{message}"
        );
    }
}

#[test]
fn bytes_after_the_key_are_refused() {
    for (name, signer) in Signer::of_each_type() {
        let mut der = signer.spki();
        der.push(0);
        assert!(
            matches!(
                refusal(&pem("PUBLIC KEY", &der)).0,
                KeyError::MalformedSpki { .. }
            ),
            "{name}"
        );
    }
}

#[test]
fn a_point_that_is_compressed_or_off_its_curve_is_refused() {
    let text = openssl(
        "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 2>/dev/null \
         | openssl ec -pubout -conv_form compressed 2>/dev/null",
    );
    assert_eq!(refusal(&text).0, KeyError::PointNotUncompressed);
    let mut der = Signer::p256().spki();
    *der.last_mut().unwrap() ^= 1;
    assert!(matches!(
        refusal(&pem("PUBLIC KEY", &der)).0,
        KeyError::InvalidKey { .. }
    ));
}

/// The SPKI of an RSA key from its parts: its parameters in DER and its big-endian numbers.
fn rsa_spki(parameters: &[u8], modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let integer = |bytes: &[u8]| {
        tlv(
            2,
            &[if bytes[0] & 0x80 == 0 { &[][..] } else { &[0][..] }, bytes].concat(),
        )
    };
    let numbers = tlv(0x30, &[integer(modulus), integer(exponent)].concat());
    let oid = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    let algorithm = tlv(0x30, &[&oid, parameters].concat());
    tlv(0x30, &[algorithm, tlv(3, &[vec![0], numbers].concat())].concat())
}

fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend_from_slice(value);
    out
}

fn modulus(signer: &Signer) -> Vec<u8> {
    let spki = signer.spki();
    let key = SubjectPublicKeyInfoRef::from_der(&spki)
        .unwrap()
        .subject_public_key;
    let mut numbers = SliceReader::new(key.raw_bytes()).unwrap();
    let modulus = numbers.sequence(|inner| {
        let modulus: UintRef<'_> = inner.decode()?;
        let _exponent: UintRef<'_> = inner.decode()?;
        Ok::<_, spki::der::Error>(modulus)
    });
    modulus.unwrap().as_bytes().to_vec()
}

#[test]
fn b44_an_rsa_key_with_null_and_with_absent_parameters_is_one_key() {
    let signer = Signer::rsa(KeySize::Rsa2048);
    let modulus = modulus(&signer);
    let with = |parameters: &[u8]| {
        PublicKey::from_pem(&pem("PUBLIC KEY", &rsa_spki(parameters, &modulus, &[1, 0, 1])))
    };
    let (null, absent) = (with(&[5, 0]).unwrap(), with(&[]).unwrap());
    assert_eq!(null.fingerprint(), absent.fingerprint());
    assert_eq!(null.fingerprint(), signer.public().fingerprint());
    assert!(
        matches!(with(&[4, 0]), Err(KeyError::InvalidKey { .. })),
        "an octet string as parameters"
    );
}

#[test]
fn a_degenerate_rsa_key_is_refused() {
    let mut modulus = modulus(&Signer::rsa(KeySize::Rsa2048));
    let refused = |modulus: &[u8], exponent: &[u8], why: &str| {
        let (error, message) = refusal(&pem("PUBLIC KEY", &rsa_spki(&[5, 0], modulus, exponent)));
        assert!(
            matches!(error, KeyError::InvalidKey { .. }) && message.contains(why),
            "{message}"
        );
    };
    for exponent in [&[1][..], &[2], &[1, 0, 0]] {
        refused(&modulus, exponent, "public exponent is even or 1");
    }
    for exponent in [&[1, 0, 0, 0, 1][..], &[1, 0, 0, 0, 0, 0, 0, 0, 1]] {
        refused(&modulus, exponent, "public exponent is longer than 32 bits");
    }
    *modulus.last_mut().unwrap() &= 0xfe;
    refused(&modulus, &[1, 0, 1], "modulus is even");
}

#[test]
fn b44_an_ed25519_key_that_anybody_can_sign_for_is_refused() {
    let prefix = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
    let mut identity = [0_u8; 32];
    identity[0] = 1;
    let text = pem("PUBLIC KEY", &[&prefix[..], &identity].concat());
    assert!(matches!(refusal(&text).0, KeyError::InvalidKey { .. }));
}
