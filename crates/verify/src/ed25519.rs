//! Ed25519 beyond what `aws-lc-rs` offers: keys that must be refused, and the pre-hashed variant Ed25519ph.
//!
//! cosign 2.6 and 3.1 sign with Ed25519ph (RFC 8032 section 5.1, empty context) under an imported Ed25519
//! key, in both formats, since its log stores digests; older cosign and other clients use plain Ed25519. Both
//! are accepted under one key: the variants are separated by the domain prefix inside the hash, so a
//! signature of one is never one of the other. (`cosign verify` 3.1.2 refuses the Ed25519ph bundles that
//! `cosign sign` made; Assay does not.) `aws-lc-rs` has no safe function for Ed25519ph; the same library
//! underneath it, AWS-LC, does, and is called here.

/// Length of an encoded public key.
pub(crate) const PUBLIC_KEY_BYTES: usize = 32;
/// Length of a signature.
const SIGNATURE_BYTES: usize = 64;

/// Whether `signature` is an Ed25519ph signature of `message` under `public_key`.
pub(crate) fn verify_prehashed(
    public_key: &[u8; PUBLIC_KEY_BYTES],
    message: &[u8],
    signature: &[u8],
) -> bool {
    let Ok(signature) = <&[u8; SIGNATURE_BYTES]>::try_from(signature) else {
        return false;
    };
    ed25519ph_verify(public_key, message, signature) == 1
}

#[allow(unsafe_code)]
fn ed25519ph_verify(
    public_key: &[u8; PUBLIC_KEY_BYTES],
    message: &[u8],
    signature: &[u8; SIGNATURE_BYTES],
) -> std::ffi::c_int {
    // SAFETY: the function reads `message_len` bytes of `message`, 64 of `signature`, 32 of `public_key` and
    // none of the context; the references guarantee those lengths, it keeps no pointer and writes nowhere.
    unsafe {
        aws_lc_sys::ED25519ph_verify(
            message.as_ptr(),
            message.len(),
            signature.as_ptr(),
            public_key.as_ptr(),
            std::ptr::null(),
            0,
        )
    }
}

/// The y-coordinates (sign bit cleared) of the points whose order divides 8: anyone can sign for such a key.
const LOW_ORDER: [&str; 5] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
];

/// Whether a key is of low order, or encoded with a y-coordinate that is not reduced modulo 2^255 - 19 (a
/// second spelling of another key, which would have a second fingerprint).
pub(crate) fn is_degenerate(public_key: &[u8; PUBLIC_KEY_BYTES]) -> bool {
    let mut y = *public_key;
    y[31] &= 0x7f;
    let not_reduced = y[0] >= 0xed && y[1..31].iter().all(|byte| *byte == 0xff) && y[31] == 0x7f;
    not_reduced || LOW_ORDER.contains(&hex::encode(y).as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    #[test]
    fn the_ed25519ph_vector_of_rfc_8032_verifies_and_no_other_message_does() {
        let key = bytes("ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf");
        let signature: [u8; 64] = bytes(
            "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41\
             31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406",
        );
        assert!(verify_prehashed(&key, b"abc", &signature));
        assert!(!verify_prehashed(&key, b"abd", &signature));
        assert!(!verify_prehashed(&key, b"abc", &signature[..63]));
    }

    #[test]
    fn b44_a_key_has_one_encoding_and_none_of_low_order_is_a_key() {
        for low in LOW_ORDER {
            let mut key: [u8; 32] = bytes(low);
            assert!(is_degenerate(&key));
            key[31] |= 0x80;
            assert!(is_degenerate(&key), "the sign bit changes nothing");
        }
        let mut unreduced = [0xff; 32];
        unreduced[31] = 0x7f;
        assert!(is_degenerate(&unreduced));
        let generator = bytes("5866666666666666666666666666666666666666666666666666666666666666");
        assert!(!is_degenerate(&generator));
    }
}
