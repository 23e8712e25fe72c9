//! Names of what the operator creates: pure and stable across restarts.

use engine::WorkloadKey;
pub(crate) use policy::cut;
use sha2::{Digest, Sha256};

use crate::inventory::BuiltIn;

/// The longest name of an object.
const LONGEST: usize = 253;
/// Hexadecimal digits of the hash that ends a name which does not fit.
const HASH_DIGITS: usize = 10;

/// The name of the ImageCompliance of a workload: `<kind>-<name>` for built-in kinds,
/// `<kind>.<group>-<name>` for others; what does not fit is cut and ends with a hash of the whole.
pub(crate) fn compliance_name(key: &WorkloadKey) -> String {
    let kind = key.kind.to_ascii_lowercase();
    let is_built_in = BuiltIn::of(&key.group, &key.kind).is_some() || key.group.is_empty();
    let whole = if is_built_in {
        format!("{kind}-{}", key.name)
    } else {
        format!("{kind}.{}-{}", key.group, key.name)
    };
    if whole.len() <= LONGEST && is_object_name(&whole) {
        whole
    } else {
        cut_and_hashed(&whole)
    }
}

/// The longest name of an object (RFC 1123).
const LONGEST_NAME: usize = 253;

/// Whether a text is a segment of a path that means nothing but itself, as every object's name is.
pub(crate) fn is_path_segment(text: &str) -> bool {
    let means_itself = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    let moves = [".", ".."].contains(&text);
    !text.is_empty() && !moves && text.len() <= LONGEST_NAME && text.bytes().all(means_itself)
}

/// Whether a text is a DNS subdomain (RFC 1123), as names of objects must be.
pub(crate) fn is_object_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        let may_end =
            |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        may_end(bytes.first())
            && may_end(bytes.last())
            && bytes
                .iter()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
    };
    text.len() <= LONGEST_NAME && text.split('.').all(is_label)
}

fn cut_and_hashed(whole: &str) -> String {
    let replaced: String = whole
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .take(LONGEST - HASH_DIGITS - 1)
        .collect();
    format!("{}-{}", replaced.trim_matches('-'), hash(&[whole], HASH_DIGITS))
}

/// The first digits of the SHA-256 of the parts, in lower-case hexadecimal; no two lists of parts
/// run together.
pub(crate) fn hash(parts: &[&str], digits: usize) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_be_bytes());
        hasher.update(part);
    }
    let mut text: String = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    text.truncate(digits);
    text
}

#[cfg(test)]
mod tests {
    use engine::WorkloadNames;

    use super::*;

    fn name(group: &str, kind: &str, name: &str) -> String {
        let key = WorkloadKey::from(WorkloadNames {
            namespace: "shop".into(),
            group: group.into(),
            kind: kind.into(),
            name: name.into(),
        });
        compliance_name(&key)
    }

    #[test]
    fn built_in_kinds_are_named_without_their_group() {
        assert_eq!(name("apps", "Deployment", "web"), "deployment-web");
        assert_eq!(name("batch", "CronJob", "nightly"), "cronjob-nightly");
        assert_eq!(name("", "Pod", "debug"), "pod-debug");
    }

    /// B55.
    #[test]
    fn a_custom_kind_never_takes_the_name_of_a_built_in_one() {
        assert_eq!(name("argoproj.io", "Rollout", "web"), "rollout.argoproj.io-web");
        assert_ne!(
            name("other.io", "Deployment", "web"),
            name("apps", "Deployment", "web")
        );
    }

    #[test]
    fn a_name_that_does_not_fit_is_cut_and_ends_with_a_hash_of_the_whole() {
        let (long, longer) = ("a".repeat(252), "a".repeat(253));
        let (one, two) = (
            name("apps", "Deployment", &long),
            name("apps", "Deployment", &longer),
        );
        assert_ne!(one, two);
        for name in [one, two] {
            assert_eq!(name.len(), LONGEST);
            assert!(is_object_name(&name), "{name}");
        }
        assert_eq!(name("", "Pod", &"a".repeat(249)).len(), LONGEST);
        assert!(!name("", "Pod", &"a".repeat(249)).contains("a-"));
    }

    #[test]
    fn a_cut_never_leaves_a_name_that_the_api_server_refuses() {
        for owner in [
            format!("{}.b", "a".repeat(240)),
            "system:node".to_owned(),
            "A_b".to_owned(),
        ] {
            let name = name("apps", "Deployment", &owner);
            assert!(is_object_name(&name) && name.len() <= LONGEST, "{name}");
        }
    }

    #[test]
    fn parts_of_a_hash_do_not_run_together() {
        assert_ne!(hash(&["ab", "c"], 20), hash(&["a", "bc"], 20));
        assert_eq!(hash(&["a"], 20).len(), 20);
    }

    #[test]
    fn a_cut_counts_characters_and_shows_that_something_is_missing() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
    }
}
