//! Predicates of attestations, in the shapes that builders, scanners and authors of VEX documents write.

use jiff::Timestamp;
use serde_json::{Value, json};

/// The scanner whose report a vulnerability predicate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scanner {
    /// `trivy image --format json`, or `cosign-vuln`.
    Trivy,
    /// `grype -o json`.
    Grype,
}

/// One finding of a scanner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding<'a> {
    /// `CVE-2026-0001`.
    pub id: &'a str,
    /// `Low`, `Medium`, `High`, `Critical`; written as the scanner does.
    pub severity: &'a str,
    /// The package's name.
    pub package: &'a str,
    /// The version that has a fix, if there is one.
    pub fixed_in: Option<&'a str>,
}

/// The predicate of cosign's type `vuln`, <https://cosign.sigstore.dev/attestation/vuln/v1>.
pub fn vulnerabilities(scanner: Scanner, finished: Timestamp, findings: &[Finding<'_>]) -> Value {
    let (uri, version, result) = match scanner {
        Scanner::Trivy => ("pkg:github/aquasecurity/trivy@0.69.1", "0.69.1", trivy(findings)),
        Scanner::Grype => ("pkg:github/anchore/grype@0.104.1", "0.104.1", grype(findings)),
    };
    let finished = seconds(finished);
    json!({
        "invocation": {"parameters": [], "uri": "", "event_id": "", "builder.id": ""},
        "scanner": {"uri": uri, "version": version, "db": {"uri": "", "version": ""}, "result": result},
        "metadata": {"scanStartedOn": finished, "scanFinishedOn": finished},
    })
}

/// What a builder built, and from what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Build<'a> {
    /// The builder's id, a URI.
    pub builder: &'a str,
    /// `https://github.com/shop/web`.
    pub repository: &'a str,
    /// `refs/heads/main`.
    pub git_ref: &'a str,
    /// The commit.
    pub commit: &'a str,
    /// When the build ended.
    pub finished: Timestamp,
}

impl Build<'_> {
    /// A predicate of SLSA v0.2, cosign's type `slsaprovenance`.
    pub fn slsa_v02(&self) -> Value {
        let source = format!("git+{}@{}", self.repository, self.git_ref);
        let finished = seconds(self.finished);
        json!({
            "builder": {"id": self.builder},
            "buildType": "https://github.com/slsa-framework/slsa-github-generator/container@v1",
            "invocation": {
                "configSource": {
                    "uri": source, "digest": {"sha1": self.commit}, "entryPoint": ".github/workflows/release.yaml",
                },
                "parameters": {},
                "environment": {},
            },
            "metadata": {
                "buildInvocationId": "3003-1",
                "buildStartedOn": finished,
                "buildFinishedOn": finished,
                "completeness": {"parameters": true, "environment": false, "materials": false},
                "reproducible": false,
            },
            "materials": [{"uri": source, "digest": {"sha1": self.commit}}],
        })
    }

    /// A predicate of SLSA v1, cosign's type `slsaprovenance1`, as GitHub's builders write it.
    pub fn slsa_v1(&self) -> Value {
        let finished = seconds(self.finished);
        json!({
            "buildDefinition": {
                "buildType": "https://actions.github.io/buildtypes/workflow/v1",
                "externalParameters": {"workflow": {
                    "ref": self.git_ref, "repository": self.repository, "path": ".github/workflows/release.yaml",
                }},
                "internalParameters": {"github": {"event_name": "push"}},
                "resolvedDependencies": [{
                    "uri": format!("git+{}@{}", self.repository, self.git_ref),
                    "digest": {"gitCommit": self.commit},
                }],
            },
            "runDetails": {
                "builder": {"id": self.builder},
                "metadata": {"invocationId": "3003-1", "startedOn": finished, "finishedOn": finished},
            },
        })
    }
}

/// An OpenVEX document, cosign's type `openvex`: one status for some vulnerabilities of a product. `not_affected`
/// comes with a justification.
pub fn openvex(
    author: &str,
    time: Timestamp,
    product: &str,
    status: &str,
    vulnerabilities: &[&str],
) -> Value {
    let statements: Vec<Value> = vulnerabilities
        .iter()
        .map(|id| {
            let mut statement = json!({
                "vulnerability": {"name": id}, "products": [{"@id": product}], "status": status,
            });
            if status == "not_affected" {
                statement["justification"] = "vulnerable_code_not_in_execute_path".into();
            }
            statement
        })
        .collect();
    json!({
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": format!("https://openvex.dev/docs/public/vex-{}", time.as_second()),
        "author": author,
        "timestamp": seconds(time),
        "version": 1,
        "statements": statements,
    })
}

fn trivy(findings: &[Finding<'_>]) -> Value {
    let vulnerabilities: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let mut vulnerability = json!({
                "VulnerabilityID": finding.id,
                "PkgName": finding.package,
                "InstalledVersion": "1.0.0",
                "Status": "affected",
                "Severity": finding.severity.to_uppercase(),
            });
            if let Some(version) = finding.fixed_in {
                vulnerability["FixedVersion"] = version.into();
                vulnerability["Status"] = "fixed".into();
            }
            vulnerability
        })
        .collect();
    json!({
        "SchemaVersion": 2,
        "ArtifactName": "image",
        "ArtifactType": "container_image",
        "Results": [{
            "Target": "image (debian 13)", "Class": "os-pkgs", "Type": "debian", "Vulnerabilities": vulnerabilities,
        }],
    })
}

fn grype(findings: &[Finding<'_>]) -> Value {
    let matches: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let state = if finding.fixed_in.is_some() { "fixed" } else { "not-fixed" };
            let versions: Vec<&str> = finding.fixed_in.into_iter().collect();
            json!({
                "vulnerability": {
                    "id": finding.id, "severity": finding.severity, "fix": {"versions": versions, "state": state},
                },
                "relatedVulnerabilities": [],
                "artifact": {"name": finding.package, "version": "1.0.0", "type": "deb"},
            })
        })
        .collect();
    json!({
        "matches": matches,
        "source": {"type": "image"},
        "descriptor": {"name": "grype", "version": "0.104.1"},
    })
}

/// RFC 3339 in whole seconds, as cosign writes times.
fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
