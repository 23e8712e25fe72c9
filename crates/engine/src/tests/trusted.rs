//! What passes without evidence is counted as such.

use api::{Requirement, Stage, TrustedRequirement};

use super::world::*;
use crate::fact::Fact;

/// `web` is signed, `base` is a vendor's.
#[test]
fn workloads_that_hold_without_evidence_are_counted_apart() {
    let mut world = World::new();
    let signer = Signer::new();
    let own = digest("shop/web");
    world.signatures.insert(own.clone(), vec![signer.sign(&own)]);
    world.tell(key_fact("release-1", key_spec("release", &signer, Stage::Active)));
    world.tell(policy_fact("prod", "shop/**", &["release"]));
    let mut vendors = policy("vendors", "vendor/**", &["release"]);
    vendors.spec.as_mut().unwrap().require = vec![Requirement {
        name: "vendor".into(),
        trusted: Some(TrustedRequirement {
            reason: "bought".into(),
        }),
        ..Requirement::default()
    }];
    world.tell(Fact::Policy(Box::new(vendors)));
    world.tell(pod("web", "shop/web"));
    world.tell(pod("base", "vendor/base"));
    world.tell(Fact::Synced);
    world.look_up();
    let mut counted = |policy: &str| {
        let report = world.engine.policy_report(policy, world.now).unwrap();
        (report.compliant, report.trusted)
    };
    assert_eq!((counted("prod"), counted("vendors")), ((1, 0), (1, 1)));
}
