//! A stand-in for the API server that serves recorded objects, keeps what is written, and answers PolicyPreviews by
//! prepared statuses. It knows the few requests that the commands make, and refuses every other one.

use std::collections::{BTreeSet, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use serde_json::{Value, json};

/// The stand-in; it ends with the test's process.
pub(crate) struct Recorded {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    folder: tempfile::TempDir,
}

#[derive(Default)]
struct State {
    objects: Vec<Value>,
    /// Plural names that may not be read.
    forbidden: BTreeSet<String>,
    /// What the next previews are answered with.
    answers: VecDeque<Value>,
    /// What the next patch finds in the place of the object that was read.
    meanwhile: Option<Value>,
    /// What was written: method and path, with the body.
    writes: Vec<(String, Value)>,
    /// The field managers of what was written.
    managers: Vec<String>,
    /// What a dry run of the object of this name is refused with.
    refused: Option<(String, u16, String)>,
    /// What a watch tells, one event after the other.
    events: Vec<Value>,
}

impl Recorded {
    /// Serves the objects of `cluster.yaml`.
    pub(crate) fn start() -> Self {
        let state = Arc::new(Mutex::new(State {
            objects: documents(include_str!("cluster.yaml")),
            ..State::default()
        }));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = served.clone();
                std::thread::spawn(move || drop(serve(&stream, &served)));
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "recorded",
            "clusters": [{"name": "recorded", "cluster": {"server": format!("http://{address}")}}],
            "contexts": [{"name": "recorded", "context": {"cluster": "recorded", "user": "me", "namespace": "shop"}}],
            "users": [{"name": "me", "user": {}}],
        });
        std::fs::write(folder.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
        Recorded {
            address,
            state,
            folder,
        }
    }

    /// The rights of a tenant: only what is in their namespace.
    pub(crate) fn forbid(&self, plurals: &[&str]) {
        let mut state = self.state.lock().unwrap();
        state
            .forbidden
            .extend(plurals.iter().map(|plural| (*plural).to_owned()));
    }

    /// The next preview is answered with this status, and the last one answers all that follow.
    pub(crate) fn answer_previews(&self, answers: impl IntoIterator<Item = Value>) {
        self.state.lock().unwrap().answers = answers.into_iter().collect();
    }

    /// Serves the objects of `starts.yaml` as well.
    pub(crate) fn with_starts(self) -> Self {
        for object in documents(include_str!("starts.yaml")) {
            self.set(object);
        }
        self
    }

    /// A dry run of the object of this name is refused so.
    pub(crate) fn refuse(&self, name: &str, code: u16, message: &str) {
        self.state.lock().unwrap().refused = Some((name.to_owned(), code, message.to_owned()));
    }

    /// A watch tells that these objects are so now, one after the other.
    pub(crate) fn change(&self, objects: impl IntoIterator<Item = Value>) {
        let event = |object: Value| json!({"type": "MODIFIED", "object": object});
        self.state.lock().unwrap().events = objects.into_iter().map(event).collect();
    }

    /// The field managers of what was written, previews among it.
    pub(crate) fn managers(&self) -> Vec<String> {
        self.state.lock().unwrap().managers.clone()
    }

    /// Somebody writes this object just before the next patch.
    pub(crate) fn set_meanwhile(&self, object: Value) {
        self.state.lock().unwrap().meanwhile = Some(object);
    }

    /// The object of this kind and name.
    pub(crate) fn object(&self, kind: &str, name: &str) -> Value {
        let state = self.state.lock().unwrap();
        let mut objects = state.objects.iter();
        let found = objects.find(|one| one["kind"] == kind && one["metadata"]["name"] == name);
        found.unwrap().clone()
    }

    pub(crate) fn set(&self, object: Value) {
        let mut state = self.state.lock().unwrap();
        let same = |one: &Value| {
            one["kind"] == object["kind"] && one["metadata"]["name"] == object["metadata"]["name"]
        };
        state.objects.retain(|one| !same(one));
        state.objects.push(object);
    }

    /// What was written but previews.
    pub(crate) fn writes(&self) -> Vec<(String, Value)> {
        let state = self.state.lock().unwrap();
        let writes = state
            .writes
            .iter()
            .filter(|(what, _)| !what.contains("policypreviews"));
        writes.cloned().collect()
    }

    /// Changes of previews that are asked.
    pub(crate) fn previews(&self) -> Vec<Value> {
        let state = self.state.lock().unwrap();
        let writes = state
            .writes
            .iter()
            .filter(|(what, _)| what.starts_with("POST") && what.contains("policypreviews"));
        writes.map(|(_, body)| body["spec"].clone()).collect()
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }
}

fn documents(text: &str) -> Vec<Value> {
    let documents = serde_norway::Deserializer::from_str(text);
    let objects = documents.map(|document| Value::deserialize(document).unwrap());
    objects.filter(|object| !object.is_null()).collect()
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parameter = |name: &str| {
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    };
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let mut out = stream;
    if parameter("watch") == Some("true") {
        return tell(stream, state, path);
    }
    let (code, answer) = {
        let mut state = state.lock().unwrap();
        if method != "GET" {
            let manager = parameter("fieldManager").map(str::to_owned);
            state.managers.extend(manager);
        }
        match parameter("dryRun") {
            Some(_) => dry_run(&state, path, body),
            None => answer(&mut state, method, path, body, parameter("labelSelector")),
        }
    };
    let text = answer.to_string();
    write!(
        out,
        "HTTP/1.1 {code} OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}

/// A watch: what is to be told of ImageCompliances, and then nothing more.
fn tell(mut out: &TcpStream, state: &Mutex<State>, path: &str) -> std::io::Result<()> {
    out.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    let events = std::mem::take(&mut state.lock().unwrap().events);
    if path.ends_with("/imagecompliances") {
        for event in events {
            std::thread::sleep(std::time::Duration::from_millis(300));
            // What is listed from now on is what was told.
            let object = &event["object"];
            state.lock().unwrap().objects.retain(|one| {
                one["kind"] != object["kind"] || one["metadata"]["name"] != object["metadata"]["name"]
            });
            state.lock().unwrap().objects.push(object.clone());
            let line = format!("{event}\n");
            write!(out, "{:x}\r\n{line}\r\n", line.len())?;
            out.flush()?;
        }
    }
    std::thread::sleep(std::time::Duration::from_secs(60));
    Ok(())
}

/// What the API server says of an object that is not to be written.
fn dry_run(state: &State, path: &str, body: Value) -> (u16, Value) {
    let (_, plural, _) = place(path);
    let name = body["metadata"]["name"].as_str().unwrap_or_default();
    match &state.refused {
        Some((refused, code, message)) if refused == name => status(*code, message),
        _ if state.forbidden.contains(&format!("write {plural}")) => status(
            403,
            &format!("{plural} is forbidden: User \"me\" cannot update it"),
        ),
        _ => (200, body),
    }
}

/// Where a path leads: the namespace, the plural name, and the object.
fn place(path: &str) -> (Option<&str>, &str, Option<&str>) {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let from = if parts.first() == Some(&"api") { 2 } else { 3 };
    match parts.get(from..).unwrap_or_default() {
        ["namespaces", namespace, plural, rest @ ..] => (Some(namespace), plural, rest.first().copied()),
        [plural, rest @ ..] => (None, plural, rest.first().copied()),
        [] => (None, "", None),
    }
}

fn status(code: u16, message: &str) -> (u16, Value) {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        422 => "Invalid",
        _ => "Conflict",
    };
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code,
    });
    (code, status)
}

/// The workloads of which the metadata are asked, with their labels: `app` is the name.
fn labelled(state: &State, plural: &str, selector: &str) -> Value {
    let workloads = state.objects.iter().map(|object| &object["status"]["workload"]);
    let is_meant = |workload: &&Value| {
        let kind = workload["kind"].as_str().unwrap_or_default().to_lowercase();
        let name = workload["name"].as_str().unwrap_or_default();
        plural == format!("{kind}s") && selector == format!("app%3D{name}")
    };
    let items: Vec<Value> = workloads
        .filter(is_meant)
        .map(|workload| json!({"metadata": {"name": workload["name"], "uid": workload["uid"]}}))
        .collect();
    json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {"resourceVersion": "1"},
        "items": items,
    })
}

/// The kinds of workloads that can be asked for by their labels.
fn resources(group: &str) -> Option<Value> {
    let of = |version: &str, kinds: &[&str]| {
        let resource = |kind: &&str| {
            let plural = format!("{}s", kind.to_lowercase());
            json!({"name": plural, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["list"]})
        };
        json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version,
            "resources": kinds.iter().map(resource).collect::<Vec<_>>(),
        })
    };
    match group {
        "apps/v1" => Some(of("apps/v1", &["Deployment", "StatefulSet"])),
        "batch/v1" => Some(of("batch/v1", &["CronJob"])),
        _ => None,
    }
}

fn answer(state: &mut State, method: &str, path: &str, body: Value, selector: Option<&str>) -> (u16, Value) {
    if let Some(resources) = path.strip_prefix("/apis/").and_then(resources) {
        return (200, resources);
    }
    let (namespace, plural, name) = place(path);
    if let Some(selector) = selector {
        return (200, labelled(state, plural, selector));
    }
    if state.forbidden.contains(plural) {
        return status(
            403,
            &format!("{plural} is forbidden: User \"me\" has no right to {method} it"),
        );
    }
    let is_meant = |object: &Value| {
        plural_of(object) == plural
            && namespace.is_none_or(|namespace| object["metadata"]["namespace"] == namespace)
            && name.is_none_or(|name| object["metadata"]["name"] == name)
    };
    match (method, name) {
        ("GET", None) => {
            let items: Vec<&Value> = state.objects.iter().filter(|object| is_meant(object)).collect();
            let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items});
            (200, list)
        }
        ("GET", Some(name)) => match state.objects.iter().find(|object| is_meant(object)) {
            Some(object) => (200, object.clone()),
            None => status(404, &format!("{plural} {name:?} not found")),
        },
        ("POST", None) => {
            state.writes.push((format!("POST {plural}"), body.clone()));
            let mut object = body;
            if plural == "policypreviews" {
                let number = state.writes.len();
                let answer = match state.answers.len() {
                    1 => state.answers[0].clone(),
                    _ => state.answers.pop_front().unwrap_or_default(),
                };
                object["metadata"]["name"] = format!("kubectl-assay-{number}").into();
                object["metadata"]["generation"] = 1.into();
                object["status"] = answer;
            }
            state.objects.push(object.clone());
            (201, object)
        }
        ("PATCH", Some(name)) => {
            if let Some(other) = state.meanwhile.take() {
                state.objects.retain(|one| {
                    one["metadata"]["name"] != other["metadata"]["name"] || one["kind"] != other["kind"]
                });
                state.objects.push(other);
            }
            let is_meant = |object: &Value| plural_of(object) == plural && object["metadata"]["name"] == name;
            state
                .writes
                .push((format!("PATCH {plural}/{name}"), body.clone()));
            match state.objects.iter().find(|object| is_meant(object)) {
                Some(object) if !is_same_version(object, &body) => status(
                    409,
                    "the object has been modified; please apply your changes to the latest version",
                ),
                Some(object) => (200, object.clone()),
                None => status(404, &format!("{plural} {name:?} not found")),
            }
        }
        ("DELETE", Some(_)) => (
            200,
            json!({"apiVersion": "v1", "kind": "Status", "status": "Success"}),
        ),
        _ => status(404, "the stand-in does not know this request"),
    }
}

fn is_same_version(object: &Value, patch: &Value) -> bool {
    let wanted = &patch["metadata"]["resourceVersion"];
    wanted.is_null() || *wanted == object["metadata"]["resourceVersion"]
}

fn plural_of(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    match kind.strip_suffix('y').filter(|_| kind != "signingkey") {
        Some(stem) => format!("{stem}ies"),
        None => match kind.strip_suffix("ce") {
            Some(stem) => format!("{stem}ces"),
            None => format!("{kind}s"),
        },
    }
}
