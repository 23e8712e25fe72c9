//! What comes with a signature and is not covered by it: certificates, log entries, timestamps. Kept as it was found;
//! `sigstore` finds out what it is worth, where a verifier asks.

use std::sync::{Arc, LazyLock};

use serde_json::Value;

use crate::key::Fingerprint;

/// The verification material of one item.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Material {
    /// The signer's certificate, then those above it, each in DER; None where a key is to be used. What could not be
    /// decoded is here as no bytes.
    pub(crate) certificates: Option<Vec<Vec<u8>>>,
    /// Log entries (`TransparencyLogEntry` of sigstore_rekor.proto, in JSON).
    pub(crate) entries: Vec<Value>,
    /// RFC 3161 time-stamp responses in DER.
    pub(crate) timestamps: Vec<Vec<u8>>,
    /// What else than the signature the timestamps may be over: beside an attestation in the tag format that of cosign 2
    /// is over the envelope, that of cosign 3 over the signature.
    pub(crate) envelope: Option<bytes::Bytes>,
    /// A log's signed promise is enough, as in cosign's tag format. What a registry lists as a bundle always needs a
    /// proof, whatever version it says it is: its media type is not signed.
    pub(crate) promise_suffices: bool,
    /// Whose key it is, as the bundle says. Anybody can write that.
    pub(crate) key_hint: Option<Fingerprint>,
    /// The bundle says that it is of version 0.1, in which a promise is enough: for a bundle that a person hands over.
    pub(crate) is_version_0_1: bool,
}

impl Material {
    /// The same, of which signatures that come with nothing share one copy: that is most of those made with a key.
    pub(crate) fn shared(self) -> Arc<Self> {
        static NOTHING: LazyLock<[Arc<Material>; 2]> = LazyLock::new(|| {
            [false, true].map(|promise_suffices| {
                Arc::new(Material {
                    promise_suffices,
                    ..Material::default()
                })
            })
        });
        let nothing = NOTHING.iter().find(|nothing| ***nothing == self);
        nothing.cloned().unwrap_or_else(|| Arc::new(self))
    }
}
