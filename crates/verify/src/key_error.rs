//! Why a text is not a public key that Assay can trust signatures to, in words for the person who pasted it.
//! The parsing itself is in `pem` and `spki`.

/// What every message about a refused key ends on.
const EXPECTED: &str = "expected one PEM block `PUBLIC KEY` (SPKI) of type ECDSA P-256, ECDSA P-384, Ed25519 or RSA of 2048 to 8192 bits";

/// Why a public key was refused. Each message names what was found and what is expected instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text has no `-----BEGIN …-----` line.
    #[error("found no PEM block{}; {EXPECTED}", hint_for_other_text(.starts_with))]
    NoPemBlock {
        /// The first characters of the text, to recognise other key formats.
        starts_with: String,
    },
    /// More than one PEM block: which one would be trusted is not for a parser to choose.
    #[error("found {count} PEM blocks; {EXPECTED}: give each key a SigningKey of its own")]
    SeveralPemBlocks {
        /// Number of `BEGIN` lines.
        count: usize,
    },
    /// There is text before or after the block.
    #[error("found text outside the PEM block ({text:?}); remove it: {EXPECTED}")]
    TextOutsidePemBlock {
        /// The first such line, shortened.
        text: String,
    },
    /// The block carries another label than `PUBLIC KEY`.
    #[error("found {}; {EXPECTED}", describe_label(.label))]
    NotAPublicKey {
        /// The label, as in `-----BEGIN <label>-----`.
        label: String,
    },
    /// The `END` line is missing or names something else, or the body is not base64.
    #[error("the PEM block does not decode: {why}; {EXPECTED}")]
    MalformedPem {
        /// What is wrong with it.
        why: String,
    },
    /// The block's content is not a DER SubjectPublicKeyInfo.
    #[error("the PEM block holds no SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7): {why}; {EXPECTED}")]
    MalformedSpki {
        /// What the DER parser found.
        why: String,
    },
    /// A public key of a type that Assay does not verify with.
    #[error("found a key of type {found}; {EXPECTED}")]
    UnsupportedType {
        /// The name of the type, or its object identifier.
        found: String,
    },
    /// An RSA modulus outside the accepted range.
    #[error("found an RSA key of {bits} bits; {EXPECTED}")]
    RsaSize {
        /// Bits of the modulus.
        bits: usize,
    },
    /// An elliptic curve point that is not written in the uncompressed form.
    #[error(
        "found an EC key whose point is not in the uncompressed form; rewrite it with \
         `openssl ec -pubin -in key.pem -conv_form uncompressed`; {EXPECTED}"
    )]
    PointNotUncompressed,
    /// The numbers are no valid key of their type: a point off the curve, a degenerate exponent or modulus.
    #[error("found a key of type {found} that is not valid: {why}; {EXPECTED}")]
    InvalidKey {
        /// The type the key claims.
        found: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The text is longer than any supported key.
    #[error("found {found} bytes where a public key takes at most {limit}; {EXPECTED}")]
    TooLong {
        /// Bytes given.
        found: usize,
        /// Bytes accepted.
        limit: usize,
    },
}

fn hint_for_other_text(starts_with: &str) -> &'static str {
    if starts_with.starts_with("ssh-") || starts_with.starts_with("ecdsa-sha2-") {
        ", but an SSH public key (convert it with `ssh-keygen -e -m PKCS8 -f key.pub`)"
    } else if starts_with.trim().is_empty() {
        ", the text is empty"
    } else if starts_with.starts_with('{') {
        ", but JSON"
    } else {
        ""
    }
}

fn describe_label(label: &str) -> String {
    match label {
        "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => {
            format!(
                "a certificate (`{label}`): print its key with `openssl x509 -in cert.pem -pubkey -noout`"
            )
        }
        "RSA PUBLIC KEY" => "a PKCS#1 key (`RSA PUBLIC KEY`): convert it with \
                             `openssl rsa -RSAPublicKey_in -in key.pem -pubout`"
            .to_owned(),
        "PGP PUBLIC KEY BLOCK" => "an OpenPGP key (`PGP PUBLIC KEY BLOCK`)".to_owned(),
        "SSH2 PUBLIC KEY" => {
            "an SSH key (`SSH2 PUBLIC KEY`): convert it with `ssh-keygen -e -m PKCS8 -f key.pub`".to_owned()
        }
        _ if label.contains("PRIVATE KEY") => format!(
            "a private key (`{label}`), which belongs into no cluster object: consider it exposed, make a new pair, \
             and give the public half (`cosign public-key --key cosign.key`, `openssl pkey -in key.pem -pubout`)"
        ),
        _ => format!("a PEM block `{label}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_says_what_is_expected() {
        let errors = [
            KeyError::NoPemBlock {
                starts_with: "ssh-ed25519 AAAA".into(),
            },
            KeyError::SeveralPemBlocks { count: 2 },
            KeyError::TextOutsidePemBlock { text: "x".into() },
            KeyError::NotAPublicKey {
                label: "CERTIFICATE".into(),
            },
            KeyError::MalformedPem { why: "x".into() },
            KeyError::MalformedSpki { why: "x".into() },
            KeyError::UnsupportedType {
                found: "ECDSA P-521".into(),
            },
            KeyError::RsaSize { bits: 1024 },
            KeyError::PointNotUncompressed,
            KeyError::InvalidKey {
                found: "RSA".into(),
                why: "x",
            },
            KeyError::TooLong { found: 9, limit: 8 },
        ];
        for error in errors {
            assert!(
                error.to_string().contains("expected one PEM block `PUBLIC KEY`"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_pasted_private_key_is_called_exposed() {
        for label in [
            "EC PRIVATE KEY",
            "ENCRYPTED SIGSTORE PRIVATE KEY",
            "PRIVATE KEY",
            "OPENSSH PRIVATE KEY",
        ] {
            let message = KeyError::NotAPublicKey { label: label.into() }.to_string();
            assert!(
                message.contains(label) && message.contains("exposed"),
                "{message}"
            );
        }
    }
}
