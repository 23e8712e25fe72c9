//! What the operator asks of real registries, by the registries' own logs: at first, at each re-check, and after
//! something changed, for each way in which a signature or an attestation can be found.

use std::collections::BTreeMap;
use std::time::Duration;

use api::{ImageCompliance, Reason};
use serde_json::{Value, json};
use testkit::node::annotation;
use testkit::{Cosign, CosignVersion, Format, KeyPair, LogPosition, Registry, RegistryKind, eventually};

use crate::bench::REVIEW;
use crate::operator::USER_AGENT;
use crate::scene::{PATIENCE, Scene, condition, deployment};
use crate::servers::servers;

/// A way in which a signature is found, or, in the last one, an attestation alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Referrers,
    FallbackTag,
    SignatureTag,
    AttestationTag,
}

impl Way {
    /// What the policy asks for.
    fn requirement(self, ring: &str) -> Value {
        match self {
            Self::AttestationTag => {
                json!({"name": "reviewed", "attestation": {"predicateType": REVIEW, "signedBy": [ring]}})
            }
            _ => json!({"name": "signed", "signature": {"signedBy": [ring]}}),
        }
    }

    fn missing(self) -> Reason {
        match self {
            Self::AttestationTag => Reason::AttestationMissing,
            _ => Reason::SignatureMissing,
        }
    }

    /// What is said of an index that only a platform of it was signed or attested.
    fn missing_of_index(self) -> Reason {
        match self {
            Self::AttestationTag => Reason::AttestationMissing,
            _ => Reason::IndexNotSigned,
        }
    }
}

/// What one manifest carries.
struct Attached {
    /// The manifest that holds the signature, unless its tag is a way of discovery.
    manifest: Option<String>,
    /// Its layer.
    layer: String,
    /// What to delete to take it away: a digest or a tag.
    handle: String,
}

/// One image that is a platform of an index, in a repository of its own, signed as a platform.
struct Place<'a> {
    scene: &'a Scene,
    cosign2: &'a Cosign,
    registry: &'a Registry,
    way: Way,
    repository: String,
    child: String,
    index: String,
    /// The tag that the workload is written with.
    tag: String,
}

/// `GET manifests/…` → how often.
type Requests = BTreeMap<String, usize>;

impl Place<'_> {
    fn name(&self) -> String {
        let kind = match self.registry.kind() {
            RegistryKind::Distribution => "distribution",
            RegistryKind::Referrers => "referrers",
        };
        format!("{kind}-{:?}", self.way).to_lowercase()
    }

    /// The operator's requests about the repository since then, each as method, kind and reference.
    fn asked(&self, since: LogPosition) -> Vec<String> {
        let prefix = format!("/v2/{}/", self.repository);
        let all = self.registry.access_log_since(since).unwrap().into_iter();
        all.filter(|request| request.user_agent.starts_with(USER_AGENT))
            .filter_map(|request| {
                let rest = request.path.strip_prefix(&prefix)?;
                Some(format!("{} {rest}", request.method))
            })
            .collect()
    }

    /// Signs the image, or attests it, in the way of this place.
    async fn vouch(&self, key: &KeyPair) {
        let reference = format!("{}/{}@{}", self.registry.host(), self.repository, self.child);
        let cosign = &self.scene.cosign;
        let done = match self.way {
            Way::SignatureTag => cosign.sign(&reference, key, Format::Tag).await,
            Way::Referrers | Way::FallbackTag => cosign.sign(&reference, key, Format::Bundle).await,
            Way::AttestationTag => {
                let review = json!({"approvals": ["ada", "grace"]});
                self.cosign2
                    .attest(&reference, key, REVIEW, &review, Format::Tag)
                    .await
            }
        };
        done.unwrap();
    }

    async fn sign(&self, key: &KeyPair) -> Attached {
        let since = self.registry.log_position().unwrap();
        self.vouch(key).await;
        let tag = self.child.replace(':', "-");
        let writer = self.registry.writer();
        let (manifest, handle, reference) = match self.way {
            Way::SignatureTag => (None, format!("{tag}.sig"), format!("{tag}.sig")),
            Way::AttestationTag => (None, format!("{tag}.att"), format!("{tag}.att")),
            way => {
                let pushed = self.pushed_manifest(since).await;
                let handle = if way == Way::Referrers {
                    pushed.clone()
                } else {
                    tag
                };
                (Some(pushed.clone()), handle, pushed)
            }
        };
        let content = writer.manifest(&self.repository, &reference).await.unwrap();
        let content: Value = serde_json::from_slice(&content.unwrap()).unwrap();
        let layer = content["layers"][0]["digest"].as_str().unwrap().to_owned();
        Attached {
            manifest,
            layer,
            handle,
        }
    }

    /// The digest of the manifest that cosign pushed.
    async fn pushed_manifest(&self, since: LogPosition) -> String {
        let prefix = format!("/v2/{}/manifests/sha256:", self.repository);
        let look = async || {
            let log = self.registry.access_log_since(since).unwrap();
            let mut pushed = log
                .iter()
                .filter(|request| request.method == "PUT" && request.path.starts_with(&prefix));
            let digest = pushed
                .next_back()
                .and_then(|request| request.path.rsplit('/').next());
            digest
                .map(str::to_owned)
                .ok_or("no manifest was pushed".to_owned())
        };
        eventually("cosign's manifest", Duration::from_secs(10), look)
            .await
            .unwrap()
    }

    /// The requests of one way each about a manifest; `known`: what is known to be under its tags.
    fn ways(&self, digest: &str, known: &[&str]) -> Requests {
        let tag = digest.replace(':', "-");
        let named = |name: String| {
            let method = if known.contains(&name.as_str()) {
                "HEAD"
            } else {
                "GET"
            };
            (format!("{method} manifests/{name}"), 1)
        };
        let mut ways = Requests::from([named(tag.clone()), named(format!("{tag}.sig"))]);
        if self.way == Way::AttestationTag {
            ways.extend([named(format!("{tag}.att"))]);
        }
        // One that does not have this API was asked once, and is not asked again within the hour.
        if self.registry.kind() == RegistryKind::Referrers {
            ways.insert(format!("GET referrers/{digest}"), 1);
        }
        ways
    }

    /// Cold: the subject once, one per way of discovery, two per item of evidence, one per candidate for an index. The
    /// index is what the tag in the template names: it is looked up by itself as well.
    fn cold(&self, attached: &Attached) -> Requests {
        let mut cold = self.ways(&self.child, &[]);
        cold.extend(self.ways(&self.index, &[]));
        cold.insert(format!("GET manifests/{}", self.child), 1);
        cold.insert(format!("GET manifests/{}", self.tag), 1);
        cold.insert(format!("GET manifests/{}", self.index), 1);
        for request in self.ways(&self.index, &[]).into_keys() {
            cold.insert(request, 2);
        }
        cold.insert(format!("GET blobs/{}", attached.layer), 1);
        if let Some(manifest) = &attached.manifest {
            cold.insert(format!("GET manifests/{manifest}"), 1);
        }
        if self.registry.kind() == RegistryKind::Distribution {
            cold.insert(format!("GET referrers/{}", self.child), 1);
        }
        cold
    }

    /// The template may be looked up before its pod is there. Then it asks for the tag as well, and is the one that finds
    /// out that a registry has no referrers API. At the same time both may find that out, and of what both ask for, one
    /// may get the other's answer.
    fn whoever_came_first(&self, mut asked: Requests) -> Requests {
        asked
            .entry(format!("GET manifests/{}", self.tag))
            .and_modify(|times| *times = 1);
        if self.registry.kind() == RegistryKind::Distribution {
            let of_the_index = asked.remove(&format!("GET referrers/{}", self.index));
            let of_the_child = asked.entry(format!("GET referrers/{}", self.child)).or_default();
            *of_the_child = of_the_index.unwrap_or(0).max(*of_the_child);
        }
        for request in self.ways(&self.index, &[]).into_keys() {
            asked.entry(request).and_modify(|times| *times = (*times).max(2));
        }
        asked
    }

    /// Warm: one per way of discovery of the image and of its index, and no body; for the template, whether its tag
    /// names the same, and the index by itself, which nobody signed.
    fn warm(&self, attached: &Attached) -> Requests {
        let mut warm = self.ways(&self.child, &[attached.handle.as_str()]);
        let of_the_index = self.ways(&self.index, &[]).into_keys();
        warm.extend(of_the_index.map(|request| (request, 2)));
        warm.insert(format!("HEAD manifests/{}", self.tag), 1);
        warm.insert(format!("GET manifests/{}", self.index), 1);
        warm
    }

    /// Waits for several re-checks: each asked for this, so often, and for nothing else.
    async fn rechecks_cost(&self, each: &Requests) {
        let since = self.registry.log_position().unwrap();
        let whole_checks = async || {
            let asked = counted(self.asked(since));
            let times = |(request, each): (&String, &usize)| asked.get(request).copied().unwrap_or(0) / each;
            let least = each.iter().map(times).min();
            if least >= Some(3) {
                Ok(asked)
            } else {
                Err(format!("{asked:#?}"))
            }
        };
        let asked = eventually("three re-checks", PATIENCE, whole_checks)
            .await
            .unwrap();
        for (request, times) in &asked {
            assert!(
                each.contains_key(request),
                "{}: {request}, {times} times",
                self.name()
            );
        }
        let checks: Vec<usize> = asked
            .iter()
            .map(|(request, times)| times.div_ceil(each[request]))
            .collect();
        // The log may begin or end in the midst of a check, and the image and its index are each looked at in their own
        // time.
        let (least, most) = (checks.iter().min().unwrap(), checks.iter().max().unwrap());
        assert!(least + 3 > *most, "{}: {asked:#?}", self.name());
    }

    async fn run(&self, key: &KeyPair, stranger: &KeyPair) {
        let (name, scene) = (self.name(), self.scene);
        let attached = self.sign(key).await;
        let annotated = format!("{}.main", annotation::IMAGE_ID);
        let image = |reference: String| format!("{}/{}{reference}", self.registry.host(), self.repository);
        let spec = json!({"containers": [{"name": "main", "image": image(format!(":{}", self.tag))}]});
        let running = json!({(annotated.as_str()): image(format!("@{}", self.child))});
        let policy = json!({"spec": {
            "match": {"images": [image(String::new())]},
            "require": [self.way.requirement(&scene.unique("release"))],
        }});
        let since = self.registry.log_position().unwrap();
        scene
            .create(&[
                scene.policy(&name, "release", policy),
                deployment(&name, spec, running),
            ])
            .await;
        let workload = format!("deployment-{name}");
        let denied = |compliance: &ImageCompliance| {
            let next = compliance.status.next_start.as_ref();
            next.is_some_and(|next| next.reason == self.way.missing_of_index())
                && condition(compliance) == "True/AllVerified"
        };
        scene
            .until(
                &workload,
                "what runs holds, and the index does not",
                PATIENCE,
                denied,
            )
            .await;
        assert_eq!(
            self.whoever_came_first(counted(self.asked(since))),
            self.cold(&attached),
            "{name}: cold"
        );

        let often = json!({"spec": {"recheck": {"interval": "2s"}}});
        scene.patch("imagepolicy", &scene.unique(&name), &often).await;
        self.rechecks_cost(&self.warm(&attached)).await;

        let writer = self.registry.writer();
        writer
            .delete_manifest(&self.repository, &attached.handle)
            .await
            .unwrap();
        scene
            .says(&workload, &format!("False/{:?}", self.way.missing()))
            .await;
        let since = self.registry.log_position().unwrap();
        let other = self.sign(stranger).await;
        scene.says(&workload, "False/SignerNotTrusted").await;
        let read = |digest: &str| {
            let read = self.asked(since).into_iter();
            read.filter(|request| request.ends_with(digest)).count()
        };
        // In the tag format both signed the same payload.
        let is_new = usize::from(other.layer != attached.layer);
        assert_eq!(read(&other.layer), is_new, "{name}: what is new is read, once");
        self.sign(key).await;
        scene.says(&workload, "True/AllVerified").await;
    }
}

fn counted(requests: Vec<String>) -> Requests {
    let mut counted = Requests::new();
    for request in requests {
        *counted.entry(request).or_default() += 1;
    }
    counted
}

/// Issue 4, requests: cold, warm, and what comes and goes, in each way of discovery, on a registry with and one without
/// the referrers API. Fails on a build that leaves the attestation tag out of what must be unchanged.
#[tokio::test]
async fn c2_01_c5_13_real_registries_are_asked_for_nothing_twice_and_every_change_is_noticed() {
    let (scene, _) = Scene::shared("requests").await;
    let key = scene.signer("release", "release", "Active").await;
    let stranger = scene.cosign.generate_key_pair("stranger").await.unwrap();
    let home = scene.cluster.folder().join("cosign2").join(scene.name());
    let cosign2 = Cosign::new(CosignVersion::V2, home).unwrap();
    let servers = servers().await;
    let mut places = Vec::new();
    for (registry, way) in [
        (&servers.distribution, Way::SignatureTag),
        (&servers.distribution, Way::FallbackTag),
        (&servers.distribution, Way::AttestationTag),
        (&servers.referrers, Way::SignatureTag),
        (&servers.referrers, Way::Referrers),
    ] {
        let repository = format!("requests/{}-{way:?}", scene.name()).to_lowercase();
        let tag = scene.name().to_owned();
        let pushed = registry
            .writer()
            .push_index(&repository, &tag, &format!("{} {way:?}", scene.name()), false)
            .await
            .unwrap();
        places.push(Place {
            scene: &scene,
            cosign2: &cosign2,
            registry,
            way,
            repository,
            child: pushed.amd64.digest,
            index: pushed.index.digest,
            tag,
        });
    }
    for place in &places {
        place.run(&key, &stranger).await;
    }
}
