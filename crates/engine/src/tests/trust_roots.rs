//! Keys that name a trust root.

use std::sync::Arc;

use api::Stage;

use super::world::{Signer, key_spec};
use crate::fact::KeyFacts;
use crate::keys::KeySet;

fn key_with_root(set: &mut KeySet, root: &str) {
    let mut spec = key_spec("release", &Signer::new(), Stage::Active);
    spec.trust_root = Some(root.to_owned());
    set.insert(KeyFacts {
        name: "release-1".into(),
        generation: 1,
        spec: Ok(spec),
    });
}

fn problem(set: &KeySet) -> String {
    let object = set.object("release-1").unwrap();
    object.verifier.as_ref().err().cloned().unwrap_or_default()
}

/// C4.12, B46: a trust root that is missing, or cannot be used, makes the key unreadable; it is never used without.
#[test]
fn a_key_that_names_a_trust_root_is_readable_only_while_there_is_one() {
    let mut set = KeySet::default();
    key_with_root(&mut set, "own");
    assert!(
        problem(&set).contains("there is no TrustRoot own"),
        "{}",
        problem(&set)
    );
    assert!(!set.ring_is_usable("release"));

    let rings = set.set_trust_root("own".into(), Some(Err("not JSON".to_owned())));
    assert!(rings.is_empty(), "unreadable before and after");
    assert!(
        problem(&set).contains("TrustRoot own cannot be used: not JSON"),
        "{}",
        problem(&set)
    );

    let root = Arc::new(verify::TrustRoot::from_json(ROOT.as_bytes()).unwrap());
    let rings = set.set_trust_root("own".into(), Some(Ok(root)));
    assert_eq!(rings, [Arc::from("release")].into());
    assert_eq!(problem(&set), "");

    let rings = set.set_trust_root("own".into(), None);
    assert_eq!(rings, [Arc::from("release")].into());
    assert!(
        problem(&set).contains("there is no TrustRoot own"),
        "{}",
        problem(&set)
    );
}

/// A log alone, whose key verifies nothing.
const ROOT: &str = r#"{
    "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
    "tlogs": [{
        "baseUrl": "https://log.example.com", "hashAlgorithm": "SHA2_256",
        "publicKey": {"rawBytes": "MCowBQYDK2VwAyEAt8rlp1knGwjfbcXAYPYAkn0XiLz1x8O4t0YkEhie244=", "keyDetails": "PKIX_ED25519", "validFor": {"start": "2026-01-01T00:00:00Z"}},
        "logId": {"keyId": "AAAA"}
    }]
}"#;
