//! The report inside a cosign vulnerability predicate (`https://cosign.sigstore.dev/attestation/vuln/v1`), under
//! `scanner.result`: Trivy's JSON (schema version 2) and Grype's JSON. Which findings a policy accepts is in
//! `vulnerabilities`.
//!
//! A report in any other form is refused, as is one that looked at nothing: an empty list of findings means something
//! only where packages were looked at.

use serde_json::{Map, Value};

/// The predicate type of scans.
pub(crate) const PREDICATE_TYPE: &str = "https://cosign.sigstore.dev/attestation/vuln/v1";
/// Where a scan keeps its time.
pub(crate) const TIMES: &[&str] = &["metadata.scanFinishedOn", "metadata.scanStartedOn"];

/// One vulnerability in one package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// A version of the package without the vulnerability exists.
    pub(crate) fixable: bool,
    /// As `CVE-2024-1234`.
    pub(crate) id: String,
    /// Other names of the same vulnerability.
    pub(crate) aliases: Vec<String>,
    /// Name and version, for people.
    pub(crate) package: String,
    /// The package URL, where the report has one.
    pub(crate) purl: Option<String>,
}

/// How severe a finding is, as the scanner says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    Negligible,
    Low,
    Medium,
    High,
    Critical,
    /// Not rated (yet), or by a word that is not known: as bad as it can be until somebody rates it.
    Unknown,
}

impl Severity {
    fn read(text: Option<&str>) -> Self {
        match text.unwrap_or("").to_ascii_lowercase().as_str() {
            "negligible" => Self::Negligible,
            "low" => Self::Low,
            "medium" => Self::Medium,
            "high" => Self::High,
            "critical" => Self::Critical,
            _ => Self::Unknown,
        }
    }

    /// For messages.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Negligible => "Negligible",
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
            Self::Critical => "Critical",
            Self::Unknown => "severity unknown",
        }
    }
}

impl Finding {
    /// Whether this is its id or one of its other names.
    pub(crate) fn is_named(&self, id: &str) -> bool {
        self.names().any(|name| name.eq_ignore_ascii_case(id))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.id).chain(&self.aliases).map(String::as_str)
    }
}

/// Reads the report of a scan.
///
/// # Errors
/// Why it cannot be understood, as a clause.
pub(crate) fn read(predicate: &Value) -> Result<Vec<Finding>, String> {
    let result = predicate
        .pointer("/scanner/result")
        .and_then(Value::as_object)
        .ok_or("the scan holds no report (scanner.result)")?;
    if result.contains_key("SchemaVersion") {
        return trivy(result);
    }
    let tool = result.get("descriptor").and_then(|tool| tool.get("name"));
    if tool.and_then(Value::as_str) == Some("grype") {
        return grype(result);
    }
    Err("the report of the scan is neither Trivy's JSON nor Grype's".into())
}

fn trivy(report: &Map<String, Value>) -> Result<Vec<Finding>, String> {
    let version = report.get("SchemaVersion").and_then(Value::as_i64);
    if version != Some(2) {
        return Err("the Trivy report is not of schema version 2".into());
    }
    let results = list(report.get("Results"), "Results of the Trivy report")?;
    if !results.iter().any(lists_packages) {
        return Err("the Trivy report looked at no packages".into());
    }
    let mut findings = Vec::new();
    for result in results {
        for vulnerability in list(
            result.get("Vulnerabilities"),
            "Vulnerabilities of the Trivy report",
        )? {
            findings.push(trivy_finding(vulnerability)?);
        }
    }
    Ok(findings)
}

/// Trivy writes other results too (secrets, misconfigurations, licenses), which say nothing of vulnerabilities.
fn lists_packages(result: &Value) -> bool {
    let class = result.get("Class").and_then(Value::as_str);
    matches!(class, Some("os-pkgs" | "lang-pkgs"))
        || result.get("Vulnerabilities").is_some_and(Value::is_array)
}

fn trivy_finding(vulnerability: &Value) -> Result<Finding, String> {
    let text = |name: &str| {
        vulnerability
            .get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let purl = vulnerability
        .pointer("/PkgIdentifier/PURL")
        .and_then(Value::as_str);
    Ok(Finding {
        id: text("VulnerabilityID")
            .ok_or("a finding of the Trivy report has no id")?
            .to_owned(),
        aliases: Vec::new(),
        package: package(text("PkgName"), text("InstalledVersion")),
        purl: purl.map(str::to_owned),
        severity: Severity::read(text("Severity")),
        fixable: text("FixedVersion").is_some(),
    })
}

fn grype(report: &Map<String, Value>) -> Result<Vec<Finding>, String> {
    let matches = report
        .get("matches")
        .and_then(Value::as_array)
        .ok_or("the Grype report has no list of matches")?;
    matches.iter().map(grype_finding).collect()
}

fn grype_finding(found: &Value) -> Result<Finding, String> {
    let text = |path: &str| {
        found
            .pointer(path)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let related = list(
        found.get("relatedVulnerabilities"),
        "relatedVulnerabilities of the Grype report",
    )?;
    let names = related.iter().filter_map(|related| related.get("id")?.as_str());
    Ok(Finding {
        id: text("/vulnerability/id")
            .ok_or("a match of the Grype report has no id")?
            .to_owned(),
        aliases: names.map(str::to_owned).collect(),
        package: package(text("/artifact/name"), text("/artifact/version")),
        purl: text("/artifact/purl").map(str::to_owned),
        severity: Severity::read(text("/vulnerability/severity")),
        fixable: text("/vulnerability/fix/state") == Some("fixed"),
    })
}

fn package(name: Option<&str>, version: Option<&str>) -> String {
    let words: Vec<&str> = [name, version].into_iter().flatten().collect();
    words.join(" ")
}

/// A list; one that is absent or null is empty.
fn list<'a>(value: Option<&'a Value>, what: &str) -> Result<&'a [Value], String> {
    match value {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err(format!("{what} is not a list")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(result: &Value) -> Result<Vec<Finding>, String> {
        read(&json!({"scanner": {"uri": "pkg:github/aquasecurity/trivy@0.68", "result": result}}))
    }

    #[test]
    fn c4_03_a_trivy_report_is_read() {
        let findings = report(&json!({
            "SchemaVersion": 2, "ArtifactName": "web", "ArtifactType": "container_image",
            "Results": [
                {"Target": "web (debian 12)", "Class": "os-pkgs", "Type": "debian", "Vulnerabilities": [
                    {"VulnerabilityID": "CVE-2024-1", "PkgName": "openssl", "InstalledVersion": "3.0.1", "FixedVersion": "3.0.2",
                     "Status": "fixed", "Severity": "HIGH", "PkgIdentifier": {"PURL": "pkg:deb/debian/openssl@3.0.1?arch=amd64"}},
                    {"VulnerabilityID": "CVE-2024-2", "PkgName": "zlib1g", "InstalledVersion": "1.3", "Severity": "UNKNOWN"},
                ]},
                {"Target": "app", "Class": "lang-pkgs", "Type": "gobinary"},
                {"Target": "secrets", "Class": "secret"},
            ],
        }))
        .unwrap();
        let expected = [
            Finding {
                severity: Severity::High,
                fixable: true,
                id: "CVE-2024-1".into(),
                aliases: vec![],
                package: "openssl 3.0.1".into(),
                purl: Some("pkg:deb/debian/openssl@3.0.1?arch=amd64".into()),
            },
            Finding {
                severity: Severity::Unknown,
                fixable: false,
                id: "CVE-2024-2".into(),
                aliases: vec![],
                package: "zlib1g 1.3".into(),
                purl: None,
            },
        ];
        assert_eq!(findings, expected);
    }

    #[test]
    fn c4_03_a_grype_report_is_read() {
        let findings = report(&json!({
            "matches": [{
                "vulnerability": {"id": "GHSA-aaaa", "severity": "Critical", "fix": {"versions": ["1.2"], "state": "fixed"}},
                "relatedVulnerabilities": [{"id": "CVE-2024-3", "severity": "High"}],
                "artifact": {"name": "lib", "version": "1.1", "purl": "pkg:npm/lib@1.1"},
            }, {
                "vulnerability": {"id": "CVE-2024-4", "severity": "Negligible", "fix": {"versions": [], "state": "wont-fix"}},
                "artifact": {"name": "tar", "version": "1"},
            }],
            "ignoredMatches": [], "source": {"type": "image"}, "descriptor": {"name": "grype", "version": "0.104.0"},
        }))
        .unwrap();
        assert_eq!(findings[0].aliases, ["CVE-2024-3"]);
        assert!(
            findings[0].fixable && findings[0].is_named("cve-2024-3") && findings[0].is_named("GHSA-aaaa")
        );
        assert_eq!(
            (findings[1].severity, findings[1].fixable),
            (Severity::Negligible, false)
        );
        assert_eq!(findings[1].package, "tar 1");
    }

    #[test]
    fn a_clean_report_has_no_findings() {
        let trivy =
            json!({"SchemaVersion": 2, "Results": [{"Target": "x", "Class": "os-pkgs", "Type": "wolfi"}]});
        assert_eq!(report(&trivy), Ok(vec![]));
        let grype = json!({"matches": [], "descriptor": {"name": "grype"}});
        assert_eq!(report(&grype), Ok(vec![]));
    }

    /// B23: a report that looked at nothing is not one that found nothing. Seen to fail without `lists_packages`.
    #[test]
    fn b23_a_report_that_looked_at_nothing_or_is_of_another_form_is_refused() {
        for result in [
            json!(null),
            json!([]),
            json!({}),
            json!("clean"),
            json!({"SchemaVersion": 2}),
            json!({"SchemaVersion": 2, "Results": []}),
            json!({"SchemaVersion": 2, "Results": null}),
            json!({"SchemaVersion": 2, "Results": {}}),
            json!({"SchemaVersion": 2, "Results": [{"Target": "x", "Class": "secret"}]}),
            json!({"SchemaVersion": 2, "Results": [{"Class": "os-pkgs", "Vulnerabilities": {}}]}),
            json!({"SchemaVersion": 2, "Results": [{"Class": "os-pkgs", "Vulnerabilities": [{}]}]}),
            json!({"SchemaVersion": 3, "Results": [{"Class": "os-pkgs"}]}),
            json!({"SchemaVersion": "2", "Results": [{"Class": "os-pkgs"}]}),
            json!({"matches": []}),
            json!({"matches": [], "descriptor": {"name": "other"}}),
            json!({"descriptor": {"name": "grype"}}),
            json!({"matches": [{}], "descriptor": {"name": "grype"}}),
            json!({"matches": {}, "descriptor": {"name": "grype"}}),
            json!({"runs": [{"tool": {"driver": {"name": "Trivy"}}, "results": []}]}),
        ] {
            assert!(report(&result).is_err(), "{result}");
        }
        assert!(read(&json!({})).is_err());
        assert!(read(&json!({"scanner": {}})).is_err());
    }

    #[test]
    fn what_is_not_rated_is_worse_than_critical() {
        for text in [None, Some(""), Some("UNKNOWN"), Some("Catastrophic")] {
            assert!(Severity::read(text) > Severity::Critical, "{text:?}");
        }
        let words =
            ["negligible", "LOW", "Medium", "hIgh", "CRITICAL"].map(|word| Severity::read(Some(word)));
        assert!(words.is_sorted() && words[4] == Severity::Critical);
    }
}
