//! Runs `assay check` and reads what it says.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use testkit::{Cosign, CosignVersion, Shared};

use crate::binary::assay;

/// A folder of one test, with real cosign of both versions, and the registries of the run.
pub(crate) struct Desk {
    pub(crate) shared: &'static Shared,
    pub(crate) folder: PathBuf,
    pub(crate) cosign2: Cosign,
    pub(crate) cosign3: Cosign,
}

impl Desk {
    pub(crate) fn new(test: &str) -> Self {
        let shared = testkit::shared().unwrap();
        let folder = shared.folder().join("check").join(test);
        std::fs::create_dir_all(&folder).unwrap();
        let cosign = |version, name: &str| Cosign::new(version, folder.join(name)).unwrap();
        Self {
            shared,
            cosign2: cosign(CosignVersion::V2, "cosign2"),
            cosign3: cosign(CosignVersion::V3, "cosign3"),
            folder,
        }
    }

    /// `assay check IMAGE -f FILE` with the manifests in the file, for both registries and further arguments.
    pub(crate) async fn check(&self, image: &str, manifests: &[&Value], further: &[&str]) -> Checked {
        let hosts = [self.shared.distribution.host(), self.shared.referrers.host()];
        let mut arguments = vec!["-o", "json"];
        for host in &hosts {
            arguments.extend(["--insecure-registry", host]);
        }
        arguments.extend(further);
        let output = self.run(image, manifests, &arguments).await;
        let answer = match output.stdout.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&output.stdout).unwrap(),
        };
        Checked {
            code: output.status.code().unwrap(),
            answer,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// `assay check` as it is told, with all it prints.
    pub(crate) async fn run(
        &self,
        image: &str,
        manifests: &[&Value],
        arguments: &[&str],
    ) -> std::process::Output {
        let documents: Vec<String> = manifests
            .iter()
            .map(|manifest| format!("{manifest:#}\n"))
            .collect();
        let file = self.write(&documents.join("---\n"));
        tokio::process::Command::new(assay())
            .args(["check", image, "-f"])
            .arg(file)
            .args(arguments)
            .kill_on_drop(true)
            .output()
            .await
            .unwrap()
    }

    /// A file of its own with a text.
    pub(crate) fn write(&self, text: &str) -> PathBuf {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let file = self
            .folder
            .join(format!("file-{}.yaml", NUMBER.fetch_add(1, Ordering::Relaxed)));
        std::fs::write(&file, text).unwrap();
        file
    }
}

/// What `assay check -o json` said.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) code: i32,
    pub(crate) answer: Value,
    pub(crate) stderr: String,
}

impl Checked {
    /// Fails unless the image has this verdict, the one policy gave this reason, and the exit code fits.
    /// Gives the policy's message.
    #[track_caller]
    pub(crate) fn says(&self, verdict: &str, reason: &str) -> &str {
        let policy = &self.answer["policies"][0];
        let found = (&self.answer["verdict"], &policy["verdict"], &policy["reason"]);
        assert_eq!(
            found,
            (&verdict.into(), &verdict.into(), &reason.into()),
            "{self:?}"
        );
        let code = match verdict {
            "Compliant" => 0,
            "Violating" => 1,
            _ => 2,
        };
        assert_eq!(self.code, code, "{self:?}");
        let message = policy["message"].as_str().unwrap();
        assert_eq!(message.is_empty(), verdict == "Compliant", "{self:?}");
        message
    }
}
