//! Hostile bodies and slow servers: bounded memory, bounded time, nobody else held up (B15, B16, F03, F04).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use assay_registry::{Client, Error, ErrorKind, Limits};
use axum::body::Body;
use support::{
    FakeRegistry, MANIFEST, client, digest, endless, manifest, options, reply, repository, scripted,
};

fn impatient(servers: &[&FakeRegistry]) -> Client {
    let mut options = options(servers);
    options.limits.request_timeout = Duration::from_millis(700);
    Client::new(options).unwrap()
}

#[tokio::test]
async fn b16_an_endless_body_is_read_up_to_the_limit_and_no_further() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let fake = scripted(move |_, _| {
        let counter = counter.clone();
        let pieces = futures::stream::repeat_with(move || {
            counter.fetch_add(64 << 10, Ordering::Relaxed);
            Ok::<_, std::convert::Infallible>(vec![b' '; 64 << 10])
        });
        reply(200, &[("content-type", MANIFEST)], Body::from_stream(pieces))
    })
    .await;
    let (client, repository) = (client(&[&fake]), repository(&fake));
    for error in [
        client
            .tagged_manifest(&repository, "v1")
            .await
            .map(|_| ())
            .unwrap_err(),
        client
            .manifest(&repository, &digest(""))
            .await
            .map(|_| ())
            .unwrap_err(),
        client
            .referrers(&repository, &digest(""))
            .await
            .map(|_| ())
            .unwrap_err(),
        client
            .blob(&repository, &digest(""), 1 << 20)
            .await
            .map(|_| ())
            .unwrap_err(),
    ] {
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    }
    let read = sent.load(Ordering::Relaxed);
    assert!(
        read < 256 << 20,
        "{read} bytes were sent for 13 MiB of limits and the sockets' buffers"
    );
}

#[tokio::test]
async fn a_length_past_the_limit_is_refused_before_the_body() {
    let fake = scripted(|_, _| {
        reply(
            200,
            &[("content-length", "209715200")],
            endless(1, Duration::from_secs(60)),
        )
    })
    .await;
    // Whoever waits for the body is timed out.
    let error = client(&[&fake])
        .manifest(&repository(&fake), &digest(""))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { limit: 4_194_304, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_blob_is_limited_by_the_caller_and_by_the_client() {
    let fake = scripted(|_, _| reply(200, &[], vec![b'x'; 2000])).await;
    let repository = repository(&fake);
    let asked = digest(vec![b'x'; 2000]);
    assert!(client(&[&fake]).blob(&repository, &asked, 2000).await.is_ok());
    let error = client(&[&fake])
        .blob(&repository, &asked, 1999)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 1999, .. }), "{error}");
    let mut options = options(&[&fake]);
    options.limits = Limits {
        blob_bytes: 1000,
        ..Limits::default()
    };
    let error = Client::new(options)
        .unwrap()
        .blob(&repository, &asked, u64::MAX)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 1000, .. }), "{error}");
}

#[tokio::test]
async fn a_body_shorter_than_its_length_is_an_outage() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let read = socket.read(&mut request).await.unwrap();
            assert!(read > 0);
            socket
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort")
                .await
                .unwrap();
        }
    });
    let mut options = assay_registry::ClientOptions::default();
    options.plain_http.insert(address.to_string());
    let repository = format!("{address}/shop/web").parse().unwrap();
    let error = Client::new(options)
        .unwrap()
        .blob(&repository, &digest("short"), 100)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn b16_nothing_is_decompressed() {
    let bomb = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let fake = scripted(move |_, _| reply(200, &[("content-encoding", "gzip")], bomb.to_vec())).await;
    let error = client(&[&fake])
        .blob(&repository(&fake), &digest(bomb), 100)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
}

#[tokio::test]
async fn f03_a_server_that_trickles_is_given_up() {
    let slow = scripted(|_, _| reply(200, &[], endless(1, Duration::from_millis(20)))).await;
    let client = impatient(&[&slow]);
    let stuck = client.manifest(&repository(&slow), &digest(manifest())).await;
    assert!(matches!(stuck, Err(Error::Unavailable { .. })), "{stuck:?}");
}

/// Whichever ends first: nobody gives the slow ones up within half a minute.
#[tokio::test]
async fn f03_a_server_that_trickles_delays_no_other() {
    let slow = scripted(|_, _| reply(200, &[], endless(1, Duration::from_millis(20)))).await;
    let good = scripted(|_, _| reply(200, &[("content-type", MANIFEST)], manifest())).await;
    let mut options = options(&[&slow, &good]);
    options.limits.request_timeout = Duration::from_secs(30);
    let client = Client::new(options).unwrap();
    let asked = digest(manifest());
    let (slow_repository, good_repository) = (repository(&slow), repository(&good));
    let stuck = futures::future::join_all((0..8).map(|_| client.manifest(&slow_repository, &asked)));
    let fine = async {
        for _ in 0..20 {
            client.manifest(&good_repository, &asked).await.unwrap();
        }
    };
    tokio::select! {
        stuck = stuck => panic!("the slow ones ended before the others: {stuck:?}"),
        () = fine => {}
    }
}

#[tokio::test]
async fn f03_a_server_that_never_answers_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut options = assay_registry::ClientOptions::default();
    options.plain_http.insert(address.to_string());
    options.limits.request_timeout = Duration::from_millis(300);
    let repository = format!("{address}/shop/web").parse().unwrap();
    let error = Client::new(options)
        .unwrap()
        .tagged_manifest(&repository, "v1")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("within 0.3 s"), "{error}");
}

#[tokio::test]
async fn calls_to_one_registry_wait_for_their_turn() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counter, peak) = (now.clone(), most.clone());
    let fake = scripted(move |_, _| {
        let under_way = counter.fetch_add(1, Ordering::SeqCst) + 1;
        peak.fetch_max(under_way, Ordering::SeqCst);
        let counter = counter.clone();
        let body = futures::stream::once(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            counter.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, std::convert::Infallible>(manifest())
        });
        reply(200, &[("content-type", MANIFEST)], Body::from_stream(body))
    })
    .await;
    let mut options = options(&[&fake]);
    options.per_registry_concurrency = 3;
    let client = Client::new(options).unwrap();
    let repository = repository(&fake);
    let tags: Vec<String> = (0..20).map(|number| format!("v{number}")).collect();
    let calls = tags.iter().map(|tag| client.tagged_manifest(&repository, tag));
    let all = futures::future::join_all(calls).await;
    assert!(all.iter().all(Result::is_ok));
    assert!(most.load(Ordering::SeqCst) <= 3);
    assert_eq!(client.requests(), 20);
}
