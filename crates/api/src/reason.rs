//! Verdicts and the stable reasons behind them.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The answer about one image under one policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Verdict {
    /// Every requirement holds.
    Compliant,
    /// At least one requirement is known not to hold.
    Violating,
    /// It cannot be told whether every requirement holds.
    Unknown,
    /// A requirement is known not to hold, and an ImageException passes over it for a while.
    Excepted,
    /// No policy covers the image.
    NotCovered,
    /// A value of a newer version; it counts as Unknown.
    #[serde(other)]
    #[schemars(skip)]
    Other,
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, out)
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Why a verdict is what it is. The names are stable: alerts and scripts rest on them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
            /// A reason of a newer version.
            #[serde(other)]
            #[schemars(skip)]
            Other,
        }

        impl Reason {
            /// Every reason this version can give, in order.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The reason as it is written in statuses.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Reason::$name => stringify!($name),)*
                    Reason::Other => "Other",
                }
            }
        }
    };
}

reasons! {
    /// Every requirement of every covering policy holds.
    AllVerified,
    /// Some running images are covered and hold, others no policy covers.
    PartlyCovered,
    /// Only policies in dry run cover the workload.
    DryRunOnly,
    /// No container of the workload runs.
    NothingRunning,
    /// The policy passes the image without evidence.
    Trusted,
    /// The repository proves that no signature exists.
    SignatureMissing,
    /// Signatures exist, none by a signer that the policy trusts.
    SignerNotTrusted,
    /// A trusted key signed something that is not a signature of this image, or nothing readable was found.
    SignatureInvalid,
    /// Fewer distinct key rings signed than the policy asks for.
    TooFewSigners,
    /// Only a key that is published ahead of use signed.
    KeyStaged,
    /// Only a disabled key signed.
    KeyDisabled,
    /// Only a revoked key signed.
    KeyRevoked,
    /// Only a key outside its validity signed.
    KeyExpired,
    /// The repository proves that no attestation of the type that the policy asks for exists.
    AttestationMissing,
    /// A trusted key signed an attestation that cannot be understood or is about another image.
    AttestationInvalid,
    /// The newest attestation is older than the policy allows.
    AttestationExpired,
    /// No attestation tells its age by a time that can be trusted.
    AttestationUndated,
    /// The newest attestation says something else than the policy asks for.
    AttestationRejected,
    /// No scan for vulnerabilities exists.
    ScanMissing,
    /// The newest scan found a vulnerability that the policy does not accept.
    VulnerabilityFound,
    /// What runs is an index, and the index itself carries no signature.
    IndexNotSigned,
    /// The digest that runs cannot be told.
    DigestUnresolved,
    /// The repository does not serve the digest that runs.
    ImageNotFound,
    /// The workload names the image by tag where the policy asks for a digest.
    TagNotPinned,
    /// The registry does not answer.
    RegistryUnavailable,
    /// The registry refuses access.
    RegistryDenied,
    /// The registry asks to wait.
    RateLimited,
    /// The evidence is larger than the limits allow to read.
    EvidenceTooLarge,
    /// A verdict that could not be refreshed for longer than the policy allows.
    Stale,
    /// The first look-up is not finished, or the container has not started.
    Pending,
    /// The policy cannot be evaluated.
    PolicyInvalid,
    /// A key ring that the policy names has no usable key.
    KeyMissing,
    /// An ImageException passes over what is wrong.
    Excepted,
    /// No policy covers the image.
    NotCovered,
}

impl Reason {
    /// Why an image may violate a policy: what an ImageException may name.
    pub const OF_VIOLATIONS: &'static [Reason] = &[
        Reason::SignatureMissing,
        Reason::SignerNotTrusted,
        Reason::SignatureInvalid,
        Reason::TooFewSigners,
        Reason::KeyStaged,
        Reason::KeyDisabled,
        Reason::KeyRevoked,
        Reason::KeyExpired,
        Reason::AttestationMissing,
        Reason::AttestationInvalid,
        Reason::AttestationExpired,
        Reason::AttestationUndated,
        Reason::AttestationRejected,
        Reason::VulnerabilityFound,
        Reason::IndexNotSigned,
        Reason::TagNotPinned,
    ];
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_of_a_newer_version_decodes_to_other() {
        let reason: Reason = serde_json::from_str("\"SomethingNew\"").unwrap();
        assert_eq!(reason, Reason::Other);
    }

    #[test]
    fn a_reason_is_written_as_it_is_read() {
        for reason in Reason::ALL {
            let text = serde_json::to_value(reason).unwrap();
            assert_eq!(text, serde_json::Value::from(reason.as_str()));
            assert_eq!(&serde_json::from_value::<Reason>(text).unwrap(), reason);
        }
    }
}
