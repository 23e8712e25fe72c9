//! The documents: every command that they show is run, in order, on a cluster of its own with the operator under the
//! rights of `config/rbac`, and what they print beside it is what it prints.
//!
//! - A block `sh` is run by bash and must succeed.
//! - A block `sh checked` is too long for a test or about another machine; its commands, with their subcommands, and
//!   its make targets must exist.
//! - A block `console` shows commands behind `$ ` with their output. It is compared, without ages, digests and the
//!   registry's address, until it fits or [`LIMIT`] is over. A command that shows nothing must succeed.
//!
//! `ASSAY_DOCS=walkthroughs` runs only the README and the documents that it names, for whoever writes one.
//!
//! All documents share one folder, the README first; beside what they write there is `config`, that of the sources. The
//! namespace `shop` runs the Deployments `web` and `cart`, whose images nobody signed yet.
//! The differences to what a reader types: the registry has no TLS, so `assay check` is told so behind its back, and
//! cosign finds the password of its keys in the environment.

mod blocks;
mod text;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use testkit::{
    Cluster, ClusterOptions, Lifetime, NodeOptions, NodeSimulator, OPERATOR_ACCOUNT, OPERATOR_NAMESPACE,
    Operator, OperatorSpec, Registry, Server, Tools, eventually, run_folder, workspace_root,
};

use self::blocks::{Block, Kind, blocks, commands, make_targets, normal, shown, subcommand};
use crate::binary::assay;

/// How long a command may take to print what the document shows.
const LIMIT: Duration = Duration::from_secs(150);

/// The README first: what it writes, the others use.
fn documents() -> Vec<PathBuf> {
    let folder = workspace_root().join("docs");
    let entries = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    files.sort();
    files.insert(0, workspace_root().join("README.md"));
    files.extend(["CONTRIBUTING.md", "SECURITY.md"].map(|name| workspace_root().join(name)));
    files
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn all_blocks() -> Vec<Block> {
    let short = |file: &Path| file.strip_prefix(workspace_root()).unwrap_or(file).to_owned();
    let of = |file: &PathBuf| blocks(&short(file), &read(file));
    documents().iter().flat_map(of).collect()
}

/// Deliverables 7 to 9: what the documents tell a user to type works, and gives what they show.
#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_documents_works_and_prints_what_they_show() {
    let stage = Stage::start().await;
    let mut failed = Vec::new();
    let mut count = 0;
    for block in all_blocks().iter().filter(|block| is_wanted(block)) {
        let result = match block.kind {
            Kind::Run => stage.run(block).await,
            Kind::Console => stage.compare(block).await,
            Kind::Checked => stage.check(block).await,
            Kind::Other => continue,
        };
        count += 1;
        failed.extend(result.err().map(|why| format!("{}: {why}", block.place)));
    }
    failed.extend(stage.metrics_that_are_not_told());
    assert!(count > 20, "found only {count} blocks of commands");
    assert!(
        failed.is_empty(),
        "\n{}\n{}",
        failed.join("\n"),
        stage.operator.log_tail()
    );
}

/// Whether a block is to be run: all are, unless somebody asks for less.
fn is_wanted(block: &Block) -> bool {
    let Ok(wanted) = std::env::var("ASSAY_DOCS") else {
        return true;
    };
    let mut names = wanted.split(',').chain(["README"]);
    names.any(|name| block.place.contains(&format!("{name}.md:")))
}

/// Everything that the commands need.
struct Stage {
    folder: PathBuf,
    cluster: Cluster,
    _nodes: NodeSimulator,
    registry: Registry,
    operator: Server,
    address: String,
    path: String,
}

impl Stage {
    async fn start() -> Self {
        let folder = run_folder().unwrap().join("docs");
        let work = folder.join("work");
        std::fs::create_dir_all(&work).unwrap();
        let (cluster, registry) = tokio::try_join!(
            Cluster::start(folder.join("cluster"), ClusterOptions::default()),
            Registry::referrers(folder.join("registry")),
        )
        .unwrap();
        let nodes = NodeSimulator::start(&cluster, NodeOptions::default())
            .await
            .unwrap();
        for base in ["config/crd", "config/rbac", "config/guards"] {
            cluster.kubectl(&["apply", "-k", base]).await.unwrap();
        }
        let established = [
            "wait",
            "--for=condition=Established",
            "crd",
            "--all",
            "--timeout=120s",
        ];
        cluster.kubectl(&established).await.unwrap();
        run_the_shop(&cluster, &registry).await;
        std::os::unix::fs::symlink(workspace_root().join("config"), work.join("config")).unwrap();
        let (operator, address) = start_operator(&cluster, &registry, &folder.join("operator")).await;
        let path = search_path(&folder.join("bin"));
        Self {
            folder,
            cluster,
            _nodes: nodes,
            registry,
            operator,
            address,
            path,
        }
    }

    async fn run(&self, block: &Block) -> Result<(), String> {
        self.bash(&block.text).await.map(drop)
    }

    /// Each command must come to print what is shown.
    async fn compare(&self, block: &Block) -> Result<(), String> {
        for shown in shown(block) {
            let wanted = normal(&shown.output, "$REGISTRY");
            let look = async || {
                let output = self.output(&shown.command).await?;
                if wanted.is_empty() && !output.status.success() {
                    return Err(told(&shown.command, &output));
                }
                let found = normal(&printed(&output), &self.registry.host());
                match found == wanted {
                    true => Ok(()),
                    false => Err(format!("prints\n{found}\nand not\n{wanted}")),
                }
            };
            let result = eventually(&shown.command, LIMIT, look).await;
            result.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// The commands exist, and the make targets.
    async fn check(&self, block: &Block) -> Result<(), String> {
        let targets = self
            .bash(&format!("make -s -C '{}' help", workspace_root().display()))
            .await?;
        for target in make_targets(&block.text) {
            let is_told = |line: &str| line.split_whitespace().nth(1) == Some(&target);
            if !targets.lines().any(is_told) {
                return Err(format!("`make help` tells no target {target:?}"));
            }
        }
        for words in commands(&block.text) {
            match words[0].as_str() {
                "make" | "cargo" | "cat" => {}
                "kubectl" | "assay" | "cosign" | "crane" => {
                    let help = format!("{} {} --help", words[0], subcommand(&words));
                    self.bash(&help).await?;
                }
                other => return Err(format!("found the command {other:?}, which cannot be checked")),
            }
        }
        Ok(())
    }

    /// Runs a script that must succeed; gives what it prints.
    async fn bash(&self, script: &str) -> Result<String, String> {
        let output = self.output(script).await?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(told(script, &output)),
        }
    }

    async fn output(&self, script: &str) -> Result<Output, String> {
        let mut command = tokio::process::Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c", script])
            .current_dir(self.folder.join("work"))
            .env("PATH", &self.path)
            .env("HOME", &self.folder)
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .env("REGISTRY", self.registry.host())
            .env("COSIGN_PASSWORD", "secret")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let ended = tokio::time::timeout(LIMIT, command.output()).await;
        let output = ended.map_err(|_| format!("`{script}` does not end"))?;
        output.map_err(|error| format!("`{script}`: {error}"))
    }

    /// The metrics of docs/operations.md that the operator does not tell, and the other way round.
    fn metrics_that_are_not_told(&self) -> Vec<String> {
        let page = get(&self.address, "/metrics").unwrap();
        let operations = read(&workspace_root().join("docs/operations.md"));
        let names: Vec<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        let explains = |name: &&str| {
            let mut rows = operations.lines().filter(|line| line.starts_with("| `"));
            rows.any(|row| row.contains(&format!("`{name}")))
        };
        let unexplained = names.iter().filter(|name| !explains(name));
        let unexplained =
            unexplained.map(|name| format!("docs/operations.md does not explain the metric {name}"));
        let rows = operations
            .lines()
            .filter_map(|line| line.strip_prefix("| `assay_"));
        let source = ["mod.rs", "sources.rs", "totals.rs"]
            .map(|file| read(&workspace_root().join("crates/controller/src/metrics").join(file)));
        // A counter that counted nothing yet is not on the page.
        let registers = |name: &str| {
            let bare = name.trim_end_matches("_total").trim_end_matches("_info");
            source.iter().any(|text| text.contains(&format!("\"{bare}\"")))
        };
        let unknown = rows
            .filter_map(|row| row.split('`').next())
            .filter(|name| !registers(name))
            .map(|name| format!("docs/operations.md explains the metric assay_{name}, which there is not"));
        unexplained.chain(unknown).collect()
    }
}

/// What a script that failed told.
fn told(script: &str, output: &Output) -> String {
    format!("`{script}` ends with {}:\n{}", output.status, printed(output))
}

/// What a script printed, errors last.
fn printed(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// What the README takes for granted: two images and their Deployments.
async fn run_the_shop(cluster: &Cluster, registry: &Registry) {
    let writer = registry.writer();
    let web = writer.push_image("shop/web", "1.4", "docs/web").await.unwrap();
    let cart = writer.push_image("shop/cart", "2.0", "docs/cart").await.unwrap();
    cluster.kubectl(&["create", "namespace", "shop"]).await.unwrap();
    cluster.wait_for_service_account("shop").await.unwrap();
    for (name, image) in [("web", &web), ("cart", &cart)] {
        let image = image.by_tag();
        let create = ["-n", "shop", "create", "deployment", name, "--image", &image];
        cluster.kubectl(&create).await.unwrap();
    }
}

async fn start_operator(cluster: &Cluster, registry: &Registry, folder: &Path) -> (Server, String) {
    let kubeconfig = cluster
        .kubeconfig_for_service_account(OPERATOR_NAMESPACE, OPERATOR_ACCOUNT)
        .await
        .unwrap();
    let operator = Operator::start(OperatorSpec {
        program: assay(),
        folder: folder.to_owned(),
        kubeconfig,
        arguments: vec!["--insecure-registry".to_owned(), registry.host()],
        lifetime: Lifetime::Supervised,
    });
    let operator = operator.unwrap();
    operator.until_ready(LIMIT).await.unwrap();
    (operator.server, operator.address)
}

/// A page of the operator; an error where it is not 200.
fn get(address: &str, page: &str) -> Result<String, String> {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "GET {page} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = ask().map_err(|error| error.to_string())?;
    match answer.starts_with("HTTP/1.1 200") {
        true => Ok(answer),
        false => Err(answer),
    }
}

/// A PATH with `assay`, cosign 3, kubectl, crane and what the system has.
fn search_path(bin: &Path) -> String {
    std::fs::create_dir_all(bin).unwrap();
    let script = format!(
        "#!/usr/bin/env bash\n\
         if [ \"${{1:-}}\" = check ] && [ \"${{2:-}}\" != --help ]; then set -- \"$@\" --insecure-registry \"$REGISTRY\"; fi\n\
         exec '{}' \"$@\"\n",
        assay().display()
    );
    let file = bin.join("assay");
    std::fs::write(&file, script).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink(assay(), bin.join("kubectl-assay")).unwrap();
    let tools = Tools::locate().unwrap();
    std::os::unix::fs::symlink(tools.path("cosign3").unwrap(), bin.join("cosign")).unwrap();
    let system = std::env::var("PATH").unwrap();
    format!("{}:{}:{system}", bin.display(), tools.folder().display())
}
