//! What runs, grouped by repository: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::{PodFacts, PodImage, Uid};
use image::{Digest, ImageId, Reference, Repository};
use serde_json::{Value, json};

use crate::kubectl::headed;
use crate::table::{Cell, Column, Style, Table, Tone, counted, paragraph};

/// Everything that runs.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) repositories: BTreeMap<Repository, Group>,
    /// Images as they are written that are no references.
    unreadable: BTreeSet<String>,
    /// Who signed was looked up.
    pub(super) looked_up: bool,
}

/// What runs of one repository.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) images: BTreeMap<Digest, Image>,
    /// Containers of which it is not known what runs.
    unresolved: usize,
    pods: BTreeSet<Uid>,
    pub(super) workloads: BTreeSet<String>,
    pub(super) namespaces: BTreeSet<Arc<str>>,
}

/// One digest.
#[derive(Debug, Default)]
pub(super) struct Image {
    pub(super) tags: BTreeSet<Arc<str>>,
    pub(super) pinned: BTreeSet<Digest>,
    pub(super) signed: Signed,
}

/// Who signed an image.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Signed {
    #[default]
    NotLookedAt,
    /// It could not be told, and why.
    NotTold(String),
    By(BTreeSet<Signer>),
    /// There are signatures, by nobody who is known.
    ByOthers,
    Nobody,
}

/// A signer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Signer {
    /// A SigningKey, by name, with its key ring.
    Key {
        name: String,
        ring: String,
    },
    Identity {
        issuer: String,
        subject: String,
    },
}

impl Signer {
    fn text(&self) -> String {
        match self {
            Signer::Key { name, .. } => format!("SigningKey/{name}"),
            Signer::Identity { issuer, subject } => format!("{subject} ({issuer})"),
        }
    }

    fn as_json(&self) -> Value {
        match self {
            Signer::Key { name, ring } => json!({"signingKey": name, "keyRing": ring}),
            Signer::Identity { issuer, subject } => json!({"issuer": issuer, "subject": subject}),
        }
    }
}

impl Survey {
    pub(super) fn of(pods: &[PodFacts]) -> Self {
        let mut survey = Survey::default();
        for pod in pods {
            for image in &pod.images {
                survey.take(pod, image);
            }
        }
        survey
    }

    fn take(&mut self, pod: &PodFacts, image: &PodImage) {
        let Ok(reference) = image.written.parse::<Reference>() else {
            self.unreadable.insert(image.written.to_string());
            return;
        };
        let group = self.repositories.entry(reference.repository.clone()).or_default();
        let workload = &pod.workload;
        group.pods.insert(pod.uid.clone());
        group.namespaces.insert(workload.key.namespace.clone());
        group.workloads.insert(format!(
            "{}/{}/{}",
            workload.key.namespace, workload.reference.kind, workload.reference.name
        ));
        let Some(digest) = running(image, &reference) else {
            group.unresolved += 1;
            return;
        };
        let one = group.images.entry(digest).or_default();
        match (reference.digest.clone(), reference.tag()) {
            (Some(pinned), _) => drop(one.pinned.insert(pinned)),
            (None, Some(tag)) => drop(one.tags.insert(tag.into())),
            (None, None) => {}
        }
    }

    /// Something is signed by nobody who is known, or could not be told.
    pub(super) fn has_doubts(&self) -> bool {
        let mut images = self.repositories.values().flat_map(|group| group.images.values());
        images.any(|image| !matches!(image.signed, Signed::By(_)))
    }

    pub(super) fn as_json(&self) -> Value {
        let repositories: Vec<Value> = self
            .repositories
            .iter()
            .map(|(repository, group)| {
                let images: Vec<Value> = group
                    .images
                    .iter()
                    .map(|(digest, image)| image.as_json(digest))
                    .collect();
                json!({
                    "repository": repository.to_string(),
                    "images": images,
                    "unresolved": group.unresolved,
                    "pods": group.pods.len(),
                    "workloads": group.workloads,
                    "namespaces": group.namespaces.iter().map(|name| &**name).collect::<Vec<_>>(),
                })
            })
            .collect();
        headed(
            "Survey",
            json!({"signersLookedUp": self.looked_up, "repositories": repositories, "unreadable": self.unreadable}),
        )
    }

    pub(super) fn text(&self, place: &str, style: Style) -> String {
        if self.repositories.is_empty() {
            return format!("Nothing runs {place}.\n");
        }
        let mut columns = vec![
            Column::Name("REPOSITORY"),
            Column::Whole("IMAGES"),
            Column::Whole("PODS"),
            Column::Whole("WORKLOADS"),
        ];
        if self.looked_up {
            columns.extend([Column::Whole("SIGNED"), Column::Name("BY")]);
        }
        let mut table = Table::new(columns);
        for (repository, group) in &self.repositories {
            let mut row: Vec<Cell> = vec![
                repository.to_string().into(),
                (group.images.len() + usize::from(group.unresolved > 0 && group.images.is_empty()))
                    .to_string()
                    .into(),
                group.pods.len().to_string().into(),
                group.workloads.len().to_string().into(),
            ];
            if self.looked_up {
                row.extend(group.signed());
            }
            table.row(row);
        }
        let pods: BTreeSet<&Uid> = self.repositories.values().flat_map(|group| &group.pods).collect();
        let images: usize = self.repositories.values().map(|group| group.images.len()).sum();
        let mut sentence = format!(
            "{}, {}, {} {place}.",
            counted(self.repositories.len(), "repository").replace("repositorys", "repositories"),
            counted(images, "image"),
            counted(pods.len(), "pod")
        );
        let unresolved: usize = self.repositories.values().map(|group| group.unresolved).sum();
        if unresolved > 0 {
            sentence += &format!(
                " Of {} it is not known yet what runs.",
                counted(unresolved, "container")
            );
        }
        if !self.unreadable.is_empty() {
            sentence += &format!(" {} are no image references.", self.unreadable.len());
        }
        table.text(style) + "\n" + &paragraph("", &sentence) + &self.troubles()
    }

    /// Why something could not be told, each reason once.
    fn troubles(&self) -> String {
        let images = self.repositories.values().flat_map(|group| group.images.values());
        let whys: BTreeSet<&String> = images
            .filter_map(|image| match &image.signed {
                Signed::NotTold(why) => Some(why),
                _ => None,
            })
            .collect();
        whys.iter()
            .take(10)
            .map(|why| paragraph("Not told: ", why))
            .collect()
    }
}

impl Group {
    /// How many are signed by somebody who is known, and by whom.
    fn signed(&self) -> [Cell; 2] {
        let all = self.images.len();
        let known = self
            .images
            .values()
            .filter(|image| matches!(image.signed, Signed::By(_)))
            .count();
        let mut by: BTreeSet<String> = BTreeSet::new();
        for image in self.images.values() {
            match &image.signed {
                Signed::By(signers) => by.extend(signers.iter().map(Signer::text)),
                Signed::ByOthers => drop(by.insert("others".to_owned())),
                Signed::Nobody => drop(by.insert("nobody".to_owned())),
                Signed::NotTold(_) => drop(by.insert("not told".to_owned())),
                Signed::NotLookedAt => drop(by.insert("not looked at".to_owned())),
            }
        }
        let tone = if known == all { Tone::Good } else { Tone::Doubtful };
        let by: Vec<String> = by.into_iter().collect();
        [
            Cell::toned(format!("{known} of {all}"), tone),
            by.join(", ").into(),
        ]
    }

    /// Those who signed every image of the group; None where not every one is signed by somebody who is known.
    pub(super) fn common_signers(&self) -> Option<BTreeSet<Signer>> {
        let mut common: Option<BTreeSet<Signer>> = None;
        for image in self.images.values() {
            let Signed::By(signers) = &image.signed else {
                return None;
            };
            common = Some(match common {
                Some(common) => common.intersection(signers).cloned().collect(),
                None => signers.clone(),
            });
        }
        common.filter(|common| !common.is_empty())
    }
}

impl Image {
    fn as_json(&self, digest: &Digest) -> Value {
        let (state, signers, why) = match &self.signed {
            Signed::NotLookedAt => ("NotLookedAt", Vec::new(), None),
            Signed::NotTold(why) => ("NotTold", Vec::new(), Some(why)),
            Signed::By(signers) => ("Signed", signers.iter().map(Signer::as_json).collect(), None),
            Signed::ByOthers => ("SignedByOthers", Vec::new(), None),
            Signed::Nobody => ("NotSigned", Vec::new(), None),
        };
        json!({"digest": digest.to_string(), "signed": state, "signers": signers, "why": why})
    }
}

/// The digest that runs; None where nobody says.
fn running(image: &PodImage, reference: &Reference) -> Option<Digest> {
    match &image.image_id {
        None => reference.digest.clone(),
        Some(id) => match ImageId::parse(id) {
            ImageId::Pulled { digest, .. } => Some(digest),
            ImageId::NotStarted | ImageId::ConfigOnly { .. } | ImageId::Unreadable(_) => None,
        },
    }
}
