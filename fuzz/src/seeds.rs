//! What the corpora begin with: the fixtures of the tests, and a line of each format.

use std::path::{Path, PathBuf};

/// The evidence that the verifier's tests hold, by the ends of the files' names.
pub(crate) fn fixtures(ends: &[&str]) -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    collect(&folder(), &mut files);
    files.sort();
    files
        .iter()
        .filter(|file| ends.iter().any(|end| file.to_string_lossy().ends_with(end)))
        .filter_map(|file| std::fs::read(file).ok())
        .filter(|content| content.len() <= 1 << 16)
        .collect()
}

/// The certificates in the fixtures' trust roots, in PEM.
pub(crate) fn certificates() -> Vec<Vec<u8>> {
    let roots = fixtures(&["trusted_root.json"]);
    let texts = roots.iter().filter_map(|root| std::str::from_utf8(root).ok());
    let encoded = texts
        .flat_map(|root| root.split('"'))
        .filter(|text| text.starts_with("MII"));
    encoded
        .map(|der| format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n").into_bytes())
        .collect()
}

/// One file of them.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap_or_else(|_| Vec::new())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/verify/tests/fixtures")
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// Texts as inputs.
pub(crate) fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
