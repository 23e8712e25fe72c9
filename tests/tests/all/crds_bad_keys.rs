//! SigningKeys that the real API server refuses, and what it says.

use serde_json::{Value, json};

use crate::crds::{accepted, refusal, update_refusal};
use crate::manifests::{PEM, key, with};
use crate::servers::servers;

/// A key with its spec patched, what is wrong with it, and what the refusal must say.
type Bad = (&'static str, Value, &'static [&'static str]);

const ONE_PEM_BLOCK: &[&str] = &[
    "spec.publicKey.pem must be one PEM block of type 'PUBLIC KEY'",
    "cosign public-key",
];

#[tokio::test]
async fn c5_21_a_bad_signing_key_is_refused_with_the_field_and_what_is_right() {
    let lower_case = &[
        "spec.keyRing",
        "must be lower-case letters, digits and dashes",
        "such as release",
    ];
    let cases: Vec<Bad> = vec![
        (
            "no key ring",
            json!({"keyRing": null}),
            &["spec.keyRing: Required value"],
        ),
        ("an empty key ring", json!({"keyRing": ""}), lower_case),
        (
            "a key ring in upper case",
            json!({"keyRing": "Release"}),
            lower_case,
        ),
        (
            "a key ring that ends with a dash",
            json!({"keyRing": "release-"}),
            lower_case,
        ),
        (
            "no stage",
            json!({"stage": null}),
            &["spec.stage: Required value"],
        ),
        (
            "a stage that there is not",
            json!({"stage": "Current"}),
            &[
                "spec.stage: Unsupported value: \"Current\"",
                "\"Staged\", \"Active\", \"Retiring\", \"Disabled\", \"Revoked\"",
            ],
        ),
        (
            "no key",
            json!({"publicKey": null}),
            &["exactly one source of trust is needed: set spec.publicKey.pem or spec.keyless"],
        ),
        (
            "no PEM",
            json!({"publicKey": {"pem": null}}),
            &["spec.publicKey.pem: Required value"],
        ),
        ("an empty PEM", json!({"publicKey": {"pem": ""}}), ONE_PEM_BLOCK),
        (
            "notBefore after notAfter",
            json!({"notBefore": "2027-01-02T00:00:00Z", "notAfter": "2027-01-01T00:00:00Z"}),
            &["spec.notBefore must lie before spec.notAfter"],
        ),
        (
            "notBefore at notAfter, written in two time zones",
            json!({"notBefore": "2027-01-01T02:00:00+02:00", "notAfter": "2027-01-01T00:00:00Z"}),
            &["spec.notBefore must lie before spec.notAfter"],
        ),
        (
            "a time that is none",
            json!({"notAfter": "tomorrow"}),
            &["spec.notAfter", "must be of type date-time"],
        ),
    ];
    let servers = servers().await;
    for (what, patch, says) in cases {
        let bad = with(key("bad", "release", PEM), json!({"spec": patch}));
        let refusal = refusal(servers, &bad).await;
        let unsaid = says.iter().find(|words| !refusal.contains(**words));
        assert_eq!(unsaid, None, "{what}: {refusal}");
    }
}

#[tokio::test]
async fn c5_21_a_text_that_is_not_one_spki_pem_block_is_refused() {
    let labelled = |label: &str| PEM.replace("PUBLIC KEY", label);
    let texts = [
        ("a PKCS #1 key", labelled("RSA PUBLIC KEY")),
        ("a certificate", labelled("CERTIFICATE")),
        ("a private key", labelled("PRIVATE KEY")),
        ("an EC private key", labelled("EC PRIVATE KEY")),
        ("cosign's private key", labelled("ENCRYPTED SIGSTORE PRIVATE KEY")),
        ("two blocks", format!("{PEM}{PEM}")),
        (
            "a key and a certificate",
            format!("{PEM}{}", labelled("CERTIFICATE")),
        ),
        ("text before the block", format!("release key\n{PEM}")),
        ("text after the block", format!("{PEM}release key\n")),
        ("no end", PEM.replace("-----END PUBLIC KEY-----", "")),
        ("characters that base64 has not", PEM.replace("MFkw", "MFk!")),
        (
            "an empty block",
            "-----BEGIN PUBLIC KEY----------END PUBLIC KEY-----".to_owned(),
        ),
        (
            "an SSH key",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== me@example.com".to_owned(),
        ),
        ("a path", "/etc/cosign.pub".to_owned()),
    ];
    let servers = servers().await;
    for (what, pem) in texts {
        let refusal = refusal(servers, &key("bad", "release", &pem)).await;
        let unsaid = ONE_PEM_BLOCK.iter().find(|words| !refusal.contains(**words));
        assert_eq!(unsaid, None, "{what}: {refusal}");
    }
}

#[tokio::test]
async fn the_pem_block_may_have_space_around_it_and_any_line_ends() {
    let servers = servers().await;
    for pem in [
        PEM.to_owned(),
        format!("\n\n  {PEM}\n\n"),
        PEM.replace('\n', "\r\n"),
    ] {
        accepted(servers, &key("good", "release", &pem)).await;
    }
}

#[tokio::test]
async fn ring_and_key_of_a_signing_key_are_immutable_and_the_key_cannot_be_taken_away_first() {
    let servers = servers().await;
    let namespace = servers.namespace("immutable").await.unwrap();
    let original = key(&namespace.unique("immutable"), "release", PEM);
    servers.cluster.apply(&original.to_string()).await.unwrap();
    let immutable_key = "spec.publicKey is immutable: a new key is a new SigningKey in the same spec.keyRing";
    let other_pem = PEM.replace("MFkw", "MFkx");
    let edits = [
        (
            json!({"spec": {"keyRing": "other"}}),
            "spec.keyRing is immutable: create a new SigningKey for another ring",
        ),
        (json!({"spec": {"publicKey": {"pem": other_pem}}}), immutable_key),
        (json!({"spec": {"publicKey": null}}), immutable_key),
    ];
    for (edit, says) in edits {
        let refusal = update_refusal(servers, &original, &edit).await;
        assert!(refusal.contains(says), "{edit}: {refusal}");
    }
}

#[tokio::test]
async fn a_key_is_created_in_any_stage_and_moves_freely_but_never_out_of_revoked() {
    const STAGES: [&str; 5] = ["Staged", "Active", "Retiring", "Disabled", "Revoked"];
    let servers = servers().await;
    let namespace = servers.namespace("stages").await.unwrap();
    for (number, first) in STAGES.into_iter().enumerate() {
        let name = namespace.unique(&format!("stage-{number}"));
        let object = with(key(&name, "release", PEM), json!({"spec": {"stage": first}}));
        servers.cluster.apply(&object.to_string()).await.unwrap();
        for next in STAGES {
            if first == "Revoked" && next != "Revoked" {
                let refusal = update_refusal(servers, &object, &json!({"spec": {"stage": next}})).await;
                let says = "spec.stage: Revoked is terminal, a revoked key cannot return to another stage";
                assert!(refusal.contains(says), "{next}: {refusal}");
                continue;
            }
            let moved = with(object.clone(), json!({"spec": {"stage": next}}));
            let arguments = ["apply", "--dry-run=server", "-f", "-"];
            let output = servers
                .cluster
                .kubectl_output(&arguments, &moved.to_string())
                .await
                .unwrap();
            assert!(output.succeeded(), "{first} to {next}: {output:?}");
        }
    }
}
