//! The commands of `kubectl assay` from arguments to output and exit code, over recorded objects: each is compared with
//! a file in `golden/`. ASSAY_WRITE_GOLDEN=1 writes the files anew; read the difference before you commit it.
//!
//! What the commands do on a real API server, with a real operator, is tested in `tests/`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]

mod commands;
mod following;
mod policies;
mod recorded;
mod starts;
mod untold;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use recorded::Recorded;

/// What a command printed, and its code.
struct Ran {
    text: String,
    code: i32,
    stdout: String,
}

/// Runs `kubectl assay` with these arguments against recorded objects.
fn run(cluster: &Recorded, arguments: &[&str]) -> Ran {
    let output = command(cluster, arguments).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let code = output.status.code().unwrap();
    Ran {
        text: format!(
            "$ kubectl assay {}\n{stdout}--- stderr\n{stderr}--- exit {code}\n",
            arguments.join(" ")
        ),
        code,
        stdout,
    }
}

/// `kubectl assay` with these arguments against recorded objects.
fn command(cluster: &Recorded, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_assay"));
    command
        .arg0("kubectl-assay")
        .args(arguments)
        .env("KUBECONFIG", cluster.kubeconfig())
        .env("NO_COLOR", "1")
        // Help is as wide as it says.
        .env_remove("COLUMNS")
        // Relative names keep the folder out of what is printed.
        .current_dir(cluster.folder())
        .stdin(Stdio::null());
    command
}

/// Compares what several commands print, one after the other, with a file.
fn golden(name: &str, cluster: &Recorded, commands: &[&[&str]]) -> Vec<Ran> {
    let ran: Vec<Ran> = commands.iter().map(|arguments| run(cluster, arguments)).collect();
    let found: String = ran
        .iter()
        .map(|ran| ran.text.as_str())
        .collect::<Vec<_>>()
        .join("\n");
    compared(name, cluster, &found);
    ran
}

/// Compares what was printed with a file.
fn compared(name: &str, cluster: &Recorded, found: &str) {
    let found = found.replace(&cluster.address(), "127.0.0.1:0");
    let file = golden_file(name);
    if std::env::var_os("ASSAY_WRITE_GOLDEN").is_some() {
        std::fs::write(&file, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == expected,
        "{} is not what is printed. Expected:\n{expected}\nFound:\n{found}",
        file.display()
    );
    for line in found
        .lines()
        .filter(|line| !line.contains('{') && !line.starts_with('$'))
    {
        // A digest is not broken, and -o wide cuts nothing.
        let is_data = line.trim_start().starts_with(['"', '-', '\''])
            || line.contains(": ")
            || line.contains("sha256:");
        assert!(
            is_data || line.chars().count() <= 100,
            "a line of more than 100 columns: {line}"
        );
    }
}

fn golden_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/kubectl/golden")
        .join(format!("{name}.txt"))
}
