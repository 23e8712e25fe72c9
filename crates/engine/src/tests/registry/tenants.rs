//! Credentials of those who run images: used where the operator's do not suffice, and what they bring is shown to
//! nobody else (invariant 1 and 7, B37, B42, B43, C3.12).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use api::{Reason, Verdict};
use futures::FutureExt;
use futures::future::BoxFuture;
use registry::Credentials;
use testkit::{Access, FakeRegistry};

use super::site::*;
use crate::fact::Fact;
use crate::keychain::{Keychain, KeychainHolder, PullCredentials, PullSecrets};
use crate::tests::world::{World, key_fact, key_spec, policy};

pub(super) const DENIED: Option<(Verdict, Reason)> = Some((Verdict::Unknown, Reason::RegistryDenied));

/// Secrets by namespace and name; whoever reads one that is not there is told so.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    passwords: Mutex<BTreeMap<String, String>>,
    /// Nothing can be read for the moment.
    pub(super) down: Mutex<bool>,
    read: Mutex<Vec<String>>,
    refused: Mutex<Vec<String>>,
}

impl Secrets {
    /// Puts a pull secret for a registry, or another one in its place.
    pub(super) fn put(&self, name: &str, fake: &FakeRegistry, user: &str, password: &str) {
        let config = format!(
            r#"{{"auths":{{"{}":{{"username":"{user}","password":"{password}"}}}}}}"#,
            fake.host()
        );
        self.passwords.lock().unwrap().insert(name.to_owned(), config);
    }

    fn reads(&self) -> usize {
        self.read.lock().unwrap().len()
    }
}

impl PullSecrets for Secrets {
    fn read<'a>(&'a self, keychain: &'a Keychain) -> BoxFuture<'a, PullCredentials> {
        let mut found = PullCredentials::default();
        let KeychainHolder::Secrets(names) = &keychain.holder else {
            panic!("the tests name secrets")
        };
        let mut read = Vec::new();
        for name in names {
            let name = format!("{}/{name}", keychain.namespace);
            match self.passwords.lock().unwrap().get(&name) {
                Some(config) => read.push(
                    Credentials::from_docker_config(&format!("Secret {name}"), config.as_bytes()).unwrap(),
                ),
                None => found
                    .troubles
                    .push(format!("Secret {name} may not be read: grant it")),
            }
            self.read.lock().unwrap().push(name);
        }
        found.credentials = Credentials::united(read);
        if *self.down.lock().unwrap() {
            found = PullCredentials {
                troubles: vec!["no Secret can be read at the moment".to_owned()],
                incomplete: true,
                ..PullCredentials::default()
            };
        }
        async move { found }.boxed()
    }

    fn refused(&self, keychain: &Keychain) {
        self.refused.lock().unwrap().push(keychain.to_string());
    }
}

pub(super) fn keychain(namespace: &str, secret: &str) -> Arc<Keychain> {
    Arc::new(Keychain {
        namespace: namespace.into(),
        holder: KeychainHolder::Secrets(vec![secret.into()]),
    })
}

/// The same pod, with a pull secret of its namespace.
pub(super) fn with(secret: &str, fact: Fact) -> Fact {
    let Fact::Pod(mut pod) = fact else {
        panic!("it is a pod")
    };
    pod.keychain = Some(keychain(&pod.workload.key.namespace, secret));
    Fact::Pod(pod)
}

/// A registry that serves `alice` alone, and a site that asks it.
pub(super) async fn private() -> (FakeRegistry, Site, Arc<Secrets>) {
    let fake = FakeRegistry::start().await.unwrap();
    fake.set_access(Access::token_for("alice", "a"));
    let mut site = Site::new(&[&fake]);
    let secrets = Arc::new(Secrets::default());
    site.pull_secrets = Some(secrets.clone());
    (fake, site, secrets)
}

/// Looks up until nothing is due at once: what the operator is refused is looked up for others next.
pub(super) async fn settle(site: &mut Site) {
    while site.look_up().await > 0 {}
}

/// Invariant 7, B42, C3.12. Weakened once: with one keychain for all in `SubjectKey`, b is shown what a's secret brought.
#[tokio::test]
async fn c3_12_what_one_tenants_secret_brought_is_shown_to_no_other_tenant_in_any_order() {
    for [first, second] in [["a/web", "b/web"], ["b/web", "a/web"]] {
        for together in [true, false] {
            let (fake, mut site, secrets) = private().await;
            let digest = image(&fake, "web");
            sign_by_bundle(&fake, "web", &site.signer, &digest);
            secrets.put("a/pull", &fake, "alice", "a");
            site.world.tell(with("pull", runs(&fake, first, "web", &digest)));
            if !together {
                settle(&mut site).await;
            }
            site.world.tell(with("pull", runs(&fake, second, "web", &digest)));
            settle(&mut site).await;
            for check in 0..3 {
                assert_eq!(site.verdict("a/web"), HOLDS, "check {check}, {first} first");
                assert_eq!(site.verdict("b/web"), DENIED, "check {check}, {first} first");
                site.next_check().await;
                settle(&mut site).await;
            }
            let message = site.message("b/web");
            assert!(message.contains("Secret b/pull may not be read"), "{message}");
            assert!(!message.contains("a/pull"), "{message}");
        }
    }
}

/// Invariant 7, 11: also an absence that a secret proved is shown to nobody else, and what is on disk is as apart.
/// Weakened once: without the keychain in `SubjectKey::text` b is Compliant by what is on disk of a.
#[tokio::test]
async fn b42_after_a_restart_from_disk_each_tenant_finds_its_own_and_nothing_of_others() {
    for signed in [true, false] {
        let (fake, mut site, secrets) = private().await;
        let digest = image(&fake, "web");
        if signed {
            sign_by_tag(&fake, "web", &site.signer, &digest);
        }
        secrets.put("a/pull", &fake, "alice", "a");
        let pods = ["a/web", "b/web"].map(|workload| with("pull", runs(&fake, workload, "web", &digest)));
        pods.iter().for_each(|pod| site.world.tell(pod.clone()));
        settle(&mut site).await;
        assert_eq!(site.verdict("a/web"), if signed { HOLDS } else { UNSIGNED });
        assert_eq!(site.verdict("b/web"), DENIED);

        let mut after = World::on(site.world.engine.store.clone());
        after.down = true;
        after.tell(key_fact(
            "release-2026",
            key_spec("release", &site.signer, api::Stage::Active),
        ));
        let mut facts = policy("prod", "**", &["release"]);
        facts.spec.as_mut().unwrap().match_.images = vec!["**/shop/**".into()];
        after.tell(Fact::Policy(Box::new(facts)));
        pods.iter().for_each(|pod| after.tell(pod.clone()));
        after.tell(Fact::Synced);
        after.look_up();
        after.pass_time(3600);
        after.look_up();
        let verdict = |workload| after.verdict(workload, "prod").map(|(verdict, _)| verdict);
        let mine = if signed {
            Verdict::Compliant
        } else {
            Verdict::Unknown
        };
        assert_eq!(verdict("a/web"), Some(mine), "from disk no absence counts");
        assert_eq!(verdict("b/web"), Some(Verdict::Unknown));
    }
}

#[tokio::test]
async fn where_the_operator_is_served_nobodys_secret_is_read() {
    let (fake, mut site, secrets) = private().await;
    fake.set_access(Access::Open);
    let digest = image(&fake, "web");
    sign_by_tag(&fake, "web", &site.signer, &digest);
    for namespace in 0..5 {
        let workload = format!("team-{namespace}/web");
        site.world
            .tell(with("pull", runs(&fake, &workload, "web", &digest)));
    }
    settle(&mut site).await;
    assert_eq!(site.verdict("team-4/web"), HOLDS);
    assert_eq!(secrets.reads(), 0);
    assert_eq!(site.world.engine.subjects.len(), 1, "one look-up for all");
}

#[tokio::test]
async fn without_credentials_that_fit_the_registry_is_not_asked_again() {
    let (fake, mut site, secrets) = private().await;
    let digest = image(&fake, "web");
    let other = FakeRegistry::start().await.unwrap();
    secrets.put("b/pull", &other, "alice", "a");
    site.world
        .tell(with("pull", runs(&fake, "b/web", "web", &digest)));
    assert_eq!(site.look_up().await, 1, "the operator's own");
    fake.forget();
    settle(&mut site).await;
    assert_eq!(site.verdict("b/web"), DENIED);
    let message = site.message("b/web");
    assert!(
        message.contains("Secret b/pull holds no credentials for"),
        "{message}"
    );
    assert_eq!((fake.count(), other.count()), (0, 0));
}

/// A rotation is noticed: what a registry refuses is read anew.
#[tokio::test]
async fn c3_12_a_password_that_changed_is_noticed_by_the_next_check() {
    let (fake, mut site, secrets) = private().await;
    let digest = image(&fake, "web");
    sign_by_tag(&fake, "web", &site.signer, &digest);
    secrets.put("a/pull", &fake, "alice", "old");
    site.world
        .tell(with("pull", runs(&fake, "a/web", "web", &digest)));
    settle(&mut site).await;
    assert_eq!(site.verdict("a/web"), DENIED);
    assert!(
        site.message("a/web").contains("Secret a/pull"),
        "{}",
        site.message("a/web")
    );
    assert_eq!(*secrets.refused.lock().unwrap(), ["secrets a/pull"]);
    secrets.put("a/pull", &fake, "alice", "a");
    site.world.pass_time(31);
    settle(&mut site).await;
    assert_eq!(site.verdict("a/web"), HOLDS);
}

/// Nobody is sent to mend rights because the API server restarts. Weakened once: with every trouble taken for a denial,
/// the answer is Unknown/RegistryDenied.
#[tokio::test]
async fn secrets_that_cannot_be_read_for_the_moment_are_an_outage_and_no_denial() {
    let (fake, mut site, secrets) = private().await;
    let digest = image(&fake, "web");
    sign_by_tag(&fake, "web", &site.signer, &digest);
    secrets.put("a/pull", &fake, "alice", "a");
    *secrets.down.lock().unwrap() = true;
    site.world
        .tell(with("pull", runs(&fake, "a/web", "web", &digest)));
    settle(&mut site).await;
    let outage = Some((Verdict::Unknown, Reason::RegistryUnavailable));
    assert_eq!(site.verdict("a/web"), outage, "{}", site.message("a/web"));
    assert!(site.message("a/web").contains("at the moment"));
    *secrets.down.lock().unwrap() = false;
    site.world.pass_time(31);
    settle(&mut site).await;
    assert_eq!(site.verdict("a/web"), HOLDS);
}

/// B43.
#[tokio::test]
async fn b43_a_broken_or_another_pull_secret_takes_no_violation_back() {
    let (fake, mut site, secrets) = private().await;
    let digest = image(&fake, "web");
    secrets.put("a/pull", &fake, "alice", "a");
    let pod = runs(&fake, "a/web", "web", &digest);
    site.world.tell(with("pull", pod.clone()));
    settle(&mut site).await;
    assert_eq!(site.verdict("a/web"), UNSIGNED);
    secrets.put("a/pull", &fake, "alice", "broken");
    site.next_check().await;
    assert_eq!(site.verdict("a/web"), UNSIGNED, "a broken secret");
    site.world.tell(with("missing", pod.clone()));
    settle(&mut site).await;
    assert_eq!(site.verdict("a/web"), UNSIGNED, "another secret, at once");
    site.world.tell(crate::tests::world::gone("a/web"));
    site.world.tell(with("other", pod));
    settle(&mut site).await;
    assert_eq!(site.verdict("a/web"), UNSIGNED, "another secret, after a while");
}

#[tokio::test]
async fn once_the_operator_is_served_it_decides_for_all_and_holds_nothing_apart() {
    let (fake, mut site, secrets) = private().await;
    let digest = image(&fake, "web");
    sign_by_tag(&fake, "web", &site.signer, &digest);
    secrets.put("a/pull", &fake, "alice", "a");
    for workload in ["a/web", "b/web"] {
        site.world
            .tell(with("pull", runs(&fake, workload, "web", &digest)));
    }
    settle(&mut site).await;
    assert_eq!(site.world.engine.subjects.len(), 3);
    fake.set_access(Access::Open);
    site.next_check().await;
    settle(&mut site).await;
    assert_eq!((site.verdict("a/web"), site.verdict("b/web")), (HOLDS, HOLDS));
    assert_eq!(site.world.engine.subjects.len(), 1);
    let report = site
        .world
        .engine
        .key_report("release-2026", site.world.now)
        .unwrap();
    assert_eq!((report.images, report.sole_trust.pods), (1, 2));
}

/// An outage after a refusal is an outage: what a tenant's secret brought before stays.
#[tokio::test]
async fn an_outage_takes_nothing_away_from_those_who_were_served() {
    let (fake, mut site, secrets) = private().await;
    let digest = image(&fake, "web");
    sign_by_tag(&fake, "web", &site.signer, &digest);
    secrets.put("a/pull", &fake, "alice", "a");
    site.world
        .tell(with("pull", runs(&fake, "a/web", "web", &digest)));
    settle(&mut site).await;
    fake.inject(testkit::On::any(), testkit::Fault::Status(503));
    site.next_check().await;
    site.world.pass_time(60);
    assert_eq!(site.verdict("a/web"), HOLDS);
    assert!(site.world.result("a/web", "prod").unwrap().stale_since.is_some());
    let report = site
        .world
        .engine
        .key_report("release-2026", site.world.now)
        .unwrap();
    assert_eq!((report.images, report.sole_trust.pods), (1, 1));
}

/// Pods of one workload may bring different secrets while it is rolled out.
#[tokio::test]
async fn of_two_pods_with_different_secrets_the_worse_answer_is_shown_once() {
    let (fake, mut site, secrets) = private().await;
    let digest = image(&fake, "web");
    sign_by_tag(&fake, "web", &site.signer, &digest);
    secrets.put("a/pull", &fake, "alice", "a");
    let pod = runs(&fake, "a/web", "web", &digest);
    let Fact::Pod(mut second) = with("missing", pod.clone()) else {
        panic!("it is a pod")
    };
    second.uid = "another".into();
    site.world.tell(with("pull", pod));
    site.world.tell(Fact::Pod(second));
    settle(&mut site).await;
    let crate::report::WorkloadAnswer::Covered(report) = site
        .world
        .engine
        .answer(&crate::tests::world::key("a/web"), site.world.now)
    else {
        panic!("it is covered")
    };
    assert_eq!(report.images.len(), 1);
    assert_eq!(report.images[0].policies[0].reason, Reason::RegistryDenied);
    site.world.tell(Fact::PodGone("another".into()));
    assert_eq!(site.verdict("a/web"), HOLDS);
}
