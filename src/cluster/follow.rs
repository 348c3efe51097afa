//! Knowing all objects of one kind: listed page by page, then watched, and listed again whenever something may have been missed.
//!
//! Takes: a collection. Gives: [`Seen`], for ever. Not here: what is done about it.
//!
//! Nothing is kept here but a page and a line, both of bounded size.

use std::time::Duration;

use http_body_util::BodyExt;
use kube::client::Body;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::client::{ApiServer, CallError, body, explain};
use super::objects::{Namespace, Object, ObjectError, RootConfigMap};
use super::token_review::unreadable;

/// What became known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen<T> {
    /// A list begins: whatever is not found until [`Seen::Complete`] is gone.
    Begins,
    /// It is there, in this state.
    Found(T),
    /// It was deleted; this was its last state.
    Gone(T),
    /// All that there is was found; from here on every change is told.
    Complete,
    /// Changes may be missed from here on, until the next [`Seen::Complete`].
    Lost(ObjectError),
}

/// Objects of one kind.
#[derive(Debug)]
pub struct Collection<T> {
    path: &'static str,
    /// Only the one of this name in each namespace.
    name: Option<String>,
    /// Only metadata is asked for.
    bare: bool,
    /// Objects in a page, at first.
    page: usize,
    read: fn(Object) -> Option<T>,
}

/// All namespaces, by their metadata alone.
pub fn namespaces() -> Collection<Namespace> {
    Collection {
        path: "/api/v1/namespaces",
        name: None,
        bare: true,
        page: 500,
        read: Object::into_namespace,
    }
}

/// The ConfigMaps of one name in all namespaces.
pub fn root_config_maps(name: &str) -> Collection<RootConfigMap> {
    Collection {
        path: "/api/v1/configmaps",
        name: Some(name.to_owned()),
        bare: false,
        page: 100,
        read: Object::into_root_config_map,
    }
}

/// Largest page. An object may have 1.5 MiB: a page that is too long is asked for again in smaller ones.
const MOST_PAGE: usize = 16 << 20;
/// Largest event.
const MOST_LINE: usize = 4 << 20;
/// Longest wait for a page, and for a watch to begin.
const PAGE: Duration = Duration::from_secs(30);
/// How long one watch lasts: a connection that died in silence is noticed by then.
const WATCH: Duration = Duration::from_secs(120);
/// How much later than that the API server may end it.
const GRACE: Duration = Duration::from_secs(15);
/// A list even where nothing seems to have been missed.
const LIST_AGAIN: Duration = Duration::from_secs(3600);
/// After a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Tells of all objects of a collection until nobody listens. To be run on [`ApiServer::runtime`].
pub async fn follow<T>(server: ApiServer, collection: Collection<T>, to: mpsc::Sender<Seen<T>>) {
    let mut pause = FIRST_PAUSE;
    let mut page = collection.page;
    loop {
        let ended = Following {
            server: &server,
            collection: &collection,
            to: &to,
        }
        .list_and_watch(&mut page, &mut pause)
        .await;
        match ended {
            Ok(()) => {}
            Err(Ended::NobodyListens) => return,
            Err(Ended::Failed(error)) => {
                if matches!(error, ObjectError::Call(CallError::Unreadable(_))) {
                    page = (page / 2).max(1);
                }
                if to.send(Seen::Lost(error)).await.is_err() {
                    return;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

enum Ended {
    NobodyListens,
    Failed(ObjectError),
}

impl<E: Into<ObjectError>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

struct Following<'a, T> {
    server: &'a ApiServer,
    collection: &'a Collection<T>,
    to: &'a mpsc::Sender<Seen<T>>,
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    #[serde(default)]
    items: Option<Vec<Object>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    resource_version: String,
    r#continue: Option<String>,
}

#[derive(Deserialize)]
struct Event {
    r#type: String,
    object: Object,
}

impl<T> Following<'_, T> {
    async fn list_and_watch(&self, page: &mut usize, pause: &mut Duration) -> Result<(), Ended> {
        let listed = Instant::now();
        let mut version = self.list(*page).await?;
        while listed.elapsed() < LIST_AGAIN {
            let begun = Instant::now();
            self.watch(&mut version).await?;
            *pause = FIRST_PAUSE;
            if begun.elapsed() < FIRST_PAUSE {
                tokio::time::sleep(FIRST_PAUSE).await;
            }
        }
        Ok(())
    }

    /// Lists everything; the state that was listed.
    async fn list(&self, page: usize) -> Result<String, Ended> {
        self.tell(Seen::Begins).await?;
        let mut next: Option<String> = None;
        loop {
            let limit = page.to_string();
            let mut query = vec![("limit", limit.as_str())];
            query.extend(next.as_deref().map(|next| ("continue", next)));
            let request = self.request(&query, "PartialObjectMetadataList")?;
            let answer = ObjectError::judge(self.server.ask(request, PAGE, MOST_PAGE).await?)?;
            let page: Page = serde_json::from_slice(&answer).map_err(unreadable)?;
            for object in page.items.unwrap_or_default() {
                if let Some(found) = (self.collection.read)(object) {
                    self.tell(Seen::Found(found)).await?;
                }
            }
            next = page.metadata.r#continue.filter(|next| !next.is_empty());
            if next.is_none() {
                self.tell(Seen::Complete).await?;
                return Ok(page.metadata.resource_version);
            }
        }
    }

    /// Watches until the API server ends it, as it was asked to; `version` goes along.
    async fn watch(&self, version: &mut String) -> Result<(), Ended> {
        let seconds = WATCH.as_secs().to_string();
        let query = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", &seconds),
            ("resourceVersion", version),
        ];
        let response = self
            .server
            .open(self.request(&query, "PartialObjectMetadata")?, PAGE)
            .await?;
        let (parts, content) = response.into_parts();
        if !parts.status.is_success() {
            ObjectError::judge((parts.status, body(content, MOST_LINE).await))?;
            return Ok(());
        }
        let mut lines = Lines::new(content);
        let end = Instant::now() + WATCH + GRACE;
        loop {
            let line = tokio::time::timeout_at(end, lines.next()).await;
            let Some(line) = line.map_err(|_| CallError::TimedOut(WATCH + GRACE))?? else {
                return Ok(());
            };
            let event: Event = serde_json::from_slice(&line).map_err(unreadable)?;
            let seen: fn(T) -> Seen<T> = match event.r#type.as_str() {
                "ADDED" | "MODIFIED" => Seen::Found,
                "DELETED" => Seen::Gone,
                "BOOKMARK" => {
                    *version = event.object.metadata.resource_version;
                    continue;
                }
                _ => return Err(of_status(event.object).into()),
            };
            event.object.metadata.resource_version.clone_into(version);
            if let Some(object) = (self.collection.read)(event.object) {
                self.tell(seen(object)).await?;
            }
        }
    }

    fn request(&self, query: &[(&str, &str)], bare: &str) -> Result<http::Request<Vec<u8>>, CallError> {
        let selector = self
            .collection
            .name
            .as_ref()
            .map(|name| format!("metadata.name={name}"));
        let fields = selector.iter().map(|selector| ("fieldSelector", selector.as_str()));
        let query: Vec<String> = query
            .iter()
            .copied()
            .chain(fields)
            .map(|(key, value)| format!("{key}={}", escaped(value)))
            .collect();
        let accept = match self.collection.bare {
            true => format!("application/json;as={bare};g=meta.k8s.io;v=v1"),
            false => "application/json".into(),
        };
        http::Request::get(format!("{}?{}", self.collection.path, query.join("&")))
            .header(http::header::ACCEPT, accept)
            .body(Vec::new())
            .map_err(|error| CallError::Unreadable(error.to_string()))
    }

    async fn tell(&self, seen: Seen<T>) -> Result<(), Ended> {
        self.to.send(seen).await.map_err(|_| Ended::NobodyListens)
    }
}

/// An event of type `ERROR` carries a `Status`.
fn of_status(status: Object) -> ObjectError {
    match status.code {
        Some(410) => ObjectError::Expired,
        code => ObjectError::Refused {
            status: code.unwrap_or(500),
            message: super::client::printable(&status.message.unwrap_or_default()),
        },
    }
}

/// Percent-encoding (RFC 3986, 2.1).
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(char::from(byte)),
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

/// The lines of a body that comes in pieces.
struct Lines {
    body: Body,
    begun: Vec<u8>,
    /// How much of `begun` is known to hold no end of a line.
    searched: usize,
}

impl Lines {
    fn new(body: Body) -> Self {
        Self {
            body,
            begun: Vec::new(),
            searched: 0,
        }
    }

    /// The next line that is not empty; `None` at the end. A line that was cut off is an error: its event is lost.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, CallError> {
        loop {
            if let Some(length) = self.begun[self.searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.begun.split_off(self.searched + length + 1);
                let line = std::mem::replace(&mut self.begun, rest);
                self.searched = 0;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return Ok(Some(line));
            }
            self.searched = self.begun.len();
            if self.begun.len() > MOST_LINE {
                return Err(CallError::Unreadable(format!(
                    "an event has more than {MOST_LINE} bytes"
                )));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.begun.extend(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Err(CallError::Unreachable(explain(&error))),
                None if self.begun.trim_ascii().is_empty() => return Ok(None),
                None => return Err(CallError::Unreachable("it was cut off within an event".into())),
            }
        }
    }
}
