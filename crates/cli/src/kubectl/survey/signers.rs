//! Looks images up at their registries, within a budget of requests, and says who signed them.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{PUBLIC_GOOD, SigningKey};
use engine::{Signable, signers};
use futures::StreamExt as _;
use registry::Client;
use verify::{Demand, IdentityMatcher, Pattern, PublicKey, TrustRoot, Verifier};

use super::report::{Signed, Signer, Survey};
use crate::output::{self, Problem};
use crate::registries::RegistryArguments;

/// Look-ups at the same time.
const AT_ONCE: usize = 8;
/// After so many images it is told how far it has come.
const TOLD_EVERY: usize = 25;

/// A verifier, and whom it stands for; None for whoever the certificate names.
type Known = (Verifier, Option<Signer>);

/// Fills in who signed each image.
pub(super) async fn look_up(
    survey: &mut Survey,
    keys: &[SigningKey],
    registries: &RegistryArguments,
    most_requests: u64,
) -> Result<(), Problem> {
    survey.looked_up = true;
    let client =
        Client::new(registries.options(concat!("kubectl-assay-survey/", env!("CARGO_PKG_VERSION"))))?;
    let known = known(keys)?;
    let verifiers: Vec<Verifier> = known.iter().map(|(verifier, _)| verifier.clone()).collect();
    let all: Vec<Signable> = survey
        .repositories
        .iter()
        .flat_map(|(repository, group)| {
            group.images.iter().map(|(digest, image)| Signable {
                repository: repository.clone(),
                digest: digest.clone(),
                tags: image.tags.clone(),
                pinned: image.pinned.clone(),
            })
        })
        .collect();
    let total = all.len();
    let look = |image: Signable| {
        let (client, verifiers) = (client.clone(), &verifiers);
        async move {
            if client.requests() >= most_requests {
                return (image, None);
            }
            let found = signers(client, &image, verifiers).await;
            (image, Some(found))
        }
    };
    let mut answers = futures::stream::iter(all).map(look).buffer_unordered(AT_ONCE);
    let (mut ended, mut left) = (0, 0);
    while let Some((image, answer)) = answers.next().await {
        ended += 1;
        let signed = match answer {
            None => {
                left += 1;
                Signed::NotLookedAt
            }
            Some(Err(error)) => Signed::NotTold(error.to_string()),
            Some(Ok(found)) => signed(found, &known),
        };
        let group = survey.repositories.get_mut(&image.repository);
        if let Some(one) = group.and_then(|group| group.images.get_mut(&image.digest)) {
            one.signed = signed;
        }
        if ended % TOLD_EVERY == 0 {
            output::progress(&format!(
                "{ended} of {total} images, {} requests",
                client.requests()
            ));
        }
    }
    if left > 0 {
        output::note(&format!(
            "{left} images were not looked at: {} requests were sent, and --max-requests is {most_requests}",
            client.requests()
        ));
    }
    Ok(())
}

/// The public keys of the cluster, and whoever has an identity of the public-good Sigstore. Keys whose signatures
/// need a log are asked for the signature alone: it is told who signed, and not whether that suffices.
fn known(keys: &[SigningKey]) -> Result<Vec<Known>, Problem> {
    let mut known: Vec<Known> = Vec::new();
    for key in keys {
        let Some(source) = &key.spec.public_key else {
            continue;
        };
        let name = key.metadata.name.clone().unwrap_or_default();
        match PublicKey::from_pem(&source.pem) {
            Ok(public) => {
                let ring = key.spec.key_ring.clone();
                known.push((Verifier::by_key(public), Some(Signer::Key { name, ring })));
            }
            Err(problem) => output::note(&format!(
                "SigningKey/{name}: spec.publicKey.pem: {problem}; it is left out"
            )),
        }
    }
    let root = TrustRoot::public_good()
        .map_err(|problem| format!("the built-in root {PUBLIC_GOOD} cannot be read: {problem}"))?;
    let anybody = IdentityMatcher::new(Pattern::regex(".+")?, Pattern::regex(".+")?);
    known.push((
        Verifier::keyless(anybody, Demand::Required, Demand::Optional, Arc::new(root))?,
        None,
    ));
    Ok(known)
}

fn signed(found: engine::Signers, known: &[Known]) -> Signed {
    let mut by = BTreeSet::new();
    for (at, identity) in found.by {
        match (known.get(at), identity) {
            (Some((_, Some(signer))), _) => drop(by.insert(signer.clone())),
            (_, Some(identity)) => drop(by.insert(Signer::Identity {
                issuer: identity.issuer.clone(),
                subject: identity.subject.clone(),
            })),
            _ => {}
        }
    }
    // A signature that verified counts although something else could not be read.
    match (by.is_empty(), found.trouble, found.by_others) {
        (false, ..) => Signed::By(by),
        (true, Some(why), _) => Signed::NotTold(why),
        (true, None, true) => Signed::ByOthers,
        (true, None, false) => Signed::Nobody,
    }
}
