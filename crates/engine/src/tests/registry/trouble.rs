//! Trouble inside and outside the operator: it is never an answer, and it leaves nothing behind that looks like one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::Reason;
use registry::{Client, ClientOptions, RequestObserver};
use testkit::{FakeRegistry, Fault, On};

use super::site::*;

/// Panics in the midst of a request as long as it is armed.
#[derive(Default)]
struct Panicking(AtomicBool);

impl RequestObserver for Panicking {
    fn request(&self, _: &str, _: &'static str, _: &'static str, _: f64) {
        assert!(!self.0.load(Ordering::Relaxed), "injected");
    }
}

fn unknown(reason: Reason) -> Option<(api::Verdict, Reason)> {
    Some((api::Verdict::Unknown, reason))
}

/// B10. Weakened once: with a pass that panicked taken for a complete one, the trouble is not named.
#[tokio::test]
async fn b10_a_panic_in_a_look_up_is_unknown_and_never_compliant() {
    let fake = FakeRegistry::start().await.unwrap();
    let mut site = Site::new(&[&fake]);
    let panicking = Arc::new(Panicking::default());
    site.client = Client::new(ClientOptions {
        plain_http: [fake.host()].into(),
        observer: Some(panicking.clone()),
        ..ClientOptions::default()
    })
    .unwrap();
    let (signed, unsigned) = (image(&fake, "signed"), image(&fake, "unsigned"));
    sign_by_tag(&fake, "signed", &site.signer, &signed);
    site.world.tell(runs(&fake, "signed", "signed", &signed));
    site.world.tell(runs(&fake, "unsigned", "unsigned", &unsigned));
    panicking.0.store(true, Ordering::Relaxed);
    site.look_up().await;
    for workload in ["signed", "unsigned"] {
        assert_eq!(
            site.verdict(workload),
            unknown(Reason::RegistryUnavailable),
            "{workload}"
        );
    }
    panicking.0.store(false, Ordering::Relaxed);
    site.next_check().await;
    assert_eq!(site.verdict("signed"), HOLDS);
    assert_eq!(site.verdict("unsigned"), UNSIGNED);
}

/// B37, C2.07: whatever failed once is asked again, and what it failed with decides nothing afterwards.
/// Weakened once: with trouble left out of what a pass found, it is not named.
#[tokio::test]
async fn b37_c2_07_an_error_is_no_answer_and_is_forgotten_with_the_next_one() {
    let faults = [
        (Fault::Status(503), Reason::RegistryUnavailable),
        (Fault::Forbidden, Reason::RegistryDenied),
        (Fault::Truncated, Reason::RegistryUnavailable),
        (Fault::Status(404), Reason::ImageNotFound),
    ];
    for (fault, reason) in faults {
        let fake = FakeRegistry::start().await.unwrap();
        let mut site = Site::new(&[&fake]);
        let digest = image(&fake, "web");
        sign_by_tag(&fake, "web", &site.signer, &digest);
        site.world.tell(runs(&fake, "web", "web", &digest));
        fake.inject(On::any(), fault.clone());
        site.look_up().await;
        assert_eq!(site.verdict("web"), unknown(reason), "{fault:?}");
        fake.heal();
        site.next_check().await;
        assert_eq!(site.verdict("web"), HOLDS, "{fault:?}");
    }
}
