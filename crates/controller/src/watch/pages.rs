//! The pages of a list: asked for, and read.
//!
//! Kinds of which there are very many are asked for in the API server's protobuf encoding. That takes a fraction of the
//! work that JSON does, because what is not needed is passed over without being looked at. Formats:
//! `k8s.io/apimachinery`, `pkg/runtime/generated.proto` (what is around a message) and
//! `pkg/apis/meta/v1/generated.proto` (lists and statuses).

use std::fmt::Debug;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;
use kube::Api;
use kube::api::{ListParams, ObjectList, Request};
use kube::client::Body;
use kube::core::Status;
use prost::{DecodeError, Message};
use serde::de::DeserializeOwned;

use super::WatchError;

/// One page of a list.
#[derive(Debug)]
pub(super) struct Page<K> {
    pub(super) objects: Vec<K>,
    /// The version of the API server's store that the list shows.
    pub(super) version: Option<String>,
    /// Asks for the next page, where there is one.
    pub(super) next: Option<String>,
}

/// How one object is read from the API server's protobuf encoding.
pub(crate) type ReadProtobuf<K> = fn(Bytes) -> Result<K, DecodeError>;

/// What stands before every message.
const MAGIC: [u8; 4] = *b"k8s\0";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const OBJECTS: &str = "application/vnd.kubernetes.protobuf,application/json;q=0.9";
const METADATA: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,\
                        application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1;q=0.9";

/// Why an answer in protobuf cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProtobufError {
    #[error("it does not begin as Kubernetes' protobuf does")]
    NoMagic,
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// `Unknown` of runtime/generated.proto.
#[derive(Clone, PartialEq, Message)]
struct Around {
    #[prost(bytes = "bytes", tag = "2")]
    raw: Bytes,
}

/// A list of any kind.
#[derive(Clone, PartialEq, Message)]
struct List {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ListMeta>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    items: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct ListMeta {
    #[prost(string, optional, tag = "2")]
    resource_version: Option<String>,
    #[prost(string, optional, tag = "3")]
    continue_token: Option<String>,
}

/// `Status` of meta/v1.
#[derive(Clone, PartialEq, Message)]
struct Refusal {
    #[prost(string, tag = "3")]
    message: String,
    #[prost(string, tag = "4")]
    reason: String,
}

/// Asks for one page.
pub(super) async fn page<K>(
    api: &Api<K>,
    selected: &ListParams,
    protobuf: Option<ReadProtobuf<K>>,
) -> Result<Page<K>, WatchError>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug,
{
    let Some(read) = protobuf else {
        return Ok(api.list(selected).await?.into());
    };
    let request = Request::new(api.resource_url());
    let (request, accepted) = match K::metadata_api() {
        true => (request.list_metadata(selected), METADATA),
        false => (request.list(selected), OBJECTS),
    };
    let mut request = request.map_err(kube::Error::BuildRequest)?;
    request
        .headers_mut()
        .insert(ACCEPT, HeaderValue::from_static(accepted));
    request.extensions_mut().insert("list");
    let answer = api.clone().into_client().send(request.map(Body::from)).await?;
    let (status, is_protobuf) = (answer.status(), is_protobuf(&answer));
    let body = answer.into_body().collect().await?.to_bytes();
    match (status.is_success(), is_protobuf) {
        (true, true) => Ok(read_list(body, read)?),
        (true, false) => {
            let list: ObjectList<K> = serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?;
            Ok(list.into())
        }
        (false, _) => Err(refused(status, body, is_protobuf).into()),
    }
}

impl<K: Clone> From<ObjectList<K>> for Page<K> {
    fn from(list: ObjectList<K>) -> Self {
        Page {
            objects: list.items,
            version: list.metadata.resource_version,
            next: list.metadata.continue_.filter(|token| !token.is_empty()),
        }
    }
}

fn is_protobuf(answer: &Response<Body>) -> bool {
    let said = answer.headers().get(CONTENT_TYPE);
    said.is_some_and(|said| said.as_bytes().starts_with(PROTOBUF.as_bytes()))
}

/// What is inside of what every answer is wrapped in.
fn unwrapped(body: Bytes) -> Result<Bytes, ProtobufError> {
    let wrapped = body.strip_prefix(&MAGIC).ok_or(ProtobufError::NoMagic)?;
    Ok(Around::decode(body.slice_ref(wrapped))?.raw)
}

fn read_list<K>(body: Bytes, read: ReadProtobuf<K>) -> Result<Page<K>, ProtobufError> {
    let list = List::decode(unwrapped(body)?)?;
    let ListMeta {
        resource_version,
        continue_token,
    } = list.metadata.unwrap_or_default();
    Ok(Page {
        objects: list.items.into_iter().map(read).collect::<Result<_, _>>()?,
        version: resource_version.filter(|version| !version.is_empty()),
        next: continue_token.filter(|token| !token.is_empty()),
    })
}

/// The same error that a list in JSON would give.
fn refused(status: StatusCode, body: Bytes, is_protobuf: bool) -> kube::Error {
    let said = if is_protobuf {
        let refusal = unwrapped(body).and_then(|raw| Ok(Refusal::decode(raw)?));
        refusal
            .ok()
            .map(|refusal| Status::failure(&refusal.message, &refusal.reason))
    } else {
        serde_json::from_slice(&body).ok()
    };
    let said = said.unwrap_or_else(|| Status::failure(&status.to_string(), ""));
    kube::Error::Api(said.with_code(status.as_u16()).boxed())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    /// The bytes of a page of objects of which there is nothing but a name, as an answer of the test's API server.
    pub(in crate::watch) fn page_of(names: &[&str], next: &str) -> serde_json::Value {
        let mut list = list(names.iter().map(|name| object(name)).collect());
        if let Some(metadata) = &mut list.metadata {
            metadata.continue_token = Some(next.to_owned());
        }
        wrapped(&list).to_vec().into()
    }

    /// Reads one of them.
    pub(in crate::watch) fn config_map(bytes: Bytes) -> Result<ConfigMap, DecodeError> {
        let mut read = ConfigMap::default();
        read.metadata.name = Some(message(bytes)?);
        Ok(read)
    }

    fn wrapped(message: &impl Message) -> Bytes {
        let raw = message.encode_to_vec().into();
        [&MAGIC[..], &Around { raw }.encode_to_vec()].concat().into()
    }

    /// Of the objects in these lists there is nothing but a message.
    fn message(bytes: Bytes) -> Result<String, DecodeError> {
        Ok(Refusal::decode(bytes)?.message)
    }

    fn object(message: &str) -> Bytes {
        let object = Refusal {
            message: message.to_owned(),
            reason: String::new(),
        };
        object.encode_to_vec().into()
    }

    fn list(items: Vec<Bytes>) -> List {
        List {
            metadata: Some(ListMeta {
                resource_version: Some("7".to_owned()),
                continue_token: Some(String::new()),
            }),
            items,
        }
    }

    #[test]
    fn a_list_is_read_whole_or_not_at_all() {
        let page = read_list(wrapped(&list(vec![object("a"), object("b")])), message).unwrap();
        assert_eq!(page.objects, ["a", "b"]);
        assert_eq!((page.version.as_deref(), page.next), (Some("7"), None));

        let whole = wrapped(&list(vec![object("a"), object("b")]));
        for length in 0..whole.len() {
            let cut = whole.slice(..length);
            let read = read_list(cut, message);
            assert!(
                !read.as_ref().is_ok_and(|page| page.version.is_some()),
                "{length} bytes: {read:?}"
            );
        }
        let broken = Bytes::from_static(b"\xff");
        assert!(read_list(wrapped(&list(vec![object("a"), broken])), message).is_err());
        let bare = list(vec![object("a")]).encode_to_vec();
        assert!(matches!(
            read_list(bare.into(), message),
            Err(ProtobufError::NoMagic)
        ));
    }

    #[test]
    fn a_refusal_keeps_its_code_whatever_can_be_read_of_it() {
        let expired = Refusal {
            message: "too old".to_owned(),
            reason: "Expired".to_owned(),
        };
        let json =
            br#"{"kind":"Status","status":"Failure","message":"too old","reason":"Expired","code":410}"#;
        for (body, is_protobuf, message) in [
            (wrapped(&expired), true, "too old"),
            (Bytes::from_static(json), false, "too old"),
            (Bytes::from_static(b"gone"), false, "410 Gone"),
            (Bytes::from_static(b"gone"), true, "410 Gone"),
        ] {
            let kube::Error::Api(status) = refused(StatusCode::GONE, body, is_protobuf) else {
                panic!("it is the API server's answer")
            };
            assert_eq!((status.code, status.message.as_str()), (410, message));
        }
    }
}
