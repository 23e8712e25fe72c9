//! What tags in templates cost at a registry, and to whom it is told what they name.

use api::{Reason, StartDecision};
use testkit::FakeRegistry;

use super::site::*;
use super::tenants::{keychain, private};
use crate::core::START_GRACE;
use crate::fact::Fact;
use crate::tests::world::template;

/// A template that writes `shop/<name>:1`.
fn starts(fake: &FakeRegistry, workload: &str, name: &str) -> Fact {
    template(workload, &[&format!("{}/shop/{name}:1", fake.host())])
}

/// The same, with a pull secret of its namespace.
fn with(secret: &str, fact: Fact) -> Fact {
    let Fact::Template(mut template) = fact else {
        panic!("it is a template")
    };
    template.keychain = Some(keychain(&template.workload.key.namespace, secret));
    Fact::Template(template)
}

async fn settle(site: &mut Site) {
    while site.look_up().await + site.ask_for_tags().await > 0 {}
}

fn next(site: &Site, workload: &str) -> Option<(StartDecision, Reason)> {
    let next = site.world.next_start(workload)?;
    Some((next.decision, next.reason))
}

#[tokio::test]
async fn a_tag_is_fetched_once_and_then_asked_with_head_until_it_names_something_else() {
    let fake = FakeRegistry::start().await.unwrap();
    let mut site = Site::new(&[&fake]);
    let digest = image(&fake, "web");
    sign_by_bundle(&fake, "web", &site.signer, &digest);
    site.world.tell(starts(&fake, "web", "web"));
    let of_the_tag = |fake: &FakeRegistry| {
        let mut asked = asked(fake);
        asked.retain(|request| request.ends_with(" manifests 1"));
        asked
    };
    settle(&mut site).await;
    assert_eq!(of_the_tag(&fake), ["GET manifests 1"]);
    fake.forget();
    site.world.pass_time(6 * 3600);
    settle(&mut site).await;
    assert_eq!(of_the_tag(&fake), ["HEAD manifests 1"]);
    assert_eq!(
        next(&site, "web"),
        Some((StartDecision::Admit, Reason::AllVerified))
    );
    let (index, _) = multi_arch(&fake, "web");
    fake.forget();
    site.world.pass_time(6 * 3600);
    settle(&mut site).await;
    assert_eq!(of_the_tag(&fake), ["GET manifests 1", "HEAD manifests 1"]);
    assert_eq!(site.world.next_start("web").unwrap().digest, index.to_string());
}

/// The first look at what runs asks for its tag: one resolution serves both.
#[tokio::test]
async fn the_first_look_at_what_runs_serves_the_template_as_well() {
    let fake = FakeRegistry::start().await.unwrap();
    let mut site = Site::new(&[&fake]);
    let digest = image(&fake, "web");
    sign_by_bundle(&fake, "web", &site.signer, &digest);
    site.world.tell(starts(&fake, "web", "web"));
    site.world.tell(runs(&fake, "web", "web", &digest));
    assert_eq!(site.ask_for_tags().await, 0, "the look-up is waited for");
    settle(&mut site).await;
    let asked = asked(&fake);
    let times = asked.iter().filter(|request| request.ends_with(" manifests 1"));
    assert_eq!(times.count(), 1, "{asked:#?}");
    assert_eq!(
        next(&site, "web"),
        Some((StartDecision::Admit, Reason::AllVerified))
    );
}

/// Invariant 7, B42, C3.12.
#[tokio::test]
async fn c3_12_what_a_tag_names_by_one_tenants_secret_is_told_to_no_other_tenant() {
    for [first, second] in [["a/web", "b/web"], ["b/web", "a/web"]] {
        let (fake, mut site, secrets) = private().await;
        let digest = image(&fake, "web");
        sign_by_bundle(&fake, "web", &site.signer, &digest);
        secrets.put("a/pull", &fake, "alice", "a");
        for workload in [first, second] {
            site.world.tell(with("pull", starts(&fake, workload, "web")));
            settle(&mut site).await;
        }
        site.world.pass_time(START_GRACE.as_secs() + 1);
        settle(&mut site).await;
        assert_eq!(
            next(&site, "a/web"),
            Some((StartDecision::Admit, Reason::AllVerified))
        );
        assert_eq!(
            next(&site, "b/web"),
            Some((StartDecision::Deny, Reason::RegistryDenied))
        );
        let refused = site.world.next_start("b/web").unwrap();
        assert_eq!(refused.digest, "", "not even the digest");
        let message = refused.message.unwrap();
        assert!(
            message.contains("Secret b/pull") && !message.contains("a/pull"),
            "{message}"
        );
    }
}
