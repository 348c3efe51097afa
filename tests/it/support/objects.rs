//! A small API server that keeps namespaces and ConfigMaps: lists in pages, watches, versions, accounts of who wrote what; and it misbehaves
//! as told. It runs in the caller's runtime, without a network, so that a paused clock governs it too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Body;
use countersign::cluster;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;

pub const NAME: &str = "istio-ca-root-cert";
pub const KEY: &str = "root-cert.pem";

/// The server. Cheap to clone.
#[derive(Clone)]
pub struct Objects(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Counts what happened.
    happened: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    version: u64,
    namespaces: BTreeMap<String, Value>,
    maps: BTreeMap<String, Value>,
    history: Vec<(u64, Kind, Value)>,
    /// Versions up to this one are forgotten.
    forgotten: u64,
    watches: Vec<(Kind, mpsc::UnboundedSender<std::io::Result<Bytes>>)>,
    calls: Vec<Call>,
    writing: usize,
    most_writing: usize,
    refusing: BTreeMap<String, u16>,
    forbidding: bool,
    refusing_watches: bool,
    latency: Duration,
    rival: Option<(String, String)>,
    clock: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Namespaces,
    ConfigMaps,
}

/// A call as it was made.
#[derive(Clone, Debug)]
pub struct Call {
    pub at: Instant,
    pub method: Method,
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub accept: String,
}

type Answered = (u16, Body);

fn status(code: u16, message: &str) -> Answered {
    let object = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code});
    (code, Body::from(object.to_string()))
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        let fields = target.as_object_mut().unwrap();
        match value {
            Value::Null => drop(fields.remove(key)),
            value => merge(fields.entry(key).or_insert(Value::Null), value),
        }
    }
}

impl State {
    fn event(&mut self, kind: Kind, what: &str, object: &Value) {
        let line = json!({"type": what, "object": object});
        self.history.push((self.version, kind, line.clone()));
        let bytes = Bytes::from(format!("{line}\n"));
        self.watches
            .retain(|(watched, to)| *watched != kind || to.send(Ok(bytes.clone())).is_ok());
    }

    fn objects(&mut self, kind: Kind) -> &mut BTreeMap<String, Value> {
        match kind {
            Kind::Namespaces => &mut self.namespaces,
            Kind::ConfigMaps => &mut self.maps,
        }
    }

    /// Puts an object in place; nothing happens when it is as it was.
    fn put(&mut self, kind: Kind, key: &str, mut object: Value) {
        let before = self.objects(kind).get(key).cloned();
        if before.as_ref() == Some(&object) {
            return;
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects(kind).insert(key.into(), object.clone());
        self.event(kind, if before.is_none() { "ADDED" } else { "MODIFIED" }, &object);
    }

    fn remove(&mut self, kind: Kind, key: &str) {
        if let Some(mut object) = self.objects(kind).remove(key) {
            self.version += 1;
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.event(kind, "DELETED", &object);
        }
    }

    /// Changes or makes a ConfigMap as this writer.
    fn write(&mut self, namespace: &str, writer: &str, change: &dyn Fn(&mut Value)) {
        let bare = json!({"metadata": {"name": NAME, "namespace": namespace}});
        let before = self.maps.get(namespace).cloned().unwrap_or(bare);
        let mut after = before.clone();
        change(&mut after);
        if after["binaryData"] == json!({}) {
            after.as_object_mut().unwrap().remove("binaryData");
        }
        if before["data"][KEY] != after["data"][KEY] {
            self.clock += 1;
            let time = format!(
                "2030-01-01T{:02}:{:02}:{:02}Z",
                self.clock / 3600,
                self.clock / 60 % 60,
                self.clock % 60
            );
            let fields = json!({"f:data": {".": {}, format!("f:{KEY}"): {}}});
            after["metadata"]["managedFields"] =
                json!([{"manager": writer, "operation": "Update", "time": time, "fieldsV1": fields}]);
        }
        self.put(Kind::ConfigMaps, namespace, after);
        if let Some((rival, text)) = self.rival.clone()
            && rival != writer
        {
            self.write(namespace, &rival, &|map| map["data"][KEY] = json!(text));
        }
    }
}

impl Objects {
    pub fn new() -> Self {
        let state = State {
            version: 100,
            ..State::default()
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            happened: watch::Sender::new(0),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.0.happened.send_modify(|count| *count += 1);
        result
    }

    /// A namespace with these labels, new or changed.
    pub fn namespace(&self, name: &str, labels: &[(&str, &str)]) {
        let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
        let object = json!({"metadata": {"name": name, "labels": labels}});
        self.change(|state| state.put(Kind::Namespaces, name, object));
    }

    /// Its deletion begins.
    pub fn terminate(&self, name: &str) {
        self.change(|state| {
            let mut object = state.namespaces[name].clone();
            object["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:00Z");
            state.put(Kind::Namespaces, name, object);
        });
    }

    /// It is gone, and all that was in it.
    pub fn delete_namespace(&self, name: &str) {
        self.change(|state| {
            state.remove(Kind::ConfigMaps, name);
            state.remove(Kind::Namespaces, name);
        });
    }

    pub fn delete_map(&self, namespace: &str) {
        self.change(|state| state.remove(Kind::ConfigMaps, namespace));
    }

    /// Somebody else writes a ConfigMap.
    pub fn edit(&self, namespace: &str, writer: &str, change: impl Fn(&mut Value)) {
        self.change(|state| state.write(namespace, writer, &change));
    }

    /// Somebody else writes these roots.
    pub fn put_roots(&self, namespace: &str, writer: &str, roots: &str) {
        self.edit(namespace, writer, |map| map["data"][KEY] = json!(roots));
    }

    pub fn map(&self, namespace: &str) -> Option<Value> {
        self.lock().maps.get(namespace).cloned()
    }

    /// The roots that a namespace's ConfigMap holds.
    pub fn roots(&self, namespace: &str) -> Option<String> {
        Some(self.map(namespace)?["data"][KEY].as_str()?.to_owned())
    }

    /// The namespaces whose ConfigMap holds exactly this text.
    pub fn holding(&self, text: &str) -> BTreeSet<String> {
        let state = self.lock();
        let holding = state.maps.iter().filter(|(_, map)| map["data"][KEY] == text);
        holding.map(|(namespace, _)| namespace.clone()).collect()
    }

    /// How many those are.
    pub fn count_holding(&self, text: &str) -> usize {
        let state = self.lock();
        state.maps.values().filter(|map| map["data"][KEY] == text).count()
    }

    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// Calls that write, successful or not.
    pub fn writes(&self) -> Vec<Call> {
        let mut calls = self.calls();
        calls.retain(|call| call.method != Method::GET);
        calls
    }

    /// Most writes that were being answered at the same time.
    pub fn most_writing(&self) -> usize {
        self.lock().most_writing
    }

    /// Every write takes so long.
    pub fn take_time(&self, latency: Duration) {
        self.lock().latency = latency;
    }

    /// Refuses to write in this namespace; `None`: not any more.
    pub fn refuse_writes(&self, namespace: &str, code: Option<u16>) {
        let mut state = self.lock();
        match code {
            Some(code) => drop(state.refusing.insert(namespace.into(), code)),
            None => drop(state.refusing.remove(namespace)),
        }
    }

    /// Forbids everything.
    pub fn forbid(&self, forbidding: bool) {
        self.lock().forbidding = forbidding;
    }

    /// Whatever is written, this writer at once writes something else in its place.
    pub fn rival(&self, rival: Option<(&str, &str)>) {
        self.lock().rival = rival.map(|(writer, text)| (writer.into(), text.into()));
    }

    /// Ends all watches, as a broken network does, and takes no others until told.
    pub fn cut_off(&self, cut_off: bool) {
        let mut state = self.lock();
        state.refusing_watches = cut_off;
        for (kind, to) in state.watches.drain(..) {
            // Within an event: for one sort it looks like an end, for the other like a failure.
            let _ = to.send(Ok(Bytes::from_static(b"{\"type\":\"MOD")));
            if kind == Kind::Namespaces {
                let _ = to.send(Err(std::io::ErrorKind::ConnectionReset.into()));
            }
        }
    }

    /// Ends all watches as it may at any time, and does not remember what came before.
    pub fn forget(&self) {
        let mut state = self.lock();
        state.version += 1;
        state.forgotten = state.version;
        state.watches.clear();
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let mut happened = self.0.happened.subscribe();
        let waiting = async {
            while !holds(self) {
                happened.changed().await.unwrap();
                // Looking costs time, and changes come by the thousand.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let limit = Duration::from_secs(6 * 3600);
        if tokio::time::timeout(limit, waiting).await.is_err() {
            panic!("waited in vain for {what}");
        }
    }

    /// The server as the program reaches it.
    pub fn reached(&self) -> cluster::ApiServer {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let server = server.clone();
            async move {
                let (code, body) = server.serve(request).await;
                Ok::<_, std::io::Error>(Response::builder().status(code).body(body).unwrap())
            }
        });
        cluster::ApiServer::new(kube::Client::new(service, "default"), Handle::current())
    }

    async fn serve(&self, request: Request<kube::client::Body>) -> Answered {
        let (parts, body) = request.into_parts();
        let query: BTreeMap<String, String> = parts
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.into(), value.replace("%3D", "=")))
            .collect();
        let call = Call {
            at: Instant::now(),
            method: parts.method,
            path: parts.uri.path().into(),
            query,
            accept: parts.headers.get("accept").unwrap().to_str().unwrap().into(),
        };
        let forbidding = self.change(|state| {
            state.calls.push(call.clone());
            state.forbidding
        });
        if forbidding {
            return status(403, "you may not");
        }
        let kind = match call.path.as_str() {
            "/api/v1/namespaces" => Kind::Namespaces,
            _ => Kind::ConfigMaps,
        };
        if call.method != Method::GET {
            let body = body.collect().await.unwrap().to_bytes();
            return self.write(&call, &serde_json::from_slice(&body).unwrap()).await;
        }
        match call.query.contains_key("watch") {
            true => self.watch(kind, &call),
            false => self.list(kind, &call),
        }
    }

    fn list(&self, kind: Kind, call: &Call) -> Answered {
        let mut state = self.lock();
        let limit: usize = call.query["limit"].parse().unwrap();
        let (version, after) = match call.query.get("continue") {
            Some(token) => token
                .split_once('.')
                .map(|(version, after)| (version.to_owned(), after.to_owned())),
            None => None,
        }
        .unwrap_or_else(|| (state.version.to_string(), String::new()));
        let rest: Vec<_> = state.objects(kind).iter().filter(|(key, _)| **key > after).collect();
        let items: Vec<&Value> = rest.iter().take(limit).map(|(_, object)| *object).collect();
        let next = (rest.len() > limit).then(|| format!("{version}.{}", rest[limit - 1].0));
        let list = json!({"metadata": {"resourceVersion": version, "continue": next}, "items": items});
        (200, Body::from(list.to_string()))
    }

    fn watch(&self, kind: Kind, call: &Call) -> Answered {
        let mut state = self.lock();
        if state.refusing_watches {
            return status(503, "not now");
        }
        let from: u64 = call.query["resourceVersion"].parse().unwrap();
        let (to, events) = mpsc::unbounded_channel();
        if from < state.forgotten {
            let gone = json!({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}});
            let _ = to.send(Ok(Bytes::from(format!("{gone}\n"))));
        } else {
            for (version, of, line) in &state.history {
                if *version > from && *of == kind {
                    let _ = to.send(Ok(Bytes::from(format!("{line}\n"))));
                }
            }
            let version = state.version.to_string();
            let bookmark = json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}});
            let _ = to.send(Ok(Bytes::from(format!("{bookmark}\n"))));
            let weak = to.downgrade();
            state.watches.push((kind, to));
            let lasts = Duration::from_secs(call.query["timeoutSeconds"].parse().unwrap());
            let server = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(lasts).await;
                if let Some(to) = weak.upgrade() {
                    server.lock().watches.retain(|(_, other)| !other.same_channel(&to));
                }
            });
        }
        (200, Body::from_stream(UnboundedReceiverStream::new(events)))
    }

    async fn write(&self, call: &Call, body: &Value) -> Answered {
        let latency = {
            let mut state = self.lock();
            state.writing += 1;
            state.most_writing = state.most_writing.max(state.writing);
            state.latency
        };
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        self.change(|state| {
            state.writing -= 1;
            write(state, call, body)
        })
    }
}

fn write(state: &mut State, call: &Call, body: &Value) -> Answered {
    let namespace = call.path.split('/').nth(4).unwrap().to_owned();
    if let Some(code) = state.refusing.get(&namespace) {
        return status(*code, "as told");
    }
    let Some(inside) = state.namespaces.get(&namespace) else {
        return status(404, "no such namespace");
    };
    let terminating = inside["metadata"]["deletionTimestamp"].is_string();
    let writer = call.query["fieldManager"].clone();
    let there = state.maps.get(&namespace).cloned();
    match (call.method.as_str(), there) {
        ("POST", _) if terminating => status(403, "it is being terminated"),
        ("POST", Some(_)) => status(409, "it exists"),
        ("POST", None) => {
            assert_eq!(body["metadata"]["name"], NAME);
            state.write(&namespace, &writer, &|map| merge(map, body));
            (201, Body::from(state.maps[&namespace].to_string()))
        }
        ("PATCH", None) => status(404, "no such ConfigMap"),
        ("PATCH", Some(map)) => {
            assert!(call.path.ends_with(NAME), "{}", call.path);
            if body["metadata"]["resourceVersion"] != map["metadata"]["resourceVersion"] {
                return status(409, "it was changed");
            }
            state.write(&namespace, &writer, &|map| merge(map, body));
            (200, Body::from(state.maps[&namespace].to_string()))
        }
        other => panic!("{other:?}"),
    }
}
