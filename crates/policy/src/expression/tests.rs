//! What expressions mean, what is refused when they are read, and that evaluating them is bounded.

use serde_json::{Value, json};

use super::*;

fn evaluate_over(source: &str, predicate: &Value) -> Evaluation {
    let expression = Expression::compile(source).unwrap_or_else(|why| panic!("{source}: {why}"));
    let statement = json!({"predicateType": "https://example.com/review/v1", "predicate": predicate});
    expression.evaluate(&Inputs {
        statement: &statement,
        predicate: &statement["predicate"],
        signer: &json!({"keyRing": "review", "key": "review-1"}),
        image: &json!({"repository": "registry.example.com/shop/web", "digest": "sha256:00"}),
    })
}

fn evaluate(source: &str) -> Evaluation {
    let predicate = json!({
        "approvals": [
            {"by": "ada", "at": "2026-11-20T10:00:00Z", "score": 3},
            {"by": "bob", "at": "2026-11-21T10:00:00Z", "score": 2.5},
        ],
        "author": "eve",
        "commit": "0123abc",
        "labels": {"team": "shop", "tier": "1"},
        "count": 2,
        "ratio": 0.5,
        "nothing": null,
        "big": 18446744073709551615_u64,
        "no": false,
    });
    evaluate_over(source, &predicate)
}

fn refusal(source: &str) -> String {
    Expression::compile(source).unwrap_err()
}

#[test]
fn c4_04_counts_identities_and_commits_are_compared() {
    for source in [
        "predicate.approvals.size() >= 2",
        "size(predicate.approvals) == predicate.count",
        "predicate.approvals.all(a, a.by != predicate.author)",
        "predicate.approvals.exists(a, a.by == 'bob' && a.score > 2)",
        "predicate.approvals.exists_one(a, a.by == 'ada')",
        "predicate.approvals.filter(a, a.score > 2.6).size() == 1",
        "predicate.approvals.map(a, a.by) == ['ada', 'bob']",
        "predicate.approvals.map(a, a.score > 2.6, a.by) == ['ada']",
        "'ada' in predicate.approvals.map(a, a.by)",
        "predicate.commit.startsWith('0123') && predicate.commit.endsWith('abc') && predicate.commit.contains('23a')",
        "predicate.commit.matches('^[0-9a-f]{7}$')",
        "statement.predicateType == 'https://example.com/review/v1'",
        "signer.keyRing == 'review' && image.repository.endsWith('/shop/web')",
        "has(predicate.author) && !has(predicate.reviewer)",
        "predicate.labels['team'] == 'shop' && 'tier' in predicate.labels",
        "predicate.labels.all(key, key.size() == 4)",
        "predicate.approvals[0].by == 'ada'",
        "timestamp(predicate.approvals[1].at) - timestamp(predicate.approvals[0].at) == duration('24h')",
        "timestamp(predicate.approvals[0].at) + duration('1h') < timestamp('2026-11-20T12:00:00Z')",
        "predicate.count > 1 ? predicate.ratio * 4.0 == 2.0 : false",
        "int(predicate.labels.tier) + 1 == predicate.count && string(predicate.count) == '2'",
        "double(predicate.count) / 4.0 == predicate.ratio && 7 % 4 == 3 && -7 / 2 == -3",
        "predicate.count == 2.0 && 2.0 >= predicate.count && predicate.count < 2.1",
        "predicate.nothing == null && predicate.count != '2'",
        "[1, 2] + [3] == [1, 2, 3] && 'a' + 'b' == 'ab'",
        "predicate.approvals.all(a, predicate.approvals.exists_one(b, b.by == a.by))",
        "true || predicate.missing && false",
    ] {
        assert_eq!(evaluate(source), Evaluation::True, "{source}");
    }
}

#[test]
fn what_does_not_hold_is_false() {
    for source in [
        "predicate.approvals.size() >= 3",
        "predicate.approvals.all(a, a.by == 'ada')",
        "predicate.approvals.exists(a, a.by == 'eve')",
        "predicate.approvals.exists_one(a, a.score > 2)",
        "predicate.no",
        "!has(predicate.author)",
        "predicate.commit == '0123abcd'",
        "predicate == predicate.labels",
        "9007199254740993 == 9007199254740992.0",
    ] {
        assert_eq!(evaluate(source), Evaluation::False, "{source}");
    }
}

/// Seen to fail with `Evaluation::Failed` taken for true in `machine::run`.
#[test]
fn b53_an_error_or_an_absence_is_never_true() {
    for source in [
        "predicate.missing",
        "predicate.missing == 1",
        "predicate.missing != 1",
        "!predicate.missing",
        "predicate.missing.deeper != 'x'",
        "predicate.approvals.all(a, a.missing != 'x')",
        "!predicate.approvals.exists(a, a.missing == 'x')",
        "predicate.approvals.exists_one(a, a.missing == 'x') || false",
        "predicate.approvals.filter(a, a.missing).size() == 0",
        "predicate.missing.all(a, true)",
        "predicate.author.all(a, true)",
        "predicate.approvals[7].by != 'x'",
        "predicate.approvals[-1].by != 'x'",
        "predicate.author > 1",
        "predicate.author + 1 != 2",
        "predicate.count / 0 != 1",
        "9223372036854775807 + 1 != 0",
        "predicate.big > 0",
        "timestamp(predicate.author) < timestamp('2026-11-20T12:00:00Z')",
        "int(predicate.author) != 1",
        "predicate.count",
        "'true'",
        "predicate",
        "predicate.nothing",
        "true && predicate.missing",
        "predicate.missing || predicate.missing",
    ] {
        assert!(
            matches!(evaluate(source), Evaluation::Failed(_)),
            "{source}: {:?}",
            evaluate(source)
        );
    }
}

#[test]
fn a_failure_is_absorbed_where_another_operand_or_item_decides() {
    for (source, value) in [
        ("predicate.missing || true", Evaluation::True),
        ("predicate.missing && false", Evaluation::False),
        (
            "predicate.approvals.exists(a, a.by == 'bob' || a.missing)",
            Evaluation::True,
        ),
        ("[1, 0, 2].exists(n, 4 / n == 2)", Evaluation::True),
        ("[1, 0, 2].all(n, 4 / n == 4)", Evaluation::False),
    ] {
        assert_eq!(evaluate(source), value, "{source}");
    }
    assert!(matches!(
        evaluate("[0, 1].all(n, 4 / n == 4)"),
        Evaluation::Failed(_)
    ));
}

/// Seen to fail with `OverBudget` taken for true in `Machine::run`.
#[test]
fn b53_an_evaluation_past_its_budget_is_never_true() {
    let many = json!({"items": (0..20_000).collect::<Vec<u32>>(), "text": "x".repeat(100_000)});
    for source in [
        "predicate.items.all(a, predicate.items.exists(b, b == a))",
        "true && !predicate.items.exists(a, predicate.items.exists(b, a + b < 0))",
        "predicate.items.all(a, predicate.items.all(b, true)) || true",
        "predicate.items.map(a, predicate.items.map(b, b)).size() == 20000 || true",
        "predicate.items.all(a, predicate.text.contains('y') || true)",
        "predicate.items.all(a, predicate.text.matches('y$') || true)",
        "predicate.items.all(a, predicate.text + 'x' != '')",
        "predicate.items.all(a, predicate.items == predicate.items)",
    ] {
        let Evaluation::Failed(why) = evaluate_over(source, &many) else {
            panic!("{source} has a value");
        };
        assert!(why.contains("too many steps"), "{source}: {why}");
    }
    assert_eq!(
        evaluate_over("predicate.items.all(a, a >= 0 && a < 20000)", &many),
        Evaluation::True,
        "a long list is looked through once"
    );
}

#[test]
fn lists_and_texts_that_double_at_each_step_end_at_the_budget() {
    let doubled = |step: &str, seed: &str| format!("size({seed}{}[0]) > 0", step.repeat(50));
    for source in [
        doubled(".map(x, x + x)", "['a']"),
        doubled(".map(x, x + x)", "[[1]]"),
    ] {
        let Evaluation::Failed(why) = evaluate_over(&source, &json!({})) else {
            panic!("it has a value");
        };
        assert!(why.contains("too many steps") || why.contains("deeper"), "{why}");
    }
}

#[test]
fn c5_21_what_cannot_be_evaluated_is_refused_when_it_is_read() {
    for (source, says) in [
        ("", "<input>"),
        ("predicate.", "<input>"),
        ("a == 1", "there is no variable a"),
        (
            "now < timestamp('2026-11-20T12:00:00Z')",
            "there is no variable now",
        ),
        ("predicate.all(a, b)", "there is no variable b"),
        ("size(1, 2)", "there is no function size of 2 arguments"),
        ("exec('ls')", "there is no function exec"),
        ("predicate.text.matches(predicate.pattern)", "must be written out"),
        ("predicate.text.matches('(')", "cannot be used"),
        ("predicate.text.matches('((a{100}){100}){100}')", "cannot be used"),
        ("{'a': 1}.a == 1", "maps and messages cannot be built"),
        ("b'abc' == predicate.a", "bytes are not supported"),
        ("predicate.count > 1u", "unsigned numbers"),
        (
            "timestamp('yesterday') < timestamp('2026-11-20T12:00:00Z')",
            "is no time",
        ),
        ("duration('1d') > duration('1h')", "not a duration"),
    ] {
        let refusal = refusal(source);
        assert!(refusal.contains(says), "{source}: {refusal}");
    }
    let nested = |depth: usize| format!("{}true{}", "(!".repeat(depth), ")".repeat(depth));
    assert!(Expression::compile(&nested(20)).is_ok());
    assert!(Expression::compile(&nested(300)).is_err());
    let loops = "predicate.a.all(a, ".repeat(5) + "true" + &")".repeat(5);
    assert!(refusal(&loops).contains("loops nest deeper"));
    assert!(refusal(&format!("'{}' == ''", "x".repeat(4096))).contains("4096 are allowed"));
}

#[test]
fn a_long_chain_is_read_and_evaluated_on_a_small_stack() {
    let chain = vec!["predicate.count == 2"; 150].join(" && ");
    let deep = format!("{}1 > 0", "1 + ".repeat(60));
    for source in [chain, deep] {
        let small = std::thread::Builder::new().stack_size(1024 * 1024);
        let answer = small.spawn(move || evaluate(&source)).unwrap().join().unwrap();
        assert_eq!(answer, Evaluation::True);
    }
}
