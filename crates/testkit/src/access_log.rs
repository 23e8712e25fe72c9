//! Reads what a registry logged about its requests: lines in the combined log format of web servers.

use std::path::Path;

use crate::{Result, TestkitError};

/// One request as the registry itself logged it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedRequest {
    /// `GET`, `HEAD`, …
    pub method: String,
    /// The path with its query, for example `/v2/shop/web/manifests/1.0`.
    pub path: String,
    /// The HTTP status of the answer.
    pub status: u16,
    /// The client's User-Agent header.
    pub user_agent: String,
}

/// The requests logged in a file from a byte offset on. A last line that is still being written is left out,
/// and so are the registry's other messages.
pub(crate) fn read(log: &Path, from: u64) -> Result<Vec<LoggedRequest>> {
    let bytes = std::fs::read(log).map_err(TestkitError::file("read", log))?;
    let start = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
    let text = String::from_utf8_lossy(&bytes[start..]);
    let whole_lines = text.rfind('\n').map_or("", |end| &text[..end]);
    Ok(whole_lines.lines().filter_map(parse).collect())
}

/// `127.0.0.1 - - [22/Nov/2026:16:00:00 +0000] "GET /v2/ HTTP/1.1" 200 2 "" "agent/1.0"`
fn parse(line: &str) -> Option<LoggedRequest> {
    let (_client, rest) = line.split_once(" - ")?;
    let (request, rest) = quoted(rest.split_once("] ")?.1)?;
    let (status, rest) = rest.trim_start().split_once(' ')?;
    let (_bytes, rest) = rest.split_once(' ')?;
    let (_referrer, rest) = quoted(rest)?;
    let (user_agent, _) = quoted(rest.trim_start())?;
    let mut request = request.split(' ');
    Some(LoggedRequest {
        method: request.next()?.to_owned(),
        path: request.next()?.to_owned(),
        status: status.parse().ok()?,
        user_agent,
    })
}

/// The text between the quotes at the start of `text`, and what follows; a backslash keeps the next character.
fn quoted(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut content = String::new();
    let mut characters = inner.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((content, &inner[at + 1..])),
            '\\' => content.extend(characters.next().map(|(_, escaped)| escaped)),
            other => content.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_combined_format_gives_a_request() {
        let line = r#"127.0.0.1 - - [22/Nov/2026:16:00:00 +0000] "GET /v2/a/tags/list?n=5 HTTP/1.1" 404 19 "" "agent/1.0 (\"x\")""#;
        let expected = LoggedRequest {
            method: "GET".to_owned(),
            path: "/v2/a/tags/list?n=5".to_owned(),
            status: 404,
            user_agent: "agent/1.0 (\"x\")".to_owned(),
        };
        assert_eq!(parse(line), Some(expected));
    }

    #[test]
    fn other_messages_give_no_request() {
        let line =
            r#"time="2026-11-22T16:00:00Z" level=info msg="listening on 127.0.0.1:5000" go.version=go1.26"#;
        assert_eq!(parse(line), None);
    }
}
