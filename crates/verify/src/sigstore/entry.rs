//! One entry of a transparency log (Rekor v1 and v2), verified alone and under the one log that it names.

use jiff::Timestamp;
use serde_json::Value;
use sigstore_verify::types::{KindVersion, MediaType, TransparencyLogEntry};

use super::{Examination, Holder, Promise, Stamp, Unproven};
use crate::outcome::Refusal;

impl Examination<'_> {
    /// The time at which the log took the entry in, if the log signed one: Rekor v2 does not.
    pub(super) fn entry(
        &self,
        value: &Value,
        chain: &[Vec<u8>],
        stamps: &[Stamp],
    ) -> Result<Option<Timestamp>, Unproven> {
        let invalid = |why: String| Refusal::LogInvalid { why };
        let entry: TransparencyLogEntry = serde_json::from_value(value.clone())
            .map_err(|error| invalid(format!("it cannot be read: {error}")))?;
        let log = self.log_of(&entry).map_err(invalid)?;
        let media_type = self.form(&entry).map_err(invalid)?;
        check_proof_repeats_checkpoint(&entry).map_err(invalid)?;
        // Signed, or else the client fails below: a promise covers the time.
        let integrated = entry
            .integrated_time
            .filter(|_| entry.inclusion_promise.is_some());
        self.check_log_was_valid(log, integrated, stamps)
            .map_err(invalid)?;
        let times = stamps.iter().map(|stamp| stamp.at).chain(integrated);
        let kept = self.kept_at(times, stamps, Some(log))?;
        let bundle = self.bundle(media_type, chain, Some(entry), stamps)?;
        let answer = self.ask(&bundle, &kept, true)?;
        Ok(answer.integrated_time())
    }

    /// The place of the log that the entry names in the root.
    fn log_of(&self, entry: &TransparencyLogEntry) -> Result<usize, String> {
        let id = entry.log_id.key_id.as_bytes();
        self.root
            .logs
            .iter()
            .position(|log| log.id == id)
            .ok_or_else(|| "the trust root does not name the log that it is in".to_owned())
    }

    /// Where a promise is not enough, a bundle of the version that demands a proof is made of it.
    fn form(&self, entry: &TransparencyLogEntry) -> Result<MediaType, String> {
        match (&entry.inclusion_proof, &entry.inclusion_promise, self.promise) {
            (Some(_), _, _) => Ok(MediaType::Bundle0_2),
            (None, Some(_), Promise::Suffices) => Ok(MediaType::Bundle0_1),
            (None, Some(_), Promise::NeedsProof) => {
                Err("it has a promise, but no proof that it is in the log".into())
            }
            (None, None, _) => Err("it has neither a proof nor a promise that it is in the log".into()),
        }
    }

    /// A log's key counts only within its validity: at the time that the log itself signed, else at the earliest
    /// timestamp. Without any time only a key that is still in use can be believed.
    fn check_log_was_valid(
        &self,
        log: usize,
        integrated: Option<Timestamp>,
        stamps: &[Stamp],
    ) -> Result<(), String> {
        let Some(log) = self.root.logs.get(log) else {
            return Err("the trust root does not name the log that it is in".into());
        };
        let time = integrated.or_else(|| stamps.iter().map(|stamp| stamp.at).min());
        match (time, self.holder) {
            (Some(time), _) if log.valid.contains(time) => Ok(()),
            (Some(time), _) => Err(format!("the log's key was not valid at {time}")),
            (None, Holder::Certificate(_)) => {
                Err("the log gives no time, and no timestamp that verifies does".into())
            }
            (None, Holder::Key(_)) if log.valid.end.is_none() => Ok(()),
            (None, Holder::Key(_)) => {
                Err("the log's key has an end, and nobody vouches for a time before it".into())
            }
        }
    }
}

/// A proof repeats what the signed checkpoint beside it says. Sigstore's client believes the checkpoint alone of Rekor
/// v2, and of Rekor v1 does not compare the tree's size; here no byte of a proof may say something else.
fn check_proof_repeats_checkpoint(entry: &TransparencyLogEntry) -> Result<(), String> {
    let Some(proof) = &entry.inclusion_proof else {
        return Ok(());
    };
    let checkpoint = proof
        .checkpoint
        .checkpoint()
        .ok_or("its proof has no checkpoint of the log")?;
    if checkpoint.root_hash() != &proof.root_hash {
        return Err("the rootHash of its proof is not the root in the log's checkpoint".into());
    }
    if checkpoint.tree_size() != proof.tree_size {
        return Err(format!(
            "the treeSize of its proof is {}, but {} in the log's checkpoint",
            proof.tree_size,
            checkpoint.tree_size()
        ));
    }
    // In Rekor v1 the one counts the entries of all trees, the other those of one.
    let is_rekor_2 = entry.kind_version == KindVersion::HashedRekordV002;
    if is_rekor_2 && entry.log_index != proof.log_index {
        return Err("its logIndex is not that of its proof".into());
    }
    Ok(())
}
