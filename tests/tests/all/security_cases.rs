//! The page of security cases: every test that it names exists and is run, and every case has one that says on which
//! change of the sources it was seen to fail. No server is needed.

use std::collections::BTreeMap;

use testkit::workspace_root;

/// The cases that must be there, besides those of registry clients.
const CASES: &str = "B01 B02 B03 B04 B05 B06 B07 B08 B09 B10 B11 B12 B13 B14 B15 B16 B17 B18 B19 B20 B21 B22 B23 B27 \
    B30 B32 B33 B34 B36 B37 B40 B41 B42 B43 B44 B45 B46 B47 B48 B49 B50 B51 B52 B53 B54 B55 F08 R1 R2 R3 R4 R5 R6 R7 \
    C2.01 C2.03 C2.05 C2.06 C2.07 C2.12 C3.12 C4.01 C4.02 C4.03 C4.04 C4.06 C4.08 C4.10 C4.11 C4.12";

/// A test as the page names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    file: String,
    test: String,
}

/// The tests of each case, by its number.
fn cases(page: &str) -> BTreeMap<String, Vec<Named>> {
    let mut cases = BTreeMap::<String, Vec<Named>>::new();
    let (mut case, mut file) = (String::new(), String::new());
    for line in page.lines() {
        let name = |prefix: &str| line.strip_prefix(prefix)?.strip_suffix('`').map(str::to_owned);
        if let Some(heading) = line.strip_prefix("### ") {
            case = heading.split(' ').next().unwrap_or_default().to_owned();
            cases.entry(case.clone()).or_default();
        } else if let Some(path) = name("- `") {
            file = path;
        } else if let Some(test) = name("  - `") {
            let named = Named {
                file: file.clone(),
                test,
            };
            cases.entry(case.clone()).or_default().push(named);
        }
    }
    cases
}

/// The comment and the attributes above a function of this name, where it is a test.
fn above<'a>(source: &'a str, test: &str) -> Option<Vec<&'a str>> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let starts = [format!("fn {test}("), format!("async fn {test}(")];
    let at = lines
        .iter()
        .position(|line| starts.iter().any(|start| line.starts_with(start.as_str())))?;
    let is_above = |line: &&&str| line.starts_with("//") || line.starts_with("#[");
    let above: Vec<&str> = lines[..at].iter().rev().take_while(is_above).copied().collect();
    above
        .iter()
        .any(|line| line.starts_with("#[") && line.contains("test"))
        .then_some(above)
}

/// It says with which change of the sources it failed, in its comment or beside what then fails.
fn names_a_weakened_build(source: &str, test: &str) -> bool {
    let says = |text: &str| {
        ["eakened", "een to fail", "ails on a build"]
            .iter()
            .any(|words| text.contains(words))
    };
    let above = above(source, test).unwrap_or_default();
    let body = source.split(&format!("fn {test}(")).nth(1).unwrap_or_default();
    let end = body.find("\n}").unwrap_or(body.len());
    above.iter().any(|line| says(line)) || says(&body[..end])
}

#[test]
fn every_case_names_tests_that_exist_and_one_of_them_a_weakened_build() {
    let root = workspace_root();
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap_or_default();
    let cases = cases(&read("docs/security-cases.md"));
    let mut wrong = Vec::new();
    for case in CASES.split_whitespace() {
        let named = cases.get(case).cloned().unwrap_or_default();
        for Named { file, test } in &named {
            if above(&read(file), test).is_none() {
                wrong.push(format!("{case}: {file} has no test {test}"));
            }
        }
        if !named
            .iter()
            .any(|named| names_a_weakened_build(&read(&named.file), &named.test))
        {
            wrong.push(format!("{case}: no test says on which weakened build it failed"));
        }
    }
    let unknown = cases
        .keys()
        .filter(|case| !CASES.split_whitespace().any(|known| known == *case));
    wrong.extend(unknown.map(|case| format!("{case}: nobody expects this case")));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The search above finds what is there and nothing else.
#[test]
fn a_test_that_is_renamed_is_missed() {
    let source =
        "/// Weakened once: so.\n#[test]\nfn one() {\n}\n\nfn two() {\n}\n\n#[test]\nfn three() {\n}\n";
    assert!(above(source, "one").is_some() && names_a_weakened_build(source, "one"));
    assert!(above(source, "on").is_none() && above(source, "two").is_none());
    assert!(above(source, "three").is_some() && !names_a_weakened_build(source, "three"));
}
