//! One digest at every place where it may be: the sources of its repository in order, until one settles it. What
//! they hold is united; only an authoritative source proves that something does not exist.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Reason;
use image::{Digest, Repository};
use policy::Gap;
use registry::Source;

use super::gap::Shortfall;
use super::ways::{Found, united};
use super::{DigestPass, Evidence, Known, Look, Seen, Shape, WaysSeen};

/// What one source answered about one digest.
#[derive(Default)]
pub(super) struct Visit {
    /// What the digest names, as this source served it or as it was known before.
    pub(super) shape: Option<Shape>,
    /// The source answered that it does not have the image.
    pub(super) absent: Option<Shortfall>,
    pub(super) seen: WaysSeen,
    /// The ways of discovery say what they said when everything was read.
    pub(super) unchanged: bool,
    pub(super) items: Vec<Evidence>,
    pub(super) found: Found,
}

impl Look<'_> {
    /// Finds out everything about one digest.
    pub(crate) async fn at(&self, digest: Digest, known: &Known) -> DigestPass {
        let mut visits = Vec::new();
        for source in &self.sources {
            // On the heap: the futures around it are many, and each would hold it.
            let visit = Box::pin(self.visit(source, digest.clone(), known)).await;
            // What vouches is enough; a newer attestation that does not may be where the image is copied from.
            let settles = visit.settles(source, known, self.holds && !self.attestations);
            visits.push((source, visit));
            if settles {
                break;
            }
        }
        self.united(digest, known, visits)
    }

    fn united(&self, digest: Digest, known: &Known, visits: Vec<(&Source, Visit)>) -> DigestPass {
        let signatures = shortfall(&visits, Found::of_signatures);
        let attestations = shortfall(&visits, Found::of_attestations).filter(|_| self.attestations);
        let mut seen: Seen = self
            .sources
            .iter()
            .skip(visits.len())
            .filter_map(|source| Some((source.evidence.clone(), known.seen.get(&source.evidence)?.clone())))
            .collect();
        let mut listed = BTreeMap::new();
        let (mut shape, mut items) = (known.shape.clone(), Vec::new());
        for (source, visit) in visits {
            if let Some(referrers) = &visit.seen.referrers {
                *listed.entry(source.evidence.clone()).or_default() |= !referrers.is_empty();
            }
            if visit.found.is_whole() && visit.absent.is_none() {
                seen.insert(source.evidence.clone(), visit.seen);
            }
            shape = visit.shape.or(shape);
            items = united(items, visit.items);
        }
        let again = |before: &Evidence| items.iter().any(|found| found.item.id() == before.item.id());
        let refreshed = !items.is_empty() && known.items.iter().all(again);
        // What was seen before and could not be read now still counts where it verifies.
        if signatures.is_some() || attestations.is_some() {
            items = united(known.items.clone(), items);
        }
        DigestPass {
            digest,
            shape,
            seen,
            listed,
            items,
            refreshed,
            shortfall: signatures,
            attestations,
        }
    }
}

impl Visit {
    /// Nothing that a later source says could change anything.
    fn settles(&self, source: &Source, known: &Known, holds_by_signatures: bool) -> bool {
        let proves = source.authoritative && self.absent.is_none() && self.found.is_whole();
        let again = |before: &Evidence| self.items.iter().any(|found| found.item.id() == before.item.id());
        proves
            || holds_by_signatures
                && self.unchanged
                && !self.items.is_empty()
                && known.items.iter().all(again)
    }
}

/// Why what was found may not be all there is; None where an authoritative source served the image and answered to
/// the end, and no other source failed.
fn shortfall(visits: &[(&Source, Visit)], of: impl Fn(&Found) -> Option<Shortfall>) -> Option<Shortfall> {
    let failed = visits.iter().filter_map(|(_, visit)| of(&visit.found));
    if let Some(failed) = failed.fold(None, |worst, one| Shortfall::worse(worst, Some(one))) {
        return Some(failed);
    }
    let proven = |(source, visit): &&(&Source, Visit)| source.authoritative && visit.absent.is_none();
    if visits.iter().any(|visit| proven(&visit)) {
        return None;
    }
    let absences: Vec<&Shortfall> = visits
        .iter()
        .filter_map(|(_, visit)| visit.absent.as_ref())
        .collect();
    Some(match (visits, absences.as_slice()) {
        ([_], [absence]) => (*absence).clone(),
        (_, absences) if absences.len() == visits.len() => not_found(visits),
        _ => not_authoritative(visits),
    })
}

/// No source has the image: that is not "not signed".
fn not_found(visits: &[(&Source, Visit)]) -> Shortfall {
    Shortfall::because(
        Reason::ImageNotFound,
        &format!(
            "none of its sources has the image: {} (a digest that runs and is not mirrored says nothing of its signatures)",
            names(visits.iter().map(|(source, _)| &source.repository))
        ),
    )
}

/// The image is only where an absence proves nothing.
fn not_authoritative(visits: &[(&Source, Visit)]) -> Shortfall {
    let having = visits.iter().filter(|(_, visit)| visit.absent.is_none());
    let having = names(having.map(|(source, _)| &source.repository));
    let lacking = visits
        .iter()
        .filter(|(source, visit)| source.authoritative && visit.absent.is_some());
    let lacking = names(lacking.map(|(source, _)| &source.repository));
    let (reason, detail) = if lacking.is_empty() {
        let detail = format!(
            "{having} is a mirror or a pull-through cache, and what it does not have may exist where it copies from"
        );
        (Reason::RegistryUnavailable, detail)
    } else {
        let detail = format!(
            "{having} has the image, but as a mirror that is not authoritative; {lacking}, which is, does not have it"
        );
        (Reason::ImageNotFound, detail)
    };
    Shortfall::because(reason, &detail)
}

fn names<'a>(repositories: impl Iterator<Item = &'a Repository>) -> String {
    let names: Vec<&str> = repositories.map(Repository::as_str).collect();
    names.join(", ")
}

impl Shortfall {
    fn because(reason: Reason, detail: &str) -> Shortfall {
        Shortfall {
            gap: Gap {
                reason,
                detail: Arc::from(detail),
            },
            retry_after: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(repository: &str, authoritative: bool) -> Source {
        let repository: Repository = repository.parse().unwrap();
        Source {
            evidence: repository.clone(),
            repository,
            authoritative,
            origin: authoritative,
        }
    }

    fn absent() -> Visit {
        Visit {
            absent: Some(Shortfall::because(Reason::ImageNotFound, "not there")),
            ..Visit::default()
        }
    }

    fn failed() -> Visit {
        let mut visit = Visit::default();
        visit.found.miss(Some(Shortfall::unavailable("down")));
        visit
    }

    fn reason(visits: Vec<(bool, Visit)>) -> Option<Reason> {
        let sources: Vec<Source> = (0..visits.len())
            .map(|at| source(&format!("r{at}.example/app"), visits[at].0))
            .collect();
        let visits: Vec<_> = sources
            .iter()
            .zip(visits.into_iter().map(|(_, visit)| visit))
            .collect();
        shortfall(&visits, Found::of_signatures).map(|shortfall| shortfall.gap.reason)
    }

    /// B42. Weakened once: with `authoritative` left out of `proven`, the mirror alone proves that there is nothing.
    #[test]
    fn b42_only_an_authoritative_source_that_has_the_image_proves_an_absence() {
        let served = Visit::default;
        assert_eq!(reason(vec![(true, served())]), None);
        assert_eq!(reason(vec![(false, served()), (true, served())]), None);
        assert_eq!(
            reason(vec![(false, absent()), (true, served())]),
            None,
            "not mirrored"
        );
        let unknown = Some(Reason::RegistryUnavailable);
        assert_eq!(reason(vec![(false, served())]), unknown);
        assert_eq!(reason(vec![(false, served()), (true, failed())]), unknown);
        assert_eq!(reason(vec![(false, failed()), (true, served())]), unknown);
        let nowhere = Some(Reason::ImageNotFound);
        assert_eq!(reason(vec![(true, absent())]), nowhere);
        assert_eq!(reason(vec![(false, absent()), (true, absent())]), nowhere);
        assert_eq!(reason(vec![(false, served()), (true, absent())]), nowhere);
    }
}
