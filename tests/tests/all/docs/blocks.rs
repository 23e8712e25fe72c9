//! The fenced blocks of a document, and their comparison with what commands print. Pure.

use std::path::Path;

/// What a block holds, by the words behind its fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `sh`: a script that is run and must succeed.
    Run,
    /// `sh checked`: a script that takes too long for a test, or another machine; its commands must exist.
    Checked,
    /// `console`: commands behind `$ `, each with what it prints.
    Console,
    /// Anything else: nothing is run.
    Other,
}

/// One fenced block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// The file and the line of the fence, for messages.
    pub(super) place: String,
    pub(super) kind: Kind,
    pub(super) text: String,
}

/// A command and what it prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) command: String,
    pub(super) output: String,
}

/// Every fenced block of a document, in order.
pub(super) fn blocks(file: &Path, document: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in document.lines().enumerate() {
        let hidden = line.starts_with(' ') && line.trim_start().starts_with("```");
        assert!(
            !hidden,
            "{}:{}: an indented block would not be run: begin it at the margin",
            file.display(),
            number + 1
        );
        match (line.strip_prefix("```"), &mut open) {
            (Some(words), None) => {
                open = Some(Block {
                    place: format!("{}:{}", file.display(), number + 1),
                    kind: kind(words),
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{}: a block is not closed", file.display());
    found
}

fn kind(words: &str) -> Kind {
    match words.trim() {
        "sh" => Kind::Run,
        "sh checked" => Kind::Checked,
        "console" => Kind::Console,
        other => {
            assert!(
                !other.starts_with("sh") && !other.starts_with("bash") && !other.starts_with("console"),
                "found a block of {other:?}, expected `sh`, `sh checked` or `console` for commands"
            );
            Kind::Other
        }
    }
}

/// The commands of a console block, each with the lines below it.
pub(super) fn shown(block: &Block) -> Vec<Shown> {
    let mut found: Vec<Shown> = Vec::new();
    for line in block.text.lines() {
        match (line.strip_prefix("$ "), found.last_mut()) {
            (Some(command), _) => found.push(Shown {
                command: command.to_owned(),
                output: String::new(),
            }),
            (None, Some(last)) => {
                last.output.push_str(line);
                last.output.push('\n');
            }
            (None, None) => panic!("{}: a console block begins with `$ `", block.place),
        }
    }
    found
}

/// The commands of a script by their words: pipes taken apart, without settings of variables, comments and what is
/// redirected.
pub(super) fn commands(script: &str) -> Vec<Vec<String>> {
    let joined = script.replace("\\\n", " ");
    let pieces = joined
        .lines()
        .filter(|line| !is_setting(line))
        .flat_map(|line| line.split('|'));
    pieces
        .map(|piece| {
            let words = piece
                .split_whitespace()
                .take_while(|word| !matches!(*word, ">" | "<") && !word.starts_with('#'));
            words.map(str::to_owned).collect::<Vec<_>>()
        })
        .filter(|words| !words.is_empty())
        .collect()
}

/// `export NAME=…` or `NAME=…` and nothing else.
fn is_setting(line: &str) -> bool {
    let line = line.strip_prefix("export ").unwrap_or(line);
    line.split_once('=')
        .is_some_and(|(name, _)| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase()))
}

/// The targets of every `make` in a script, also within `$(…)`.
pub(super) fn make_targets(script: &str) -> Vec<String> {
    let words: Vec<&str> = script
        .split(|letter: char| letter.is_whitespace() || matches!(letter, '(' | ')' | '"' | '|'))
        .collect();
    let after = |at: usize| words[at + 1..].iter().find(|word| !word.starts_with('-'));
    let makes = words.iter().enumerate().filter(|(_, word)| **word == "make");
    makes
        .map(|(at, _)| after(at).copied().unwrap_or_default().to_owned())
        .collect()
}

/// What is asked of a command: `get` of `kubectl -n assay-system get pods`, `auth login` of crane's.
pub(super) fn subcommand(words: &[String]) -> String {
    let mut rest = words[1..].iter().map(String::as_str);
    let mut found = Vec::new();
    while let Some(word) = rest.next() {
        match word {
            "-n" => drop(rest.next()),
            _ if word.starts_with('-') && found.is_empty() => {}
            "auth" | "rollout" | "create" if found.is_empty() => found.push(word),
            _ if word.starts_with('-') => break,
            _ => {
                found.push(word);
                break;
            }
        }
    }
    found.join(" ")
}

/// An output without what differs from run to run: the registry's address, digests, ages, widths of columns.
pub(super) fn normal(output: &str, registry: &str) -> String {
    let output = output.replace(registry, "registry.example.com");
    let line = |line: &str| {
        line.split_whitespace()
            .map(|word| normal_word(word).to_owned())
            .collect::<Vec<_>>()
            .join(" ")
    };
    output.trim_end().lines().map(line).collect::<Vec<_>>().join("\n")
}

fn normal_word(word: &str) -> &str {
    if is_digest(word) {
        "DIGEST"
    } else if is_age(word) {
        "AGE"
    } else if is_time(word) {
        "TIME"
    } else {
        word
    }
}

fn is_digest(word: &str) -> bool {
    let hex = word.trim_matches(['"', ',']).strip_prefix("sha256:");
    hex.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// As kubectl prints it: `4s`, `2m5s`, `3d4h`.
fn is_age(word: &str) -> bool {
    let mut digits = 0;
    for byte in word.bytes() {
        match byte {
            b'0'..=b'9' => digits += 1,
            b's' | b'm' | b'h' | b'd' if digits > 0 => digits = 0,
            _ => return false,
        }
    }
    !word.is_empty() && digits == 0
}

/// As statuses carry it: `2026-11-22T12:00:00Z`.
fn is_time(word: &str) -> bool {
    let shape = |letter: char| if letter.is_ascii_digit() { '0' } else { letter };
    word.chars().map(shape).eq("0000-00-00T00:00:00Z".chars())
}

#[test]
fn blocks_of_commands_are_told_from_others() {
    let document = "text\n```sh\na\n```\n```sh checked\nmake x \\\n  y | z\n```\n```yaml\nb: 1\n```\n```console\n$ c\nd\n$ e\n```\n";
    let found = blocks(Path::new("x.md"), document);
    let kinds: Vec<Kind> = found.iter().map(|block| block.kind).collect();
    assert_eq!(kinds, [Kind::Run, Kind::Checked, Kind::Other, Kind::Console]);
    assert_eq!(found[0].place, "x.md:2");
    assert_eq!(commands(&found[1].text), [vec!["make", "x", "y"], vec!["z"]]);
    let script = "export PATH=\"$(make -s tools TOOLS=crane):$PATH\"\ncrane auth login host < file # why\n";
    assert_eq!(make_targets(script), ["tools"]);
    assert_eq!(commands(script), [["crane", "auth", "login", "host"]]);
    assert_eq!(subcommand(&commands(script)[0]), "auth login");
    let words = "kubectl -n assay-system delete deployment assay"
        .split(' ')
        .map(str::to_owned);
    assert_eq!(subcommand(&words.collect::<Vec<_>>()), "delete");
    let both = shown(&found[3]);
    assert_eq!((both[0].command.as_str(), both[0].output.as_str()), ("c", "d\n"));
    assert_eq!((both[1].command.as_str(), both[1].output.as_str()), ("e", ""));
}

#[test]
fn what_differs_from_run_to_run_is_left_out_of_a_comparison_and_nothing_else() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let one = normal(&format!("NAME   AGE\nweb 2m5s {digest}\n"), "127.0.0.1:1");
    assert_eq!(one, "NAME AGE\nweb AGE DIGEST");
    assert_eq!(
        normal("127.0.0.1:1/shop/web", "127.0.0.1:1"),
        "registry.example.com/shop/web"
    );
    assert_eq!(normal("2026-11-22T12:00:00Z", "127.0.0.1:1"), "TIME");
    assert_ne!(normal("2026-11-22", "127.0.0.1:1"), "TIME");
    assert_ne!(normal("1 2", ""), normal("2 2", ""));
    assert!(!is_age("s") && !is_age("12") && !is_age("1.5s") && is_age("40s"));
}
