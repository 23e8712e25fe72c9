//! The time that a predicate gives itself: signed with it, so nobody but its signer can move it. What follows for the
//! age of an attestation is in `attested`.

use image::Digest;
use jiff::Timestamp;
use serde_json::Value;

use crate::attested::Reading;
use crate::memo::Memo;
use crate::signers::Doubt;

/// Where the predicate types in use keep their time, as paths from the predicate's top.
pub(crate) const ANY_PREDICATE: &[&str] = &[
    // SLSA provenance v0.2 and v1
    "metadata.buildFinishedOn",
    "metadata.buildStartedOn",
    "runDetails.metadata.finishedOn",
    "runDetails.metadata.startedOn",
    // cosign vuln
    "metadata.scanFinishedOn",
    "metadata.scanStartedOn",
    // cosign custom, OpenVEX, SLSA verification summaries, CycloneDX, SPDX
    "Timestamp",
    "timestamp",
    "timeVerified",
    "metadata.timestamp",
    "creationInfo.created",
    // by custom
    "createdAt",
    "createdOn",
    "finishedOn",
];

/// What a writer of Go leaves where it was given no time; it is none.
const ZERO: &str = "0001-01-01T00:00:00Z";

/// The own times of attestations of one kind, each read once.
#[derive(Clone, Debug)]
pub(crate) struct OwnTimes {
    /// Where their predicates keep their time.
    paths: &'static [&'static str],
    /// By item.
    known: Memo<Digest, Option<Timestamp>>,
}

impl OwnTimes {
    pub(crate) fn under(paths: &'static [&'static str]) -> Self {
        Self {
            paths,
            known: Memo::default(),
        }
    }

    /// The earliest time that the attestation gives itself; None where it gives none.
    pub(crate) fn of(&self, reading: &Reading<'_>) -> Result<Option<Timestamp>, Doubt> {
        self.known.get(reading.item().clone(), || {
            let statement = reading.statement()?;
            Ok(earliest(statement.predicate(), self.paths))
        })
    }
}

/// The earliest of the times under these paths. A text that is no time (RFC 3339) is none.
pub(crate) fn earliest(predicate: &Value, paths: &[&str]) -> Option<Timestamp> {
    paths.iter().filter_map(|path| at_path(predicate, path)).min()
}

/// The latest of them.
pub(crate) fn latest(predicate: &Value, paths: &[&str]) -> Option<Timestamp> {
    paths.iter().filter_map(|path| at_path(predicate, path)).max()
}

fn at_path(predicate: &Value, path: &str) -> Option<Timestamp> {
    let found = path
        .split('.')
        .try_fold(predicate, |value, field| value.get(field))?;
    read(found.as_str()?)
}

/// A time as RFC 3339 writes it.
pub(crate) fn read(text: &str) -> Option<Timestamp> {
    let time: Timestamp = text.parse().ok()?;
    (Some(time) != ZERO.parse().ok()).then_some(time)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> Option<Timestamp> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn the_earliest_of_several_times_counts() {
        let predicate = json!({"metadata": {
            "buildStartedOn": "2026-11-22T10:00:00Z",
            "buildFinishedOn": "2026-11-22T12:30:00+02:00",
        }});
        assert_eq!(earliest(&predicate, ANY_PREDICATE), at("2026-11-22T10:00:00Z"));
    }

    #[test]
    fn c4_10_what_is_no_time_is_none() {
        for predicate in [
            json!({}),
            json!({"timestamp": "yesterday"}),
            json!({"timestamp": 1763805600}),
            json!({"timestamp": "2026-11-22T10:00:00"}),
            json!({"timestamp": "0001-01-01T00:00:00Z"}),
            json!({"metadata": {"scanFinishedOn": null}}),
            json!([]),
            json!("2026-11-22T10:00:00Z"),
        ] {
            assert_eq!(earliest(&predicate, ANY_PREDICATE), None, "{predicate}");
        }
    }
}
