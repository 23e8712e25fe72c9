//! Which digests may carry the attestations of what runs. (For signatures: `signature`.)
//!
//! | what runs | accept | looked at |
//! |---|---|---|
//! | anything | either, and `acceptIndexAttestations` | the digest that runs and the indexes that are proven to list it, together |
//! | anything | IndexOrPlatform | the digest that runs |
//! | a manifest | Platform | the manifest |
//! | an index | Platform | every one of its runnable platform manifests, each alone |

use image::Digest;

use crate::compile::Accept;
use crate::facts::{DigestFacts, Knowledge, Nature};
use crate::signers::Doubt;

/// What was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The manifest that runs.
    Image,
    /// The manifest that runs, and the indexes that list it.
    ImageOrIndex,
    /// The index that runs.
    Index,
    /// One platform manifest of the index that runs.
    Platform(Digest),
}

/// Where attestations are looked for.
pub(crate) struct Places<'a> {
    /// In each of these groups they must be found.
    pub(crate) groups: Vec<(Subject, Vec<&'a Knowledge>)>,
    /// What may be missing among them.
    pub(crate) doubt: Option<Doubt>,
}

impl<'a> Places<'a> {
    pub(crate) fn of(digest: &DigestFacts<'a>, accept: Accept, accept_index: bool) -> Self {
        if accept_index {
            let mut all = vec![digest.own];
            all.extend(&digest.indexes);
            return Self {
                groups: vec![(subject(digest), all)],
                doubt: digest.index_gap.map(Doubt::gap),
            };
        }
        let own = match digest.own.nature {
            Nature::Index => Subject::Index,
            Nature::Manifest | Nature::NotRead => Subject::Image,
        };
        match (accept, digest.own.nature) {
            (Accept::IndexOrPlatform, _) | (Accept::Platform, Nature::Manifest) => Self {
                groups: vec![(own, vec![digest.own])],
                doubt: None,
            },
            (Accept::Platform, Nature::Index) => {
                let group = |child: &&'a Knowledge| (Subject::Platform(child.digest.clone()), vec![*child]);
                Self {
                    groups: digest.children.iter().map(group).collect(),
                    doubt: digest.children.is_empty().then(|| not_read(digest.own)),
                }
            }
            (Accept::Platform, Nature::NotRead) => Self {
                groups: Vec::new(),
                doubt: Some(not_read(digest.own)),
            },
        }
    }
}

/// What runs, as the subject of what it and the indexes that list it carry.
pub(crate) fn subject(digest: &DigestFacts<'_>) -> Subject {
    match digest.own.nature {
        Nature::Index => Subject::Index,
        _ if digest.indexes.is_empty() => Subject::Image,
        _ => Subject::ImageOrIndex,
    }
}

/// What runs, or what it lists, is not known yet.
pub(crate) fn not_read(own: &Knowledge) -> Doubt {
    Doubt::of(&own.completeness).unwrap_or_else(Doubt::never_asked)
}
