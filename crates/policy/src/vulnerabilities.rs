//! The requirement `vulnerabilities {signedBy, maxAge, maxFixable, maxUnfixable, allow, block, vex}` over scans. Which
//! scan decides is in `attested`, how reports are read in `scan`, how OpenVEX documents are in `vex`.
//!
//! A finding of the newest scan is accepted if the first line that applies says so:
//!
//! | the finding | accepted |
//! |---|---|
//! | is in `block` | no |
//! | is not above `maxFixable` where it has a fix, `maxUnfixable` where it has none | yes |
//! | is in `allow`, and the entry has not expired | yes |
//! | the newest OpenVEX statement about it by a ring in `vex` says fixed or not affected | yes |
//! | else | no |
//!
//! A statement that says otherwise and names no time may be the newest, so then none suppresses. Documents that are not
//! found any more suppress nothing, and a statement in one that says otherwise goes on counting.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{MaxSeverity, Reason};
use image::Digest;
use jiff::Timestamp;
use verify::Fingerprint;

use crate::attestation::MaxAge;
use crate::attested::{self, Answer, Attested, Check, Found, Reading, Search};
use crate::facts::{DigestFacts, Knowledge};
use crate::memo::Memo;
use crate::own_time::OwnTimes;
use crate::rule::{self, Circumstances, Ruling};
use crate::scan::{self, Finding, Severity};
use crate::signers::Doubt;
use crate::vex;

/// How many findings a message names.
const NAMED: usize = 3;

/// The requirement, checked.
#[derive(Clone, Debug)]
pub(crate) struct VulnerabilitiesRule {
    pub(crate) rings: Vec<Arc<str>>,
    pub(crate) max_age: MaxAge,
    pub(crate) max_fixable: MaxSeverity,
    pub(crate) max_unfixable: MaxSeverity,
    pub(crate) allow: Vec<Allowed>,
    pub(crate) block: Vec<Arc<str>>,
    pub(crate) vex: Vec<Arc<str>>,
    /// The scans' own times.
    pub(crate) times: OwnTimes,
    /// By item: what its report finds above the line, worst first, or why it cannot be understood.
    pub(crate) findings: Memo<Digest, Result<Arc<[Finding]>, Arc<str>>>,
    /// By item: what an OpenVEX document says.
    pub(crate) documents: Memo<Digest, Arc<[vex::Statement]>>,
}

/// A vulnerability that is accepted for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    pub(crate) id: Arc<str>,
    pub(crate) expires: Timestamp,
}

/// OpenVEX documents by authors that count.
struct Documents<'a> {
    /// What was found beside them.
    found: Found<'a>,
    /// What each of them says.
    statements: Vec<(Attested<'a>, Arc<[vex::Statement]>)>,
}

fn is_scan(predicate_type: &str) -> bool {
    predicate_type == scan::PREDICATE_TYPE
}

impl VulnerabilitiesRule {
    /// Those of scanners and those of authors of OpenVEX documents.
    pub(crate) fn rings(&self) -> impl Iterator<Item = &Arc<str>> {
        self.rings.iter().chain(&self.vex)
    }

    pub(crate) fn judge(&self, digest: &DigestFacts<'_>, circumstances: &Circumstances<'_>) -> Ruling {
        let scans = self.scans(circumstances);
        let documents = self.authors(circumstances);
        rule::judge_attested(digest, circumstances, Reason::ScanMissing, |group| {
            let documents = self.read(documents.over(group));
            let check = |attested: &Attested<'_>| self.check(attested, &documents, circumstances);
            match rule::newest(&scans, group, Some(self.max_age.length), check) {
                Answer::Fails {
                    reason: Reason::VulnerabilityFound,
                    ..
                } if !documents.found.doubts.is_empty() => doubtful(&documents.found),
                answer => answer,
            }
        })
    }

    /// What the documents say. Of one that cannot be read nobody can tell.
    fn read<'a>(&self, mut found: Found<'a>) -> Documents<'a> {
        let mut statements = Vec::new();
        for document in std::mem::take(&mut found.attestations) {
            match self.statements(&document.reading) {
                Ok(read) => statements.push((document, read)),
                Err(doubt) => found.doubt(doubt),
            }
        }
        Documents { found, statements }
    }

    fn statements(&self, document: &Reading<'_>) -> Result<Arc<[vex::Statement]>, Doubt> {
        self.documents.get(document.item().clone(), || {
            let statement = document.statement()?;
            Ok(vex::read(statement.predicate()).into())
        })
    }

    pub(crate) fn newest(
        &self,
        digest: &DigestFacts<'_>,
        circumstances: &Circumstances<'_>,
    ) -> Option<Timestamp> {
        self.scans(circumstances).over(&rule::all_places(digest)).newest()
    }

    pub(crate) fn boundaries(
        &self,
        digest: &DigestFacts<'_>,
        circumstances: &Circumstances<'_>,
    ) -> BTreeSet<Timestamp> {
        let places = rule::all_places(digest);
        let mut times = self
            .scans(circumstances)
            .boundaries(&places, Some(self.max_age.length));
        times.extend(self.allow.iter().map(|allowed| allowed.expires));
        times.extend(self.times_of_documents(&places, circumstances));
        times
    }

    /// A statement does not count before its own time.
    fn times_of_documents(
        &self,
        places: &[&Knowledge],
        circumstances: &Circumstances<'_>,
    ) -> BTreeSet<Timestamp> {
        let documents = self.authors(circumstances).claimed(places);
        let read = documents
            .iter()
            .filter_map(|(document, _)| self.statements(document).ok());
        let times = |statements: Arc<[vex::Statement]>| {
            let times = statements.iter().filter_map(|statement| statement.time);
            times.collect::<Vec<_>>()
        };
        read.flat_map(times).collect()
    }

    fn scans<'a>(&'a self, circumstances: &Circumstances<'a>) -> Search<'a> {
        Search {
            signers: circumstances.signers(&self.rings),
            wanted: &is_scan,
            times: Some(&self.times),
        }
    }

    fn authors<'a>(&'a self, circumstances: &Circumstances<'a>) -> Search<'a> {
        Search {
            signers: circumstances.signers(&self.vex),
            wanted: &vex::is_predicate_type,
            times: None,
        }
    }

    fn check(
        &self,
        attested: &Attested<'_>,
        documents: &Documents<'_>,
        circumstances: &Circumstances<'_>,
    ) -> Check {
        let above = self.findings.get(attested.claim.evidence.clone(), || {
            let statement = attested.reading.statement()?;
            let findings = scan::read(statement.predicate());
            Ok(findings
                .map(|found| self.above_the_line(found))
                .map_err(Arc::from))
        });
        let above = match above {
            Ok(Ok(above)) => above,
            Err(doubt) => return Check::CannotTell(doubt),
            Ok(Err(why)) => {
                let found = format!(
                    "the newest, by SigningKey {}, cannot be understood: {why}",
                    attested.key.name
                );
                return Check::Fails(Reason::AttestationInvalid, found);
            }
        };
        let target = vex::Target {
            repository: circumstances.repository,
            digest: attested.subject,
        };
        let mut relied_on = BTreeSet::new();
        let mut bad = Vec::new();
        for finding in above.iter() {
            let blocked = self.blocks(finding);
            if !blocked && self.allows(finding, circumstances.now) {
                continue;
            }
            match suppressed(finding, target, documents, circumstances.now) {
                Some(keys) if !blocked => relied_on.extend(keys),
                _ => bad.push(finding),
            }
        }
        if bad.is_empty() {
            return Check::Passes(relied_on);
        }
        let found = format!(
            "the newest, by SigningKey {}, found {}",
            attested.key.name,
            named(&bad)
        );
        Check::Fails(Reason::VulnerabilityFound, found)
    }

    fn above_the_line(&self, findings: Vec<Finding>) -> Arc<[Finding]> {
        let mut above: Vec<Finding> = findings
            .into_iter()
            .filter(|finding| self.blocks(finding) || !self.accepts(finding))
            .collect();
        above.sort_by(|one, other| {
            (other.severity, other.fixable, &one.id).cmp(&(one.severity, one.fixable, &other.id))
        });
        above.dedup();
        above.into()
    }

    fn accepts(&self, finding: &Finding) -> bool {
        let limit = if finding.fixable {
            self.max_fixable
        } else {
            self.max_unfixable
        };
        is_within(finding.severity, limit)
    }

    fn blocks(&self, finding: &Finding) -> bool {
        self.block.iter().any(|id| finding.is_named(id))
    }

    fn allows(&self, finding: &Finding, now: Timestamp) -> bool {
        let allowed = |allowed: &Allowed| now < allowed.expires && finding.is_named(&allowed.id);
        self.allow.iter().any(allowed)
    }
}

/// A document that was not read may say that the image is not affected.
fn doubtful(documents: &Found<'_>) -> Answer {
    match documents.doubts.first() {
        Some(doubt) => Answer::CannotTell(doubt.clone()),
        None => Answer::Missing(documents.findings.clone()),
    }
}

/// What is not rated is accepted only where everything is.
fn is_within(severity: Severity, limit: MaxSeverity) -> bool {
    let worst = match limit {
        MaxSeverity::None | MaxSeverity::Other => return false,
        MaxSeverity::Low => Severity::Low,
        MaxSeverity::Medium => Severity::Medium,
        MaxSeverity::High => Severity::High,
        MaxSeverity::Critical => return true,
    };
    severity <= worst
}

/// The keys by whose documents the finding does not affect the image; None where it does. The newest statement about it
/// decides, and of several with one time the one that does not suppress.
fn suppressed(
    finding: &Finding,
    target: vex::Target<'_>,
    documents: &Documents<'_>,
    now: Timestamp,
) -> Option<BTreeSet<Fingerprint>> {
    if documents.found.excess.is_some() {
        // What could not be read may be newer, and say that the image is affected.
        return None;
    }
    let mut newest = None;
    let mut keys = BTreeSet::new();
    let mut suppresses = false;
    for (document, statements) in documents
        .statements
        .iter()
        .filter(|(document, _)| document.subject == target.digest)
    {
        for statement in statements
            .iter()
            .filter(|statement| statement.is_about(finding, target))
            .filter(|statement| !(document.is_gone && statement.suppresses))
        {
            let Some(created) = attested::created(document.claim, statement.time, now) else {
                if statement.time.is_none() && !statement.suppresses {
                    return None;
                }
                continue;
            };
            let time = (created, statement.time);
            match newest.map_or(std::cmp::Ordering::Greater, |newest| time.cmp(&newest)) {
                std::cmp::Ordering::Less => continue,
                std::cmp::Ordering::Equal => suppresses &= statement.suppresses,
                std::cmp::Ordering::Greater => {
                    newest = Some(time);
                    suppresses = statement.suppresses;
                    keys.clear();
                }
            }
            keys.extend(document.key.fingerprint);
        }
    }
    let is_newer = |(created, _): (Timestamp, _)| Some(created) > documents.found.forgotten;
    (suppresses && newest.is_some_and(is_newer)).then_some(keys)
}

/// The worst, by name.
fn named(findings: &[&Finding]) -> String {
    let name = |finding: &&Finding| {
        let fix = if finding.fixable {
            "fixed in a later version"
        } else {
            "no fix"
        };
        format!(
            "{} ({}, {}, {fix})",
            finding.id,
            finding.severity.as_str(),
            finding.package
        )
    };
    let names: Vec<String> = findings.iter().take(NAMED).map(name).collect();
    let more = if findings.len() > NAMED { " and others" } else { "" };
    format!("{}{more}", names.join(", "))
}
