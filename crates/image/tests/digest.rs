//! Digests: strict text form, hashing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use assay_image::{Algorithm, Digest, DigestError};

const EMPTY_SHA256: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const ABC_SHA512: &str = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                          2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";

fn digest(text: &str) -> Digest {
    text.parse().unwrap()
}

#[test]
fn a_digest_is_the_hash_of_its_content() {
    assert_eq!(Digest::sha256(b"").to_string(), EMPTY_SHA256);
    assert_eq!(Digest::sha512(b"abc").to_string(), ABC_SHA512);
    assert!(digest(EMPTY_SHA256).matches(b""));
    assert!(!digest(EMPTY_SHA256).matches(b" "));
    assert!(digest(ABC_SHA512).matches(b"abc"));
    assert_eq!(digest(ABC_SHA512).algorithm(), Algorithm::Sha512);
}

#[test]
fn the_written_form_survives_text_and_json() {
    for text in [EMPTY_SHA256, ABC_SHA512] {
        assert_eq!(digest(text).to_string(), text);
        let json = serde_json::to_string(&digest(text)).unwrap();
        assert_eq!(json, format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest(text));
    }
    assert_eq!(digest(EMPTY_SHA256).tag_prefix(), EMPTY_SHA256.replace(':', "-"));
}

/// Weakened once: with what is longer cut to the length of a digest, such texts are read.
#[test]
fn b18_what_is_not_a_strict_digest_is_refused() {
    let hex = &EMPTY_SHA256["sha256:".len()..];
    let cases = [
        String::new(),
        "sha256:".to_owned(),
        "sha256:../../etc/passwd".to_owned(),
        format!("sha256:{}", &hex[..63]),
        format!("sha256:{hex}0"),
        format!("sha256:{}", hex.to_uppercase()),
        format!("SHA256:{hex}"),
        format!("sha256-{hex}"),
        format!(" sha256:{hex}"),
        format!("sha256:{hex}\n"),
        format!("sha512:{hex}"),
        format!("sha384:{hex}{}", &hex[..32]),
        format!("md5:{}", &hex[..32]),
        hex.to_owned(),
        format!("sha256:{}é", &hex[..62]),
        format!("sha256:sha256:{hex}"),
    ];
    for case in cases {
        assert!(case.parse::<Digest>().is_err(), "{case:?} was taken for a digest");
        assert!(serde_json::from_str::<Digest>(&serde_json::to_string(&case).unwrap()).is_err());
    }
}

#[test]
fn messages_say_what_is_expected_and_stay_short() {
    let wrong = "sha256:abc".parse::<Digest>().unwrap_err();
    assert!(
        matches!(
            wrong,
            DigestError::Length {
                length: 3,
                expected: 64,
                ..
            }
        ),
        "{wrong:?}"
    );
    let long = "x".repeat(100_000).parse::<Digest>().unwrap_err();
    assert!(long.to_string().len() < 300);
}

#[test]
fn digests_sort_as_their_written_form() {
    let mut digests: Vec<Digest> = (0..50_u8).map(|n| Digest::sha256(&[n])).collect();
    digests.extend((0..50_u8).map(|n| Digest::sha512(&[n])));
    let mut texts: Vec<String> = digests.iter().map(ToString::to_string).collect();
    digests.sort();
    texts.sort();
    assert_eq!(digests.iter().map(ToString::to_string).collect::<Vec<_>>(), texts);
}
