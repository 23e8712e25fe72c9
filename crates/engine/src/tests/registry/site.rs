//! Fake registries with images and evidence, and an engine that asks them.

use std::collections::BTreeSet;

use api::{Reason, Stage, Verdict};
use bytes::Bytes;
use image::Digest;
use registry::{Client, ClientOptions, Limits};
use serde_json::json;
use testkit::FakeRegistry;

use crate::fact::Fact;
use crate::keychain::PullSecrets;
use crate::lookup::{Ask, Bodies, Clients, look_up, resolve};
use crate::tests::attestations::{SCAN, scanned};
use crate::tests::world::*;

pub(super) const HOLDS: Option<(Verdict, Reason)> = Some((Verdict::Compliant, Reason::AllVerified));
pub(super) const UNSIGNED: Option<(Verdict, Reason)> = Some((Verdict::Violating, Reason::SignatureMissing));
pub(super) const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An engine with a policy over everything under `shop/` of any registry, and a signer that it trusts.
pub(super) struct Site {
    pub(super) world: World,
    pub(super) client: Client,
    pub(super) pull_secrets: Option<std::sync::Arc<dyn PullSecrets>>,
    pub(super) signer: Signer,
}

impl Site {
    pub(super) fn new(registries: &[&FakeRegistry]) -> Site {
        let client = Client::new(ClientOptions {
            plain_http: registries.iter().map(|fake| fake.host()).collect::<BTreeSet<_>>(),
            limits: Limits {
                request_timeout: std::time::Duration::from_secs(60),
                ..Limits::default()
            },
            ..ClientOptions::default()
        });
        let (mut world, signer) = (World::new(), Signer::new());
        world.tell(key_fact(
            "release-2026",
            key_spec("release", &signer, Stage::Active),
        ));
        let mut facts = policy("prod", "**", &["release"]);
        facts.spec.as_mut().unwrap().match_.images = vec!["**/shop/**".into()];
        world.tell(Fact::Policy(Box::new(facts)));
        world.tell(Fact::Synced);
        Site {
            world,
            client: client.unwrap(),
            pull_secrets: None,
            signer,
        }
    }

    /// Has the policy ask for a scan that says `ok`, in the place of a signature.
    pub(super) fn ask_for_scans(&mut self) {
        let mut facts = scanned();
        facts.spec.as_mut().unwrap().match_.images = vec!["**/shop/**".into()];
        self.world.tell(Fact::Policy(Box::new(facts)));
    }

    /// Ends every look-up that is due, each over HTTP; answers how many.
    pub(super) async fn look_up(&mut self) -> usize {
        let asks = self.world.engine.due_lookups(self.world.now, usize::MAX);
        self.end(asks).await
    }

    /// Goes to the next time at which something is due, and ends what is asked as the operator alone.
    pub(super) async fn look_up_as_the_operator_next(&mut self) {
        let due = self.world.engine.turns.next().unwrap();
        let pause = due.duration_since(self.world.now).as_secs();
        self.world.pass_time(pause + 1);
        let mut asks = self.world.engine.due_lookups(self.world.now, usize::MAX);
        asks.retain(|ask| ask.subject.keychain.is_none());
        assert!(self.end(asks).await > 0, "nothing was due");
    }

    async fn end(&mut self, asks: Vec<Ask>) -> usize {
        let count = asks.len();
        for ask in asks {
            let bodies = Bodies::new(self.world.engine.store.clone());
            let clients = Clients::new(self.client.clone(), self.pull_secrets.clone());
            let pass = look_up(clients, bodies, ask).await;
            self.world.engine.absorb_pass(pass, self.world.now);
        }
        count
    }

    /// Asks for every tag that is due, each over HTTP; answers how many.
    pub(super) async fn ask_for_tags(&mut self) -> usize {
        let asks = self.world.engine.due_tags(self.world.now, usize::MAX);
        let count = asks.len();
        for ask in asks {
            let bodies = Bodies::new(self.world.engine.store.clone());
            let clients = Clients::new(self.client.clone(), self.pull_secrets.clone());
            let resolved = resolve(clients, bodies, ask).await;
            self.world.engine.absorb_tag(resolved, self.world.now);
        }
        count
    }

    /// Lets the policy's interval pass and looks up what is due then.
    pub(super) async fn next_check(&mut self) {
        self.world.pass_time(6 * 3600);
        assert!(self.look_up().await > 0, "nothing was due");
    }

    pub(super) fn verdict(&self, workload: &str) -> Option<(Verdict, Reason)> {
        self.world.verdict(workload, "prod")
    }

    pub(super) fn message(&self, workload: &str) -> String {
        let answer = self.world.result(workload, "prod").unwrap();
        answer.message.to_string()
    }
}

/// Puts an image under `shop/<name>:1`; its digest.
pub(super) fn image(fake: &FakeRegistry, name: &str) -> Digest {
    image_under(fake, name, "1")
}

/// The same under another tag.
pub(super) fn image_under(fake: &FakeRegistry, name: &str, tag: &str) -> Digest {
    let config = json!({"architecture": "amd64", "os": "linux", "name": name}).to_string();
    put(fake, name, Some(tag), &config, &[])
}

fn put(
    fake: &FakeRegistry,
    name: &str,
    tag: Option<&str>,
    config: &str,
    layers: &[serde_json::Value],
) -> Digest {
    let repository = format!("shop/{name}");
    fake.put_blob(&repository, config.to_owned());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::sha256(config.as_bytes()), "size": config.len()},
        "layers": layers,
    })
    .to_string();
    fake.put_manifest(&repository, tag, MANIFEST, manifest)
        .parse()
        .unwrap()
}

/// Puts a manifest of its own for this text under `shop/<name>`, without a tag; its digest and size.
pub(super) fn manifest_of(fake: &FakeRegistry, name: &str, text: &str) -> (Digest, usize) {
    let config = format!("config of {text}");
    (put(fake, name, None, &config, &[]), manifest_size(text))
}

/// Puts an index over a platform manifest under `shop/<name>:1`; its digest and the manifest's.
pub(super) fn multi_arch(fake: &FakeRegistry, name: &str) -> (Digest, Digest) {
    let (child, size) = manifest_of(fake, name, name);
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [{"mediaType": MANIFEST, "digest": child, "size": size,
            "platform": {"architecture": "amd64", "os": "linux"}}],
    })
    .to_string();
    let repository = format!("shop/{name}");
    let index = fake.put_manifest(&repository, Some("1"), INDEX, index);
    (index.parse().unwrap(), child)
}

fn manifest_size(name: &str) -> usize {
    let config = format!("config of {name}");
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::sha256(config.as_bytes()), "size": config.len()},
        "layers": [],
    })
    .to_string()
    .len()
}

/// cosign's tag for evidence of one kind: `sha256-<hex>.<kind>`.
pub(super) fn evidence_tag(digest: &Digest, kind: &str) -> String {
    format!("{}.{kind}", digest.tag_prefix())
}

/// Puts evidence under such a tag of a repository, as cosign does.
pub(super) fn put_tag(fake: &FakeRegistry, repository: &str, tag: &str, held: &Held) {
    fake.put_blob(repository, held.layer.clone());
    fake.put_manifest(repository, Some(tag), MANIFEST, held.manifest.clone());
}

/// Evidence that was put into a registry: its manifest and its layer.
pub(super) struct Put {
    pub(super) manifest: String,
    pub(super) layer: String,
}

/// Signs `shop/<name>` in the tag format.
pub(super) fn sign_by_tag(fake: &FakeRegistry, name: &str, signer: &Signer, digest: &Digest) -> Put {
    let (tag, held) = (evidence_tag(digest, "sig"), signer.sign(digest));
    put_tag(fake, &format!("shop/{name}"), &tag, &held);
    Put {
        manifest: held.digest().to_string(),
        layer: Digest::sha256(&held.layer).to_string(),
    }
}

/// Signs `shop/<name>` with a bundle that refers to it.
pub(super) fn sign_by_bundle(fake: &FakeRegistry, name: &str, signer: &Signer, digest: &Digest) -> Put {
    let bundle: Bytes = signer.sign_as_bundle(digest);
    let layer = Digest::sha256(&bundle).to_string();
    let manifest = fake.attach(&format!("shop/{name}"), &digest.to_string(), BUNDLE, bundle);
    Put { manifest, layer }
}

/// What a scan of the day says.
pub(super) fn scan_of(day: &str, ok: bool) -> serde_json::Value {
    json!({"ok": ok, "timestamp": format!("{day}T00:00:00Z")})
}

/// Puts attestations of `shop/<name>` as cosign 2 does: under one tag, each envelope a layer of its manifest.
pub(super) fn put_attestations(
    fake: &FakeRegistry,
    name: &str,
    digest: &Digest,
    envelopes: &[String],
) -> Vec<Put> {
    let repository = format!("shop/{name}");
    let layer = |envelope: &String| {
        json!({"mediaType": "application/vnd.dsse.envelope.v1+json", "size": envelope.len(),
            "digest": fake.put_blob(&repository, envelope.clone()),
            "annotations": {"dev.cosignproject.cosign/signature": "", "predicateType": SCAN}})
    };
    let layers: Vec<serde_json::Value> = envelopes.iter().map(layer).collect();
    let tag = evidence_tag(digest, "att");
    let manifest = put(fake, name, Some(&tag), "{}", &layers).to_string();
    let put = |envelope: &String| Put {
        manifest: manifest.clone(),
        layer: Digest::sha256(envelope.as_bytes()).to_string(),
    };
    envelopes.iter().map(put).collect()
}

/// A pod of the workload that runs this digest of `shop/<name>`, written by tag.
pub(super) fn runs(fake: &FakeRegistry, workload: &str, name: &str, digest: &Digest) -> Fact {
    pod_of(workload, &format!("{}/shop/{name}:1", fake.host()), digest)
}

/// The same, written by this digest.
pub(super) fn runs_pinned(
    fake: &FakeRegistry,
    workload: &str,
    name: &str,
    by: &Digest,
    digest: &Digest,
) -> Fact {
    pod_of(workload, &format!("{}/shop/{name}@{by}", fake.host()), digest)
}

/// What was asked of the registry since it was last forgotten: method, kind and the end of the reference, in order
/// of text.
pub(super) fn asked(fake: &FakeRegistry) -> Vec<String> {
    let text = |seen: &testkit::SeenRequest| {
        let parts: Vec<&str> = seen.path().rsplitn(3, '/').collect();
        format!("{} {} {}", seen.method, parts[1], parts[0])
    };
    let mut asked: Vec<String> = fake.seen().iter().map(text).collect();
    asked.sort();
    asked
}

/// The same list from its parts.
pub(super) fn list(requests: &[(&str, &str)]) -> Vec<String> {
    let mut list: Vec<String> = requests
        .iter()
        .map(|(what, reference)| format!("{what} {reference}"))
        .collect();
    list.sort();
    list
}
