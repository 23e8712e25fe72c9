//! `assay verify-bundle`: one Sigstore bundle and one artifact, judged offline by the code that judges images.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use clap::Args;
use image::{Algorithm, Digest};
use verify::{
    Artifact, Demand, IdentityMatcher, Pattern, PublicKey, TrustRoot, VerifiedArtifact, Verifier,
    verify_artifact,
};

/// More is not read of a bundle, a key or a trust root.
const MAX_MATERIAL_BYTES: u64 = 8 * 1024 * 1024;

/// Verify a Sigstore bundle for a file or a digest, offline.
///
/// The code is the one that judges images, but everything in the bundle must verify: log entries and timestamps that
/// do not are a refusal. Keyless bundles need an entry in a transparency log.
///
/// Exit codes: 0 verified, 1 refused, 2 the arguments or files cannot be used.
#[derive(Args, Debug)]
pub(crate) struct VerifyBundleArguments {
    /// The bundle (sigstore_bundle.proto in JSON, version 0.1 to 0.3)
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    /// The public key that must have signed it, in PEM
    #[arg(long, value_name = "PEM", conflicts_with_all = ["certificate_identity", "certificate_oidc_issuer"],
          required_unless_present = "certificate_identity")]
    key: Option<PathBuf>,
    /// The subject that its certificate must name: an email address or a URI
    #[arg(long, value_name = "ID", requires = "certificate_oidc_issuer")]
    certificate_identity: Option<String>,
    /// The OIDC issuer that its certificate must name
    #[arg(long, value_name = "URL", requires = "certificate_identity")]
    certificate_oidc_issuer: Option<String>,
    /// A trusted_root.json to believe instead of the built-in root of the public-good instance
    #[arg(long, value_name = "FILE")]
    trusted_root: Option<PathBuf>,
    /// Believe the built-in root of Sigstore's staging instance
    #[arg(long, conflicts_with = "trusted_root")]
    staging: bool,
    /// What was signed: a file, or sha256:DIGEST where no file has that name
    #[arg(value_name = "FILE|sha256:DIGEST")]
    artifact: PathBuf,
}

/// Runs the command.
pub(crate) fn run(arguments: &VerifyBundleArguments) -> ExitCode {
    match judge(arguments) {
        Ok(Ok(verified)) => {
            println!("verified: {}", describe(&verified));
            ExitCode::SUCCESS
        }
        Ok(Err(refusal)) => {
            eprintln!("refused: {}", one_line(&refusal));
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("error: {}", one_line(&error));
            ExitCode::from(2)
        }
    }
}

/// The outer error is about the arguments, the inner one about the bundle.
fn judge(arguments: &VerifyBundleArguments) -> Result<Result<VerifiedArtifact, String>, String> {
    let verifier = verifier(arguments)?;
    let bundle = read(&arguments.bundle)?;
    let content;
    let artifact = match digest(&arguments.artifact) {
        Some(digest) => Artifact::Digest(digest),
        None => {
            content = std::fs::read(&arguments.artifact)
                .map_err(|error| format!("{}: {error}", arguments.artifact.display()))?;
            Artifact::Content(&content)
        }
    };
    Ok(verify_artifact(&bundle, artifact, &verifier)
        .map_err(|refusal| refusal.to_string())
        .and_then(refuse_the_future))
}

fn verifier(arguments: &VerifyBundleArguments) -> Result<Verifier, String> {
    let root = Arc::new(trust_root(arguments)?);
    if let Some(path) = &arguments.key {
        let pem =
            String::from_utf8(read(path)?).map_err(|_| format!("{}: it is not text", path.display()))?;
        let key = PublicKey::from_pem(&pem).map_err(|error| format!("{}: {error}", path.display()))?;
        return Verifier::by_key_with(key, Demand::Optional, Demand::Optional, Some(root))
            .map_err(|error| error.to_string());
    }
    let pattern = |option: &str, text: &Option<String>| {
        Pattern::exact(text.as_deref().unwrap_or("")).map_err(|error| format!("{option}: {error}"))
    };
    let matcher = IdentityMatcher::new(
        pattern("--certificate-oidc-issuer", &arguments.certificate_oidc_issuer)?,
        pattern("--certificate-identity", &arguments.certificate_identity)?,
    );
    Verifier::keyless(matcher, Demand::Required, Demand::Optional, root).map_err(|error| error.to_string())
}

fn trust_root(arguments: &VerifyBundleArguments) -> Result<TrustRoot, String> {
    match &arguments.trusted_root {
        Some(path) => {
            TrustRoot::from_json(&read(path)?).map_err(|error| format!("{}: {error}", path.display()))
        }
        None if arguments.staging => TrustRoot::staging().map_err(|error| error.to_string()),
        None => TrustRoot::public_good().map_err(|error| error.to_string()),
    }
}

/// `sha256:` and 64 hexadecimal digits, unless a file is named so.
fn digest(argument: &Path) -> Option<Digest> {
    let digest = argument.to_str()?.parse::<Digest>().ok()?;
    (digest.algorithm() == Algorithm::Sha256 && !argument.exists()).then_some(digest)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let named = |error: std::io::Error| format!("{}: {error}", path.display());
    let size = std::fs::metadata(path).map_err(named)?.len();
    if size > MAX_MATERIAL_BYTES {
        return Err(format!(
            "{}: {size} bytes; at most {MAX_MATERIAL_BYTES} are read",
            path.display()
        ));
    }
    std::fs::read(path).map_err(named)
}

/// The library knows no clock.
fn refuse_the_future(verified: VerifiedArtifact) -> Result<VerifiedArtifact, String> {
    let now = jiff::Timestamp::try_from(SystemTime::now())
        .map_err(|error| format!("the clock of this machine cannot be read: {error}"))?;
    match verified.times.latest() {
        Some(latest) if latest > now => Err(format!(
            "it was timestamped or logged at {latest}, which lies in the future"
        )),
        _ => Ok(verified),
    }
}

fn describe(verified: &VerifiedArtifact) -> String {
    let signer = match &verified.identity {
        Some(identity) => format!("signed by {} ({})", identity.subject, identity.issuer),
        None => format!("signed by the key {}", verified.signer),
    };
    match verified.times.earliest() {
        Some(time) => format!("{signer}, not after {time}"),
        None => format!("{signer}, at a time that nobody vouches for"),
    }
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: VerifyBundleArguments,
    }

    fn fixture(name: &str) -> String {
        format!("{}/../verify/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
    }

    fn parse(line: &[&str]) -> Result<VerifyBundleArguments, clap::Error> {
        Line::try_parse_from([&["verify-bundle"], line].concat()).map(|line| line.arguments)
    }

    fn answer(bundle: &str, key: &str, artifact: &str) -> Result<Result<VerifiedArtifact, String>, String> {
        let (bundle, key) = (fixture(bundle), fixture(key));
        judge(&parse(&["--bundle", &bundle, "--key", &key, artifact]).unwrap())
    }

    /// What cosign wrote, offline: the key signed an attestation about a digest.
    #[test]
    fn a_bundle_verifies_for_the_digest_it_is_about_under_its_key_alone() {
        let digest = std::fs::read_to_string(fixture("digest")).unwrap();
        let verified = answer("attestation.bundle.json", "p256.pub", digest.trim())
            .unwrap()
            .unwrap();
        assert!(describe(&verified).starts_with("signed by the key "));
        for (key, artifact) in [
            ("p384.pub", digest.trim()),
            ("p256.pub", &format!("sha256:{}", "0".repeat(64))),
        ] {
            let refusal = answer("attestation.bundle.json", key, artifact)
                .unwrap()
                .unwrap_err();
            assert!(!refusal.contains('\n') && !refusal.is_empty(), "{refusal}");
        }
    }

    #[test]
    fn a_missing_file_is_an_error_and_no_refusal() {
        for (bundle, key, artifact) in [
            ("none.json", "p256.pub", "digest"),
            ("attestation.bundle.json", "none.pub", "digest"),
            ("attestation.bundle.json", "p256.pub", "no such file"),
            ("attestation.bundle.json", "p256.pub", "sha256:abc"),
        ] {
            assert!(
                answer(bundle, key, artifact).is_err(),
                "{bundle} {key} {artifact}"
            );
        }
    }

    #[test]
    fn who_must_have_signed_is_named_once() {
        let (identity, issuer) = ("--certificate-identity", "--certificate-oidc-issuer");
        assert!(parse(&["--bundle", "b", identity, "a", issuer, "i", "f"]).is_ok());
        for line in [
            vec!["--bundle", "b", "f"],
            vec!["--bundle", "b", identity, "a", "f"],
            vec!["--bundle", "b", issuer, "i", "f"],
            vec!["--bundle", "b", "--key", "k", identity, "a", issuer, "i", "f"],
            vec![
                "--bundle",
                "b",
                "--key",
                "k",
                "--staging",
                "--trusted-root",
                "r",
                "f",
            ],
            vec!["--key", "k", "f"],
        ] {
            assert!(parse(&line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn the_built_in_roots_serve_where_none_is_given() {
        let common = [
            "--bundle",
            "b",
            "--certificate-identity",
            "a",
            "--certificate-oidc-issuer",
            "i",
            "f",
        ];
        let names = |more: &[&str]| {
            let arguments = parse(&[&common, more].concat()).unwrap();
            verifier(&arguments)
                .unwrap()
                .trust_root()
                .unwrap()
                .name()
                .to_owned()
        };
        assert_eq!(names(&[]), "public-good");
        assert_eq!(names(&["--staging"]), "staging");
    }

    /// A digest is `sha256:` and 64 digits, and no file's name.
    #[test]
    fn an_argument_is_a_digest_only_if_it_is_one_and_names_no_file() {
        let text = format!("sha256:{}", "a".repeat(64));
        assert!(digest(Path::new(&text)).is_some());
        assert!(digest(Path::new(&format!("sha512:{}", "a".repeat(128)))).is_none());
        assert!(digest(Path::new("sha256:abc")).is_none());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(&text);
        std::fs::write(&file, b"x").unwrap();
        assert!(digest(&file).is_none());
    }
}
