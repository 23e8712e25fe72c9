//! How often a registry is asked: once for all that wait, once in a window, within the pace (C2.01, C2.03, F02).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::{Duration, Instant};

use assay_registry::{Client, ClientOptions, Error, ErrorKind, Limits, Route, Routes};
use futures::future::join_all;
use support::{Access, FakeRegistry, Fault, MANIFEST, On, client, digest, manifest, options, repository};

async fn with_image() -> FakeRegistry {
    let fake = FakeRegistry::start().await.unwrap();
    fake.put_manifest("shop/web", Some("v1"), MANIFEST, manifest());
    fake
}

fn route(fake: &FakeRegistry, change: impl FnOnce(&mut Route)) -> Routes {
    let mut route = Route::new("test", fake.host().parse().unwrap());
    route.plain_http = true;
    change(&mut route);
    let mut routes = Routes::default();
    routes.insert(route).unwrap();
    routes
}

/// Weakened: with `ask` calling `ask_alone` without `flights` there are 500 requests.
#[tokio::test]
async fn c2_01_five_hundred_callers_at_once_cause_one_fetch_and_one_token() {
    let fake = with_image().await;
    fake.set_access(Access::Token(Vec::new()));
    let client = client(&[&fake]);
    let (repository, asked) = (repository(&fake), digest(manifest()));
    let all = join_all((0..500).map(|_| client.manifest(&repository, &asked))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(fake.asked("/token"), 1);
    assert_eq!(fake.asked("/manifests/"), 2, "the challenge and the fetch");
}

#[tokio::test]
async fn c2_01_a_failure_is_shared_by_those_that_wait_and_by_nobody_else() {
    let fake = with_image().await;
    fake.inject_times(1, On::manifests(), Fault::Status(503));
    let client = client(&[&fake]);
    let (repository, asked) = (repository(&fake), digest(manifest()));
    let all = join_all((0..50).map(|_| client.manifest(&repository, &asked))).await;
    assert!(all.iter().all(Result::is_err));
    assert_eq!(fake.count(), 1);
    client.manifest(&repository, &asked).await.unwrap();
}

/// Weakened once: with a 503 taken for any other answer, the first error names no time.
#[tokio::test]
async fn f01_f02_a_registry_that_says_when_to_come_back_is_left_alone_until_then_and_stays_unavailable() {
    let fake = with_image().await;
    fake.inject(On::any(), Fault::ComeBack(2));
    let client = client(&[&fake]);
    let repository = repository(&fake);
    let begin = Instant::now();
    for number in 0..40 {
        let tag = format!("v{number}");
        let error = client.tagged_manifest(&repository, &tag).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.retry_after().unwrap() <= Duration::from_secs(2));
        assert!(error.to_string().contains("503"), "{error}");
    }
    let windows = 1 + begin.elapsed().as_millis() / 2000;
    assert!(fake.count() as u128 <= windows, "{} requests", fake.count());
    fake.heal();
    let healed = async {
        while client.tagged_manifest(&repository, "v1").await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), healed)
        .await
        .unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(2));
}

/// A 503 that names no time is one answer to one request.
#[tokio::test]
async fn a_registry_that_is_unavailable_for_an_unknown_time_is_asked_again_at_once() {
    let fake = with_image().await;
    fake.inject_times(1, On::any(), Fault::Status(503));
    let client = client(&[&fake]);
    let repository = repository(&fake);
    let error = client.tagged_manifest(&repository, "v1").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry_after()),
        (ErrorKind::Unavailable, None)
    );
    assert!(client.tagged_manifest(&repository, "v1").await.unwrap().is_some());
}

/// Weakened: with `TRUSTED` left out of `throttle::entry`, so that a host is asked at once by all, 8 go out.
#[tokio::test]
async fn f02_a_registry_that_limits_gets_one_request_in_a_window_however_many_wait() {
    let fake = with_image().await;
    fake.inject(On::any(), Fault::TooManyRequests { retry_after: Some(2) });
    let client = client(&[&fake]);
    let repository = repository(&fake);
    let tags: Vec<String> = (0..40).map(|number| format!("v{number}")).collect();
    let storm = || join_all(tags.iter().map(|tag| client.tagged_manifest(&repository, tag)));
    let begin = Instant::now();
    let mut windows = 0;
    let mut first = None;
    while begin.elapsed() < Duration::from_secs(5) {
        let stormed = Instant::now();
        for result in storm().await {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::RateLimited);
        }
        first.get_or_insert_with(|| stormed.elapsed());
        windows = 1 + begin.elapsed().as_millis() / 2000;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Nobody waits for longer than two seconds for the first answer of a host, so on a machine that stands still seven
    // more may go out.
    let slow = first.unwrap() > Duration::from_millis(1900);
    let more = if slow { 7 } else { 0 };
    assert!(
        fake.count() as u128 <= windows + more,
        "{} requests in {windows} windows",
        fake.count()
    );
    fake.heal();
    let healed = async {
        while storm().await.iter().any(Result::is_err) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), healed)
        .await
        .unwrap();
}

/// Weakened: with `ended.await` for every host, the second answer comes after the first one's time.
#[tokio::test]
async fn one_endpoint_that_hangs_does_not_take_the_others_along() {
    let fake = with_image().await;
    fake.inject(On::referrers(), Fault::Silence);
    let mut options = options(&[&fake]);
    options.limits.request_timeout = Duration::from_secs(15);
    let client = Client::new(options).unwrap();
    let (repository, asked) = (repository(&fake), digest(manifest()));
    let begin = Instant::now();
    let (listed, tagged) = tokio::join!(client.referrers(&repository, &asked), async {
        let tagged = client.tagged_manifest(&repository, "v1").await;
        (tagged, begin.elapsed())
    });
    assert_eq!(listed.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(tagged.0.unwrap().is_some());
    assert!(tagged.1 < Duration::from_secs(14), "{:?}", tagged.1);
}

#[tokio::test]
async fn a_first_request_that_hangs_keeps_the_others_no_longer_than_their_own_time() {
    let fake = with_image().await;
    fake.inject_times(1, On::any(), Fault::Silence);
    let mut options = options(&[&fake]);
    options.limits.request_timeout = Duration::from_secs(5);
    let client = Client::new(options).unwrap();
    let repository = repository(&fake);
    let (stuck, other) = tokio::join!(client.tagged_manifest(&repository, "v0"), async {
        // When the first one is given up, four seconds of the other one's time are left.
        tokio::time::sleep(Duration::from_secs(4)).await;
        client.tagged_manifest(&repository, "v1").await
    });
    assert_eq!(stuck.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(other.unwrap().is_some());
}

/// Weakened once: with every turn given at once, the calls are too early.
#[tokio::test]
async fn c2_03_a_route_sets_the_pace_and_waiting_calls_share_it() {
    let fake = with_image().await;
    let client = client(&[]);
    let routes = route(&fake, |route| route.requests_per_second = NonZeroU32::new(10));
    client.set_routes(routes).unwrap();
    let repository = repository(&fake);
    let begin = Instant::now();
    let tags: Vec<String> = (0..30).map(|number| format!("v{number}")).collect();
    let all = join_all(tags.iter().map(|tag| client.tagged_manifest(&repository, tag))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(fake.count(), 30);
    assert!(
        begin.elapsed() >= Duration::from_millis(1900),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn c2_03_the_default_pace_holds_where_no_route_says_otherwise() {
    let fake = with_image().await;
    let mut options = options(&[&fake]);
    options.requests_per_second = NonZeroU32::new(5);
    let client = Client::new(options).unwrap();
    let repository = repository(&fake);
    let begin = Instant::now();
    for number in 0..10 {
        client
            .tagged_manifest(&repository, &format!("v{number}"))
            .await
            .unwrap();
    }
    assert!(
        begin.elapsed() >= Duration::from_millis(900),
        "{:?}",
        begin.elapsed()
    );
}

/// Seen to fail with the wait for the pace counted, in `Waits::deadline`: calls end after 3 s.
#[tokio::test]
async fn who_waits_for_the_pace_is_not_timed_out() {
    let fake = with_image().await;
    let client = Client::new(ClientOptions {
        limits: Limits {
            request_timeout: Duration::from_secs(3),
            ..Limits::default()
        },
        ..options(&[])
    })
    .unwrap();
    client
        .set_routes(route(&fake, |route| {
            route.requests_per_second = NonZeroU32::new(1)
        }))
        .unwrap();
    let repository = repository(&fake);
    // The last one waits for longer than a request may take.
    let tags: Vec<String> = (0..6).map(|number| format!("t{number}")).collect();
    let all = join_all(tags.iter().map(|tag| client.head_tag(&repository, tag))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
}

#[tokio::test]
async fn a_spent_budget_is_a_limit_that_names_its_config_and_lasts_over_other_changes() {
    let fake = with_image().await;
    let client = client(&[]);
    let budget = |limit| move |route: &mut Route| route.daily_budget = NonZeroU64::new(limit);
    client.set_routes(route(&fake, budget(3))).unwrap();
    let repository = repository(&fake);
    for tag in ["a", "b", "c"] {
        client.head_tag(&repository, tag).await.unwrap();
    }
    let error = client.head_tag(&repository, "d").await.unwrap_err();
    let Error::RateLimited {
        retry_after: Some(wait),
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert!(*wait > Duration::from_secs(23 * 3600));
    let text = error.to_string();
    assert!(
        text.contains("RegistryConfig test") && text.contains("3 requests a day"),
        "{text}"
    );
    client
        .set_routes(route(&fake, |route| {
            route.daily_budget = NonZeroU64::new(4);
            route.concurrency = NonZeroUsize::new(1);
        }))
        .unwrap();
    client.head_tag(&repository, "e").await.unwrap();
    client.head_tag(&repository, "f").await.unwrap_err();
    assert_eq!(fake.count(), 4);
}

#[tokio::test]
async fn a_route_sets_how_many_calls_are_under_way() {
    let fake = with_image().await;
    fake.inject(On::any(), Fault::Delay(Duration::from_millis(100)));
    let client = client(&[]);
    let routes = route(&fake, |route| route.concurrency = NonZeroUsize::new(1));
    client.set_routes(routes).unwrap();
    let repository = repository(&fake);
    let begin = Instant::now();
    let tags = ["a", "b", "c", "d", "e"];
    join_all(tags.iter().map(|tag| client.head_tag(&repository, tag))).await;
    assert!(
        begin.elapsed() >= Duration::from_millis(500),
        "{:?}",
        begin.elapsed()
    );
}
