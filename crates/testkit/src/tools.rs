//! Where the programs are: the tools that `make tools` builds, and the workspace's own binaries.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::supervisor::SUPERVISOR_BINARY;
use crate::{Result, TestkitError};

/// The folder of the tools (`make tools-dir`).
#[derive(Debug, Clone)]
pub struct Tools {
    folder: PathBuf,
}

impl Tools {
    /// The folder that `ASSAY_TOOLS_DIR` names, else the one that `make -s tools-dir` prints.
    /// Builds nothing: a tool that is missing is an error of [`Tools::path`].
    pub fn locate() -> Result<Self> {
        static FOLDER: OnceLock<PathBuf> = OnceLock::new();
        if let Some(folder) = FOLDER.get() {
            return Ok(Self {
                folder: folder.clone(),
            });
        }
        let folder = match std::env::var_os("ASSAY_TOOLS_DIR") {
            Some(folder) => PathBuf::from(folder),
            None => PathBuf::from(output_of("make", ["-s", "tools-dir"])?.trim()),
        };
        Ok(Self {
            folder: FOLDER.get_or_init(|| folder).clone(),
        })
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of one tool, for example `kube-apiserver` or `cosign3`.
    pub fn path(&self, tool: &str) -> Result<PathBuf> {
        let path = self.folder.join(tool);
        if path.is_file() {
            Ok(path)
        } else {
            Err(TestkitError::ToolMissing {
                tool: tool.to_owned(),
                folder: self.folder.clone(),
            })
        }
    }
}

/// The root of the workspace.
pub fn workspace_root() -> &'static Path {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.ancestors().nth(2).unwrap_or(crate_folder)
}

/// The folder with the binaries of this build, for example `target/debug`: the one this process came from.
fn binaries_folder() -> Option<PathBuf> {
    let this = std::env::current_exe().ok()?;
    let folder = this.parent()?;
    let is_within = ["deps", "examples"].iter().any(|name| folder.ends_with(name));
    Some(if is_within {
        folder.parent()?.to_owned()
    } else {
        folder.to_owned()
    })
}

/// A binary of this workspace, brought up to date by cargo in this process's own profile: a test of one package may
/// need a binary of another, which cargo does not build for it.
///
/// The one that cargo built for a package's own tests (`CARGO_BIN_EXE_<name>`) serves as it is. With
/// `ASSAY_TESTKIT_PREBUILT` set, or where the source is not at hand, the one beside this process's own does.
pub fn workspace_binary(package: &str, binary: &str) -> Result<PathBuf> {
    if let Some(built_for_tests) = std::env::var_os(format!("CARGO_BIN_EXE_{binary}")) {
        return Ok(PathBuf::from(built_for_tests));
    }
    let folder = binaries_folder().ok_or_else(|| {
        TestkitError::Invalid("cannot tell where this process's own binary lies".to_owned())
    })?;
    let path = folder.join(binary);
    let is_prebuilt = std::env::var_os("ASSAY_TESTKIT_PREBUILT").is_some();
    if !is_prebuilt && workspace_root().join("Cargo.toml").is_file() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut arguments = vec!["build", "--quiet", "--workspace", "--bin", binary];
        if folder.ends_with("release") {
            arguments.push("--release");
        }
        output_of(&cargo, arguments)?;
    }
    if path.is_file() {
        Ok(path)
    } else {
        Err(TestkitError::Invalid(format!(
            "found no {binary} in {}: run `cargo build -p {package} --bin {binary}`",
            folder.display()
        )))
    }
}

/// The supervisor's binary: named by `ASSAY_TESTKIT_SUPERVISOR`, beside this process's own, or built now.
pub(crate) fn supervisor_binary() -> Result<PathBuf> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(found.clone());
    }
    let named = std::env::var_os("ASSAY_TESTKIT_SUPERVISOR").map(PathBuf::from);
    let beside = || {
        binaries_folder()
            .map(|folder| folder.join(SUPERVISOR_BINARY))
            .filter(|path| path.is_file())
    };
    let path = match named.or_else(beside) {
        Some(path) => path,
        None => workspace_binary("assay-testkit", SUPERVISOR_BINARY)?,
    };
    Ok(FOUND.get_or_init(|| path).clone())
}

/// Runs a program in the workspace's root and gives what it prints.
fn output_of<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = S>,
) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(workspace_root());
    let output = command.output().map_err(|source| TestkitError::Spawn {
        program: command.get_program().to_string_lossy().into_owned(),
        source,
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(TestkitError::Command {
        command: format!("{command:?}"),
        status: output.status.to_string(),
        output: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
