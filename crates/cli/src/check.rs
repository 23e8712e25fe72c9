//! `assay check`: one image, judged by keys and policies in files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use api::{Verdict, WorkloadRef};
use clap::{Args, ValueEnum};
use engine::{Examination, PolicyAnswer, Question, examine};
use registry::Client;
use serde_json::{Value, json};
use verify::TrustRoot;

use crate::manifests::Manifests;
use crate::output;
use crate::registries::RegistryArguments;

/// Judge one image by keys and policies in files; no cluster is needed.
///
/// Exit codes: 0 compliant, 1 violating, 2 unknown or an error, 3 no policy covers the image, 4 an ImageException passes
/// over what is wrong.
#[derive(Args, Debug)]
pub(crate) struct CheckArguments {
    /// The image as a pod would name it: repository with tag, digest or both
    image: String,
    /// YAML with SigningKeys, KeyRevocations, ImagePolicies, ImageExceptions, TrustRoots with their ConfigMaps, and
    /// RegistryConfigs (repeatable)
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The namespace the image would run in
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Labels of that namespace, as key=value,…
    #[arg(short = 'l', long = "labels", value_name = "LABELS", value_parser = label, value_delimiter = ',')]
    labels: Vec<(String, String)>,
    /// The workload that would run it, as Kind/name, for ImageExceptions that name workloads
    #[arg(long, value_name = "WORKLOAD", value_parser = workload)]
    workload: Option<WorkloadRef>,
    #[command(flatten)]
    registries: RegistryArguments,
    /// A trusted_root.json in the place of every trust root that the keys name
    #[arg(long, value_name = "FILE")]
    trusted_root: Option<PathBuf>,
    /// How to print the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// One object: image, digest, verdict, policies
    Json,
}

/// Runs the command.
pub(crate) fn run(arguments: &CheckArguments) -> ExitCode {
    match judge(arguments) {
        Ok(examination) => {
            let text = match arguments.output {
                Output::Text => as_text(&examination),
                Output::Json => format!("{:#}\n", as_json(&examination)),
            };
            output::answer(&text, exit_code(examination.verdict))
        }
        Err(error) => output::fail(error),
    }
}

fn judge(arguments: &CheckArguments) -> Result<Examination, Box<dyn std::error::Error>> {
    let manifests = Manifests::read(&arguments.files)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let trust_roots = match &arguments.trusted_root {
        Some(file) => given_root(file, &manifests)?,
        None => runtime.block_on(trust_roots(&manifests))?,
    };
    let client = Client::new(
        arguments
            .registries
            .options(concat!("assay-check/", env!("CARGO_PKG_VERSION"))),
    )?;
    let question = Question {
        image: arguments.image.clone(),
        namespace: arguments.namespace.clone(),
        workload: arguments.workload.clone(),
        labels: arguments.labels.iter().cloned().collect::<BTreeMap<_, _>>(),
        policies: manifests.policies,
        keys: manifests.keys,
        revocations: manifests.revocations,
        exceptions: manifests.exceptions,
        trust_roots,
    };
    client.set_routes(manifests.routes)?;
    for name in &manifests.without_credentials {
        eprintln!(
            "note: RegistryConfig/{name}: spec.credentials names a Secret, which is not read here; give --registry-config"
        );
    }
    Ok(runtime.block_on(examine(client, &question))?)
}

type TrustRoots = BTreeMap<Arc<str>, Arc<TrustRoot>>;

/// The trust roots of the files, those that are published included.
async fn trust_roots(manifests: &Manifests) -> Result<TrustRoots, Box<dyn std::error::Error>> {
    let mut roots = manifests.trust_roots.clone();
    for (name, source) in &manifests.published {
        let root = controller::published_trust_root(name, source).await;
        let root =
            root.map_err(|why| format!("TrustRoot/{name}: {why}; or give the document with --trusted-root"))?;
        roots.insert(name.clone(), Arc::new(root));
    }
    Ok(roots)
}

/// The document of `--trusted-root` under every name that a key uses.
fn given_root(file: &Path, manifests: &Manifests) -> Result<TrustRoots, Box<dyn std::error::Error>> {
    let document =
        std::fs::read(file).map_err(|error| format!("--trusted-root {}: {error}", file.display()))?;
    let specs = manifests.keys.iter().filter_map(|key| key.spec.as_ref().ok());
    let mut roots = BTreeMap::new();
    for name in specs.filter_map(|spec| spec.effective_trust_root()) {
        let root = TrustRoot::from_json(&document)
            .map_err(|error| format!("--trusted-root {}: {error}", file.display()))?;
        roots.insert(name.into(), Arc::new(root.named(name)));
    }
    Ok(roots)
}

fn exit_code(verdict: Verdict) -> ExitCode {
    match verdict {
        Verdict::Compliant => ExitCode::SUCCESS,
        Verdict::Violating => ExitCode::from(1),
        Verdict::Unknown | Verdict::Other => ExitCode::from(output::FAILED),
        Verdict::NotCovered => ExitCode::from(3),
        Verdict::Excepted => ExitCode::from(4),
    }
}

fn as_json(examination: &Examination) -> Value {
    let policies: Vec<Value> = examination
        .policies
        .iter()
        .map(|policy| {
            json!({
                "name": &*policy.answer.policy,
                "mode": policy.answer.mode,
                "verdict": policy.answer.verdict,
                "requirement": policy.answer.requirement.as_deref(),
                "reason": policy.answer.reason,
                "message": &*policy.answer.message,
                "exception": policy.answer.excepted.as_ref().map(|excepted| &*excepted.exception),
                "validUntil": policy.answer.valid_until.map(|time| time.to_string()),
            })
        })
        .collect();
    json!({
        "image": examination.image,
        "digest": examination.digest.clone().map(|digest| digest.to_string()),
        "verdict": examination.verdict,
        "policies": policies,
    })
}

fn as_text(examination: &Examination) -> String {
    let mut text = String::new();
    let digest = examination
        .digest
        .clone()
        .map_or("(not found out)".to_owned(), |digest| digest.to_string());
    // Writing to a String never fails.
    let mut line = |content: String| writeln!(text, "{content}").unwrap_or_default();
    line(format!("Image    {}", examination.image));
    line(format!("Digest   {digest}"));
    line(format!("Verdict  {}", examination.verdict));
    if examination.policies.is_empty() {
        line("\nNo policy in the given files covers this image in this namespace.".to_owned());
        line(
            "Look at spec.match of the policies: images, excludeImages, namespaces, namespaceSelector."
                .to_owned(),
        );
    }
    for policy in &examination.policies {
        line(format!(
            "\nPolicy {} ({}): {}",
            policy.answer.policy,
            policy.answer.mode.as_str(),
            summary(&policy.answer)
        ));
        if policy.requirements.is_empty()
            || policy.answer.requirement.is_none() && !policy.answer.message.is_empty()
        {
            paragraph(&mut line, &policy.answer.message);
        }
        for requirement in &policy.requirements {
            line(format!(
                "  {}: {}",
                requirement.name,
                summary(&requirement.answer)
            ));
            paragraph(&mut line, &requirement.answer.message);
            if !requirement.signed_by.is_empty() {
                line(format!(
                    "    Signed by SigningKey {}.",
                    requirement.signed_by.join(", ")
                ));
            }
        }
        if let Some(time) = policy.answer.valid_until {
            line(format!("  This changes by itself at {time}."));
        }
    }
    text
}

fn summary(answer: &PolicyAnswer) -> String {
    format!("{}, {}", answer.verdict, answer.reason)
}

/// Wrapped at 96 columns, indented by four.
fn paragraph(line: &mut impl FnMut(String), message: &str) {
    for text in output::wrapped(message, 92) {
        line(format!("    {text}"));
    }
}

/// `Kind/name`, or `Kind.group/name` for a custom kind.
fn workload(text: &str) -> Result<WorkloadRef, String> {
    let (kind, name) = match text.split_once('/') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() => (kind, name),
        _ => return Err(format!("{text:?} is not of the form Kind/name")),
    };
    let (kind, group) = kind.split_once('.').unwrap_or((kind, "apps"));
    Ok(WorkloadRef {
        api_version: format!("{group}/v1"),
        kind: kind.to_owned(),
        name: name.to_owned(),
        ..WorkloadRef::default()
    })
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not of the form key=value")),
    }
}
