//! Versions of objects, and what others did to an object while it was written.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The version of an object (`metadata.resourceVersion`): text to everybody but the API server that
/// made it, and a number from Kubernetes 1.35 on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourceVersion(String);

impl ResourceVersion {
    /// The version of the object with this metadata.
    pub(crate) fn of(metadata: &ObjectMeta) -> Self {
        ResourceVersion(metadata.resource_version.clone().unwrap_or_default())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this version of an object, which was told later, is newer than the other. Numbers are
    /// compared; where one is none, two that differ count as news: looking once more costs little, and
    /// a change of somebody else that is taken for old is lost.
    pub(crate) fn is_newer_than(&self, other: &ResourceVersion) -> bool {
        match (self.0.parse::<u128>(), other.0.parse::<u128>()) {
            (Ok(one), Ok(other)) => one > other,
            _ => self != other,
        }
    }
}

/// Whether somebody else changed an object while this process wrote it.
#[must_use = "what somebody else did must be put right"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meanwhile {
    Untouched,
    ChangedByOthers,
}

impl Meanwhile {
    pub(crate) fn of(changed_by_others: bool) -> Self {
        if changed_by_others {
            Meanwhile::ChangedByOthers
        } else {
            Meanwhile::Untouched
        }
    }
}

impl From<&str> for ResourceVersion {
    fn from(version: &str) -> Self {
        ResourceVersion(version.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_newer(one: &str, other: &str) -> bool {
        ResourceVersion::from(one).is_newer_than(&other.into())
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(is_newer("10", "9"));
        assert!(!is_newer("9", "10"));
        assert!(!is_newer("9", "9"));
    }

    #[test]
    fn what_cannot_be_compared_counts_as_news_unless_it_is_the_same() {
        assert!(is_newer("b", "a") && is_newer("a", "b"));
        assert!(is_newer("", "7") && is_newer("7", ""));
        assert!(!is_newer("a", "a"));
    }
}
