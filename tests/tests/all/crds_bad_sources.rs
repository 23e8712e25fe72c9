//! Keyless SigningKeys, TrustRoots and RegistryConfigs that the real API server refuses, and what it says.

use serde_json::{Value, json};
use testkit::Shared;

use crate::crds::{accepted, refusal, update_refusal};
use crate::manifests::{PEM, key, with};
use crate::servers::servers;

/// What is wrong, a merge patch of a good spec that makes it so, and what the refusal must say.
type Bad = (&'static str, Value, &'static [&'static str]);

const ISSUER: &str = "https://token.actions.githubusercontent.com";

fn keyless(name: &str) -> Value {
    json!({
        "apiVersion": "assay.dev/v1alpha1",
        "kind": "SigningKey",
        "metadata": {"name": name},
        "spec": {
            "keyRing": "release", "stage": "Active",
            "keyless": {"issuer": ISSUER, "subjectRegex": "https://github\\.com/acme/[a-z]+/.*"},
        },
    })
}

fn trust_root(name: &str) -> Value {
    json!({
        "apiVersion": "assay.dev/v1alpha1",
        "kind": "TrustRoot",
        "metadata": {"name": name},
        "spec": {"inline": "{\"mediaType\": \"x\"}"},
    })
}

fn registry_config(name: &str) -> Value {
    json!({
        "apiVersion": "assay.dev/v1alpha1",
        "kind": "RegistryConfig",
        "metadata": {"name": name},
        "spec": {"prefix": "docker.io"},
    })
}

async fn each_is_refused(servers: &Shared, good: &Value, cases: Vec<Bad>) {
    accepted(servers, good).await;
    for (what, patch, says) in cases {
        let refusal = refusal(servers, &with(good.clone(), json!({"spec": patch}))).await;
        let unsaid = says.iter().find(|words| !refusal.contains(**words));
        assert_eq!(unsaid, None, "{what}: {refusal}");
    }
}

async fn each_is_accepted(servers: &Shared, good: &Value, patches: Vec<Value>) {
    for patch in patches {
        accepted(servers, &with(good.clone(), json!({"spec": patch}))).await;
    }
}

/// B52: what stands for an identity is complete, and no pattern means everybody.
#[tokio::test]
async fn c5_21_b52_a_bad_keyless_identity_is_refused_with_the_field_and_what_is_right() {
    let one_issuer: &[_] = &["exactly one of spec.keyless.issuer and spec.keyless.issuerRegex is needed"];
    let one_subject: &[_] = &["exactly one of spec.keyless.subject and spec.keyless.subjectRegex is needed"];
    let no_flags: &[_] = &["spec.keyless.subjectRegex", "must not hold (? other than (?:…)"];
    let not_empty: &[_] = &["spec.keyless.subjectRegex", "does not match the empty text"];
    let cases: Vec<Bad> = vec![
        ("no issuer", json!({"keyless": {"issuer": null}}), one_issuer),
        (
            "two issuers",
            json!({"keyless": {"issuerRegex": "https://a"}}),
            one_issuer,
        ),
        (
            "no subject",
            json!({"keyless": {"subjectRegex": null}}),
            one_subject,
        ),
        (
            "two subjects",
            json!({"keyless": {"subject": "me@acme.com"}}),
            one_subject,
        ),
        (
            "an issuer that is no URL",
            json!({"keyless": {"issuer": "accounts.google.com"}}),
            &["spec.keyless.issuer", "must be the URL of an OIDC issuer"],
        ),
        (
            "a subject with a space",
            json!({"keyless": {"subjectRegex": null, "subject": "me @acme.com"}}),
            &[
                "spec.keyless.subject",
                "must be an e-mail address or a URI without spaces",
            ],
        ),
        (
            "an empty subject",
            json!({"keyless": {"subjectRegex": null, "subject": ""}}),
            &["spec.keyless.subject"],
        ),
        (
            "a flag",
            json!({"keyless": {"subjectRegex": "(?m)^a$"}}),
            no_flags,
        ),
        (
            "a flag for a group",
            json!({"keyless": {"subjectRegex": "(?i:a)"}}),
            no_flags,
        ),
        ("everybody", json!({"keyless": {"subjectRegex": ".*"}}), not_empty),
        (
            "nobody or somebody",
            json!({"keyless": {"subjectRegex": "a|"}}),
            not_empty,
        ),
        (
            "half a group",
            json!({"keyless": {"subjectRegex": "a)|(.*"}}),
            &["spec.keyless.subjectRegex"],
        ),
        (
            "a key beside it",
            json!({"publicKey": {"pem": PEM}}),
            &["exactly one source of trust is needed"],
        ),
        (
            "neither log nor timestamp required",
            json!({"transparencyLog": "Optional"}),
            &["set spec.transparencyLog or spec.timestamp to Required"],
        ),
        (
            "both ignored",
            json!({"transparencyLog": "Ignore", "timestamp": "Ignore"}),
            &["set spec.transparencyLog or spec.timestamp to Required"],
        ),
        (
            "a demand that there is not",
            json!({"timestamp": "Maybe"}),
            &[
                "spec.timestamp: Unsupported value",
                "\"Required\", \"Optional\", \"Ignore\"",
            ],
        ),
        (
            "a trust root in upper case",
            json!({"trustRoot": "Own"}),
            &["spec.trustRoot", "must be the name of an object"],
        ),
    ];
    let servers = servers().await;
    each_is_refused(servers, &keyless("bad"), cases).await;
    let good = vec![
        json!({"trustRoot": "own", "transparencyLog": "Required"}),
        json!({"transparencyLog": "Ignore", "timestamp": "Required"}),
        json!({"keyless": {"issuer": null, "issuerRegex": "https://a\\.(?:io|com)", "subjectRegex": null, "subject": "me@acme.com"}}),
    ];
    each_is_accepted(servers, &keyless("good"), good).await;
}

#[tokio::test]
async fn c5_21_a_public_key_with_a_log_or_a_timestamp_names_its_trust_root() {
    let needed: &[_] =
        &["spec.trustRoot is needed to check a transparency log or a timestamp of a public key"];
    let cases: Vec<Bad> = vec![
        ("a log", json!({"transparencyLog": "Required"}), needed),
        (
            "a log where there is one",
            json!({"transparencyLog": "Optional"}),
            needed,
        ),
        ("a timestamp", json!({"timestamp": "Required"}), needed),
        (
            "a timestamp without a log",
            json!({"transparencyLog": "Ignore", "timestamp": "Optional"}),
            needed,
        ),
    ];
    let servers = servers().await;
    each_is_refused(servers, &key("bad", "release", PEM), cases).await;
    let good = vec![
        json!({"transparencyLog": "Ignore", "timestamp": "Ignore"}),
        json!({"transparencyLog": "Required", "timestamp": "Required", "trustRoot": "own"}),
        json!({"trustRoot": "own"}),
    ];
    each_is_accepted(servers, &key("good", "release", PEM), good).await;
}

#[tokio::test]
async fn identity_and_trust_root_of_a_keyless_signer_are_immutable_and_its_demands_are_not() {
    let servers = servers().await;
    let namespace = servers.namespace("keyless").await.unwrap();
    let original = keyless(&namespace.unique("keyless"));
    servers.cluster.apply(&original.to_string()).await.unwrap();
    let identity = "spec.keyless is immutable: another identity is a new SigningKey";
    let edits = [
        (
            json!({"spec": {"keyless": {"issuer": "https://evil.example"}}}),
            identity,
        ),
        (
            json!({"spec": {"keyless": null, "publicKey": {"pem": PEM}}}),
            identity,
        ),
        (
            json!({"spec": {"keyless": null}}),
            "exactly one source of trust is needed",
        ),
        (
            json!({"spec": {"trustRoot": "other"}}),
            "spec.trustRoot of a keyless signer is immutable",
        ),
    ];
    for (edit, says) in edits {
        let refusal = update_refusal(servers, &original, &edit).await;
        assert!(refusal.contains(says), "{edit}: {refusal}");
    }
    let demands = with(
        original,
        json!({"spec": {"timestamp": "Required", "stage": "Retiring"}}),
    );
    servers.cluster.apply(&demands.to_string()).await.unwrap();
}

#[tokio::test]
async fn c5_21_a_bad_trust_root_is_refused_with_the_field_and_what_is_right() {
    let one: &[_] =
        &["exactly one source is needed: spec.inline, spec.configMapRef, spec.tuf or spec.builtIn"];
    const JSON_WANTED: &str = "must be a JSON document";
    let cases: Vec<Bad> = vec![
        ("no source", json!({"inline": null}), one),
        ("two sources", json!({"builtIn": "PublicGood"}), one),
        ("an empty document", json!({"inline": ""}), &["spec.inline"]),
        (
            "a path",
            json!({"inline": "/etc/trusted_root.json"}),
            &["spec.inline", JSON_WANTED],
        ),
        (
            "a built-in root that there is not",
            json!({"inline": null, "builtIn": "Private"}),
            &["spec.builtIn: Unsupported value", "\"PublicGood\", \"Staging\""],
        ),
        (
            "a ConfigMap without a name",
            json!({"inline": null, "configMapRef": {"key": "x"}}),
            &["spec.configMapRef.name: Required value"],
        ),
        (
            "a ConfigMap's entry that cannot be one",
            json!({"inline": null, "configMapRef": {"name": "roots", "key": "a/b"}}),
            &["spec.configMapRef.key", "must be the name of an entry"],
        ),
        (
            "a TUF repository without a root",
            json!({"inline": null, "tuf": {"url": "https://tuf.example.com"}}),
            &["spec.tuf.initialRoot: Required value"],
        ),
        (
            "a TUF repository in a folder",
            json!({"inline": null, "tuf": {"url": "file:///tuf", "initialRoot": "{}"}}),
            &["spec.tuf.url", "must be a URL with http or https"],
        ),
        (
            "a TUF root that is no document",
            json!({"inline": null, "tuf": {"url": "https://tuf.example.com", "initialRoot": "root.json"}}),
            &["spec.tuf.initialRoot", JSON_WANTED],
        ),
    ];
    let servers = servers().await;
    each_is_refused(servers, &trust_root("bad"), cases).await;
    let good = vec![
        json!({"inline": "\n  {}"}),
        json!({"inline": null, "builtIn": "Staging"}),
        json!({"inline": null, "configMapRef": {"name": "roots"}}),
        json!({"inline": null, "tuf": {"url": "https://tuf.example.com/v2", "initialRoot": "{}"}}),
    ];
    each_is_accepted(servers, &trust_root("good"), good).await;
}

#[tokio::test]
async fn c5_21_a_bad_registry_config_is_refused_with_the_field_and_what_is_right() {
    const NO_PREFIX: &str = "must be a registry, or a registry and the beginning of a path";
    let cases: Vec<Bad> = vec![
        (
            "no prefix",
            json!({"prefix": null}),
            &["spec.prefix: Required value"],
        ),
        (
            "a URL",
            json!({"prefix": "https://docker.io"}),
            &["spec.prefix", NO_PREFIX],
        ),
        (
            "a pattern",
            json!({"prefix": "docker.io/**"}),
            &["spec.prefix", NO_PREFIX],
        ),
        (
            "a tag",
            json!({"prefix": "docker.io/library/nginx:1"}),
            &["spec.prefix", NO_PREFIX],
        ),
        (
            "upper case",
            json!({"prefix": "Docker.io"}),
            &["spec.prefix", NO_PREFIX],
        ),
        (
            "a trailing slash",
            json!({"prefix": "docker.io/"}),
            &["spec.prefix", NO_PREFIX],
        ),
        (
            "a mirror without a prefix",
            json!({"mirrors": [{"authoritative": true}]}),
            &["spec.mirrors[0].prefix: Required value"],
        ),
        (
            "a mirror that is a URL",
            json!({"mirrors": [{"prefix": "http://m.example.com"}]}),
            &["spec.mirrors[0].prefix", NO_PREFIX],
        ),
        (
            "nine mirrors",
            json!({"mirrors": vec![json!({"prefix": "m.example.com"}); 9]}),
            &["spec.mirrors", "must have at most 8 items"],
        ),
        (
            "an evidence repository with a tag",
            json!({"evidenceRepository": "r.example.com/signatures:x"}),
            &["spec.evidenceRepository", NO_PREFIX],
        ),
        (
            "certificates that are none",
            json!({"caBundle": "/etc/ca.pem"}),
            &["spec.caBundle", "PEM blocks of type 'CERTIFICATE'"],
        ),
        (
            "certificates for plain http",
            json!({"plainHTTP": true, "caBundle": PEM.replace("PUBLIC KEY", "CERTIFICATE")}),
            &["spec.caBundle is of no use with spec.plainHTTP"],
        ),
        (
            "a Secret without a name",
            json!({"credentials": {}}),
            &["spec.credentials.secretName: Required value"],
        ),
        (
            "a Secret of another namespace",
            json!({"credentials": {"secretName": "tenant/pull"}}),
            &["spec.credentials.secretName", "must be the name of an object"],
        ),
        (
            "no request a second",
            json!({"requestsPerSecond": 0}),
            &["spec.requestsPerSecond", "greater than or equal to 1"],
        ),
        (
            "too many at once",
            json!({"concurrency": 257}),
            &["spec.concurrency", "less than or equal to 256"],
        ),
        (
            "half a request",
            json!({"dailyBudget": 0.5}),
            &["spec.dailyBudget"],
        ),
    ];
    let servers = servers().await;
    each_is_refused(servers, &registry_config("bad"), cases).await;
    let good = vec![
        json!({"prefix": "registry.example.com:5000/shop/web", "plainHTTP": true}),
        json!({
            "mirrors": [{"prefix": "mirror.example.com/hub", "authoritative": true}, {"prefix": "cache.example.com"}],
            "evidenceRepository": "registry.example.com/evidence",
            "caBundle": PEM.replace("PUBLIC KEY", "CERTIFICATE").repeat(2),
            "credentials": {"secretName": "hub"},
            "requestsPerSecond": 5, "concurrency": 2, "dailyBudget": 5000, "pullThroughCache": true,
        }),
    ];
    each_is_accepted(servers, &registry_config("good"), good).await;
}

#[tokio::test]
async fn c5_21_kubectl_refuses_a_field_that_these_kinds_have_not() {
    let servers = servers().await;
    let cases = [
        (
            with(
                keyless("strict"),
                json!({"spec": {"keyless": {"subjectRegexp": "x"}}}),
            ),
            "subjectRegexp",
        ),
        (
            with(trust_root("strict"), json!({"spec": {"url": "https://a"}})),
            "spec.url",
        ),
        (
            with(registry_config("strict"), json!({"spec": {"plainHttp": true}})),
            "spec.plainHttp",
        ),
        (
            with(
                registry_config("strict"),
                json!({"spec": {"credentials": {"secretName": "a", "namespace": "shop"}}}),
            ),
            "namespace",
        ),
    ];
    for (object, field) in cases {
        let arguments = ["create", "--dry-run=server", "-f", "-"];
        let output = servers
            .cluster
            .kubectl_output(&arguments, &object.to_string())
            .await
            .unwrap();
        assert!(
            !output.succeeded() && output.stderr.contains(field),
            "{field}: {output:?}"
        );
    }
}
