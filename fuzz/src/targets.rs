//! The targets: one for each parser of bytes or text that others write.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use image::{Digest, ImageId, Reference, Repository, RepositoryGlob};
use registry::{Certificates, Credentials, Manifest, Prefix, fuzzing};
use verify::{Artifact, Item, PublicKey, TrustRoot, Verifier, verify, verify_artifact};

use crate::outcome::{Outcome, Outcomes};
use crate::seeds::{self, fixture, fixtures, texts};

/// A parser with what its inputs are made of.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&[u8]) -> Outcome,
    pub(crate) seeds: Vec<Vec<u8>>,
    pub(crate) words: &'static [&'static str],
}

const ZEROES: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","size":2},"layers":[{"mediaType":"a/b","digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","size":1,"annotations":{"k":"v"}}],"subject":null,"annotations":{}}"#;
const INDEX: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"a/b","digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","size":1,"platform":{"os":"linux","architecture":"amd64"},"artifactType":"x"}]}"#;
const CONFIG: &str = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"YTpi"},"*.r.io:5000/a":{"username":"a","password":"b"},"c.io":{"identitytoken":"t"}},"credHelpers":{"d.io":"x"},"credsStore":"y"}"#;
const DOCUMENT: &[&str] = &[
    "\"manifests\":",
    "\"layers\":",
    "\"config\":",
    "\"mediaType\":",
    "\"schemaVersion\":2",
    "\"annotations\":{",
    "\"Layers\":[]",
    "\"digest\":",
    "\"size\":",
    "\"subject\":",
    "\"platform\":",
];
const BUNDLE: &[&str] = &[
    "\"mediaType\":",
    "\"dsseEnvelope\":",
    "\"messageSignature\":",
    "\"verificationMaterial\":",
    "\"publicKey\":",
    "\"certificate\":",
    "\"x509CertificateChain\":",
    "\"tlogEntries\":",
    "\"timestampVerificationData\":",
    "\"payload\":",
    "\"payloadType\":",
    "\"signatures\":[",
    "\"sig\":",
    "\"rawBytes\":",
    "\"inclusionProof\":",
    "\"checkpoint\":",
];

/// All targets.
pub(crate) fn all() -> Vec<Target> {
    let target = |name, run, seeds, words| Target {
        name,
        run,
        seeds,
        words,
    };
    vec![
        target(
            "reference",
            reference as fn(&[u8]) -> Outcome,
            texts(REFERENCES),
            &["docker.io", "library", ":443"],
        ),
        target(
            "glob",
            glob,
            texts(&["r.io/shop/** r.io/shop/a/b", "*.io/* a.io/b", "** x"]),
            &["**", "*", "/"],
        ),
        target("manifest", manifest, texts(&[MANIFEST]), DOCUMENT),
        target("index", manifest, texts(&[INDEX]), DOCUMENT),
        target("referrers", referrers, texts(&[INDEX]), DOCUMENT),
        target(
            "challenge",
            challenge,
            texts(CHALLENGES),
            &["Bearer ", "Basic ", "realm=", "scope=", "service="],
        ),
        target(
            "link",
            link,
            texts(LINKS),
            &["rel=next", "<", ">;", "https://r.io/", "//"],
        ),
        target(
            "token",
            token,
            texts(&[r#"{"token":"t","expires_in":300}"#]),
            &["\"access_token\":"],
        ),
        target(
            "docker-config",
            docker_config,
            texts(&[CONFIG]),
            &["\"auths\":", "\"auth\":", "\"registrytoken\":"],
        ),
        target(
            "prefix",
            prefix,
            texts(&["r.io", "r.io:5000/shop/web", "docker.io/library"]),
            &["/"],
        ),
        target(
            "certificates",
            certificates,
            seeds::certificates(),
            &["-----BEGIN CERTIFICATE-----\n"],
        ),
        target("dsse", bundle, fixtures(&[".bundle.json"]), BUNDLE),
        target("bundle-artifact", artifact, fixtures(&[".bundle.json"]), BUNDLE),
        target(
            "cosign-layer",
            cosign_layer,
            fixtures(&[".layer.json"]),
            &["dev.sigstore.cosign/"],
        ),
        target("att-layer", att_layer, fixtures(&[".att.payload"]), BUNDLE),
        target(
            "simple-signing",
            simple_signing,
            fixtures(&[".payload"]),
            &["\"critical\":", "\"image\":", "\"type\":"],
        ),
        target(
            "key",
            key,
            fixtures(&[".pub"]),
            &["-----BEGIN PUBLIC KEY-----\n", "-----END PUBLIC KEY-----\n"],
        ),
        target(
            "trusted-root",
            trusted_root,
            fixtures(&["trusted_root.json"]),
            &["\"tlogs\":", "\"validFor\":"],
        ),
    ]
}

const REFERENCES: &[&str] = &[
    "nginx",
    "docker.io/library/nginx:1.27",
    "r.io:5000/shop/web@sha256:0000000000000000000000000000000000000000000000000000000000000000",
    "[::1]:5000/a/b:c",
    "docker-pullable://r.io/a@sha256:0000000000000000000000000000000000000000000000000000000000000000",
];
const CHALLENGES: &[&str] = &[
    r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull""#,
    "Basic realm=\"x\", Bearer realm=https",
    "Negotiate abc==",
    "120",
    "Sun, 06 Nov 1994 08:49:37 GMT",
];
const LINKS: &[&str] = &[
    "</v2/a/referrers/x?n=1>; rel=\"next\"",
    "<https://r.io/x>; rel=next, </y>; rel=first",
];

/// Whatever an input is called, its normal form is called the same (B22).
fn reference(input: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(input);
    let mut outcomes = Outcomes::default();
    let reference = text.parse::<Reference>();
    let repository = text.parse::<Repository>();
    let id = format!("{:?}", ImageId::parse(&text)).find(['(', ' ']);
    if let Ok(repository) = &repository {
        assert_eq!(repository.as_str().parse::<Repository>().as_ref(), Ok(repository));
    }
    outcomes
        .note(&reference)
        .note(&repository)
        .note(&text.parse::<Digest>())
        .count(id.unwrap_or(0));
    outcomes.done()
}

fn glob(input: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(input);
    let (glob, name) = text.split_once(' ').unwrap_or((&text, "r.io/a"));
    let glob = glob.parse::<RepositoryGlob>();
    let mut outcomes = Outcomes::default();
    outcomes.note(&glob);
    if let (Ok(glob), Ok(name)) = (glob, name.parse::<Repository>()) {
        outcomes.count(usize::from(glob.matches(&name)));
    }
    outcomes.done()
}

fn manifest(input: &[u8]) -> Outcome {
    let read = Manifest::read(&Digest::sha256(input), None, Bytes::copy_from_slice(input));
    Outcomes::default().note(&read).done()
}

fn referrers(input: &[u8]) -> Outcome {
    Outcomes::default().note(&fuzzing::referrers(input)).done()
}

fn challenge(input: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(input);
    let (count, realm) = fuzzing::challenge(&text);
    let waits = fuzzing::retry_after(&text).is_some();
    Outcomes::default()
        .note(&realm)
        .count(count)
        .count(usize::from(waits))
        .done()
}

/// No page leaves the host that was asked, and no redirect leaves https (B17).
fn link(input: &[u8]) -> Outcome {
    let page = fuzzing::link(&String::from_utf8_lossy(input));
    if let Ok(Some(page)) = &page {
        assert!(page.starts_with("https://r.io:5000/"), "{page}");
    }
    let hop = fuzzing::redirect(input);
    if let Ok(hop) = &hop {
        assert!(hop.starts_with("https://"), "{hop}");
    }
    Outcomes::default().note(&page).note(&hop).done()
}

fn token(input: &[u8]) -> Outcome {
    Outcomes::default().note(&fuzzing::token(input)).done()
}

fn docker_config(input: &[u8]) -> Outcome {
    let new = Credentials::from_docker_config("Secret a/b", input);
    let old = Credentials::from_dockercfg("Secret a/b", input);
    let candidates = new
        .as_ref()
        .map_or(0, |new| fuzzing::candidates(new, "a.r.io:5000/a/b"));
    Outcomes::default().note(&new).note(&old).count(candidates).done()
}

fn prefix(input: &[u8]) -> Outcome {
    let prefix = String::from_utf8_lossy(input).parse::<Prefix>();
    if let Ok(prefix) = &prefix {
        assert_eq!(prefix.to_string().parse::<Prefix>().as_ref(), Ok(prefix));
    }
    Outcomes::default().note(&prefix).done()
}

fn certificates(input: &[u8]) -> Outcome {
    Outcomes::default().note(&Certificates::from_pem(input)).done()
}

static SUBJECT: LazyLock<Digest> = LazyLock::new(|| match ZEROES.parse() {
    Ok(digest) => digest,
    Err(_) => Digest::sha256(b""),
});

/// Verifiers of every kind, that trust what the fixtures were made with.
static VERIFIERS: LazyLock<Vec<Verifier>> = LazyLock::new(|| {
    use std::sync::Arc;
    use verify::{Demand, IdentityMatcher, Pattern};
    let roots = [
        "keyless/full/trusted_root.json",
        "keyless/rekor-v1/trusted_root.json",
    ];
    let roots = roots
        .iter()
        .filter_map(|name| TrustRoot::from_json(&fixture(name)).ok());
    let roots: Vec<Arc<TrustRoot>> = roots.map(Arc::new).collect();
    let keys = [
        "p256.pub",
        "ed25519.pub",
        "rsa2048.pub",
        "keyless/full/cosign3-key.pub",
    ];
    let keys = keys.iter().filter_map(|name| {
        let pem = String::from_utf8(fixture(name)).ok()?;
        PublicKey::from_pem(&pem).ok()
    });
    let mut verifiers = Vec::new();
    for key in keys {
        verifiers.push(Verifier::by_key(key.clone()));
        verifiers.extend(roots.iter().filter_map(|root| {
            Verifier::by_key_with(
                key.clone(),
                Demand::Optional,
                Demand::Optional,
                Some(root.clone()),
            )
            .ok()
        }));
    }
    let anyone = || {
        Some(IdentityMatcher::new(
            Pattern::regex(".+").ok()?,
            Pattern::regex(".+").ok()?,
        ))
    };
    verifiers.extend(roots.iter().filter_map(|root| {
        Verifier::keyless(anyone()?, Demand::Required, Demand::Optional, root.clone()).ok()
    }));
    verifiers
});

/// Whatever an item is, no verifier finds in it a claim about an image that it was not made for.
fn examined(item: &Item) -> Outcome {
    let mut outcomes = Outcomes::default();
    for verifier in VERIFIERS.iter() {
        let answer = match verify(item, &SUBJECT, verifier) {
            verify::Outcome::Verified(claim) => {
                panic!("a claim about an image that nobody signed: {claim:?}")
            }
            verify::Outcome::Refused(refusal) => Err::<(), _>(refusal.to_string()),
            verify::Outcome::CannotTell(cause) => Err(cause.to_string()),
        };
        outcomes.note(&answer);
    }
    outcomes.done()
}

fn bundle(input: &[u8]) -> Outcome {
    examined(&Item::from_bundle(input))
}

fn artifact(input: &[u8]) -> Outcome {
    let mut outcomes = Outcomes::default();
    for verifier in VERIFIERS.iter() {
        let answer = verify_artifact(input, Artifact::Digest(SUBJECT.clone()), verifier);
        assert!(answer.is_err(), "nobody signed that artifact");
        outcomes.note(&answer);
    }
    outcomes.done()
}

/// The annotations of a layer of a signature tag, over a payload that is fixed.
fn cosign_layer(input: &[u8]) -> Outcome {
    let texts = |layer: &serde_json::Value| -> Option<BTreeMap<String, String>> {
        let all = layer.get("annotations")?.as_object()?;
        let texts = all
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        Some(texts.collect())
    };
    let parsed = serde_json::from_slice::<serde_json::Value>(input).ok();
    let annotations = parsed.as_ref().and_then(texts).unwrap_or_default();
    let payload = Bytes::from_static(br#"{"critical":{"identity":{},"image":{"docker-manifest-digest":"sha256:11"},"type":"cosign container image signature"}}"#);
    let media_type = "application/vnd.dev.cosign.simplesigning.v1+json";
    examined(&Item::from_cosign_layer(media_type, &annotations, payload))
}

/// The envelope of a layer of an attestation tag.
fn att_layer(input: &[u8]) -> Outcome {
    let media_type = "application/vnd.dsse.envelope.v1+json";
    let envelope = Bytes::copy_from_slice(input);
    examined(&Item::from_cosign_layer(media_type, &BTreeMap::new(), envelope))
}

fn simple_signing(input: &[u8]) -> Outcome {
    examined(&Item::from_simple_signing(Bytes::copy_from_slice(input), "AAAA"))
}

fn key(input: &[u8]) -> Outcome {
    let key = PublicKey::from_pem(&String::from_utf8_lossy(input));
    Outcomes::default().note(&key).done()
}

fn trusted_root(input: &[u8]) -> Outcome {
    Outcomes::default().note(&TrustRoot::from_json(input)).done()
}
