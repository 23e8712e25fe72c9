//! The armour (RFC 7468) around a public key: exactly one `PUBLIC KEY` block and nothing around it; and around the
//! certificates of a chain.
//! What is inside is `spki`'s business.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::key_error::KeyError;

/// An RSA key of 8192 bits takes about 1,500 bytes.
const MAX_PEM_BYTES: usize = 16 * 1024;
const LABEL: &str = "PUBLIC KEY";
const SHOWN_CHARS: usize = 40;

/// The DER inside the one `PUBLIC KEY` block that `text` consists of.
pub(crate) fn public_key_der(text: &str) -> Result<Vec<u8>, KeyError> {
    if text.len() > MAX_PEM_BYTES {
        return Err(KeyError::TooLong {
            found: text.len(),
            limit: MAX_PEM_BYTES,
        });
    }
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let begins: Vec<(usize, &str)> = lines
        .iter()
        .enumerate()
        .filter_map(|(at, line)| Some((at, boundary(line, "BEGIN")?)))
        .collect();
    let (begin, label) = match begins.as_slice() {
        [] => {
            return Err(KeyError::NoPemBlock {
                starts_with: shorten(text.trim_start()),
            });
        }
        [one] => *one,
        several => return Err(KeyError::SeveralPemBlocks { count: several.len() }),
    };
    if label != LABEL {
        return Err(KeyError::NotAPublicKey {
            label: shorten(label),
        });
    }
    let end = closing_line(&lines, begin)?;
    refuse_text_outside(&lines, begin, end)?;
    let body = lines[begin + 1..end].concat();
    let der = STANDARD.decode(body).map_err(|error| KeyError::MalformedPem {
        why: error.to_string(),
    })?;
    Ok(der)
}

/// The label of a `-----BEGIN label-----` or `-----END label-----` line.
fn boundary<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    line.strip_prefix("-----")?
        .strip_prefix(word)?
        .strip_prefix(' ')?
        .strip_suffix("-----")
}

fn closing_line(lines: &[&str], begin: usize) -> Result<usize, KeyError> {
    let malformed = |why: String| KeyError::MalformedPem { why };
    let end = (begin + 1..lines.len())
        .find(|&at| boundary(lines[at], "END").is_some())
        .ok_or_else(|| malformed(format!("there is no `-----END {LABEL}-----` line")))?;
    if boundary(lines[end], "END") != Some(LABEL) {
        return Err(malformed(format!(
            "the closing line is {:?}, not `-----END {LABEL}-----`",
            shorten(lines[end])
        )));
    }
    Ok(end)
}

fn refuse_text_outside(lines: &[&str], begin: usize, end: usize) -> Result<(), KeyError> {
    let outside = lines[..begin]
        .iter()
        .chain(&lines[end + 1..])
        .find(|line| !line.is_empty());
    match outside {
        Some(line) => Err(KeyError::TextOutsidePemBlock { text: shorten(line) }),
        None => Ok(()),
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}

/// The DER of every `CERTIFICATE` block; none if any part of the text is something else, since what is left of a
/// chain is another chain.
pub(crate) fn certificates(text: &str) -> Option<Vec<Vec<u8>>> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if boundary(line, "BEGIN") != Some("CERTIFICATE") {
            return None;
        }
        let mut body = String::new();
        loop {
            let line = lines.next()?;
            match boundary(line, "END") {
                Some("CERTIFICATE") => break,
                Some(_) => return None,
                None => body.push_str(line),
            }
        }
        found.push(STANDARD.decode(body).ok()?);
    }
    Some(found)
}
