//! Whatever a registry sends, no parser panics (F22).

use std::time::{Instant, SystemTime};

use bytes::Bytes;
use image::Digest;
use proptest::prelude::*;
use url::Url;

use crate::challenge::{challenges, pinned_realm};
use crate::document::{Manifest, parse_page};
use crate::link::next_page;
use crate::redirect::next_hop;
use crate::throttle::retry_after;
use crate::token;

fn base() -> Url {
    Url::parse("https://r.io:5000/v2/a/referrers/x").unwrap()
}

/// Text of the characters that headers are made of.
fn header() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "([a-z]{0,6}[=<>\";, \\\\]{0,2}){0,12}",
        "(Bearer|Basic|Negotiate)( ?[a-z]{1,5} ?=? ?\"?[a-z:/.]{0,9}\"?,?){0,5}",
    ]
}

/// Text that looks like a manifest.
fn document() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just("null"),
        Just("[]"),
        Just("{}"),
        Just("2"),
        Just("\"x\""),
        Just("[{\"size\":1}]")
    ];
    let key = prop_oneof![
        Just("manifests"),
        Just("layers"),
        Just("config"),
        Just("mediaType"),
        Just("schemaVersion"),
        Just("Layers"),
        Just("annotations"),
    ];
    prop::collection::vec((key, value), 0..5).prop_map(|fields| {
        let fields: Vec<String> = fields
            .iter()
            .map(|(key, value)| format!("\"{key}\":{value}"))
            .collect();
        format!("{{{}}}", fields.join(","))
    })
}

proptest! {
    #[test]
    fn no_header_makes_a_parser_panic(text in header()) {
        let read = challenges(&text);
        prop_assert!(read.len() <= text.len());
        let realm = pinned_realm(&text, "r.io:5000", &base(), None);
        prop_assert!(realm.is_err() || text.contains("r.io"));
        prop_assert!(retry_after(&text, SystemTime::UNIX_EPOCH).is_none_or(|wait| wait.as_secs() <= 3600));
    }

    #[test]
    fn b17_no_link_leaves_the_origin_and_no_redirect_leaves_https(text in header()) {
        if let Ok(Some(next)) = next_page(&base(), &text) {
            prop_assert_eq!(next.origin(), base().origin());
        }
        if let Ok(next) = next_hop(&base(), Some(text.as_bytes())) {
            prop_assert_eq!(next.scheme(), "https");
        }
    }

    #[test]
    fn no_body_makes_a_parser_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let read = Manifest::read(&Digest::sha256(&body), None, Bytes::from(body.clone()));
        prop_assert!(read.is_err());
        prop_assert!(parse_page(&body).is_err());
        prop_assert!(token::parse(&body, Instant::now()).is_err());
    }

    #[test]
    fn b13_a_document_is_never_read_as_two_things(text in document()) {
        let body = Bytes::from(text.clone());
        if Manifest::read(&Digest::sha256(&body), None, body).is_ok() {
            prop_assert!(text.contains("manifests") != text.contains("layers"), "{}", text);
        }
    }
}
