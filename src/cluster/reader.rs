//! Objects of the cluster, read once, and the patch that restarts one. IO: asks the API server.
//!
//! Input: a client. Output: objects as JSON, or what the user may not do; an error is an API server that cannot be asked. One that has
//! no time is asked again, as often and as late as it says, within bounds; a list that expires between its pages is begun anew.

use std::time::Duration;

use anyhow::anyhow;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use hyper::{Method, Request, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::explain::chain;
use super::seen::{Forbidden, Resource, Seen, text};

/// Objects a page of a list.
const PAGE: u32 = 500;
/// How often a request is sent again for which the API server has no time.
const RETRIES: usize = 5;
/// Longest time that it is waited for in between, whatever it says.
const LONGEST: Duration = Duration::from_secs(30);
/// How often a list is begun anew that expired between its pages.
const BEGINNINGS: usize = 5;
/// What kubectl applied last: the object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Metadata alone.
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// Asks the API server.
#[derive(Clone)]
pub struct Reader(Client);

/// An answer, whatever it says.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Status code.
    pub code: u16,
    /// The object, or what is wrong.
    pub body: Value,
}

/// Which objects of a kind.
#[derive(Debug, Clone, Copy, Default)]
pub struct Which<'a> {
    /// Of this namespace; else of all.
    pub namespace: Option<&'a str>,
    /// With this label, `key=value`.
    pub label: Option<&'a str>,
    /// Their metadata alone.
    pub metadata: bool,
    /// What is kept of each page beside metadata, as JSON pointers; everything, if there are none. A cluster's objects together
    /// may be larger than the memory of whoever asks.
    pub only: &'a [&'a str],
}

impl<'a> Which<'a> {
    /// Those of one namespace.
    pub fn of(namespace: &'a str) -> Self {
        Self { namespace: Some(namespace), ..Self::default() }
    }
}

impl Reader {
    /// By this client.
    pub const fn new(client: Client) -> Self {
        Self(client)
    }

    /// What the API server calls itself: `v1.37.2`.
    pub async fn version(&self) -> anyhow::Result<String> {
        let answer = self.send(Method::GET, "/version", None, None).await?;
        match (answer.code, text(&answer.body["gitVersion"])) {
            (200, version) if !version.is_empty() => Ok(version.to_owned()),
            // Everything that is not found here would be taken for not being there.
            (code, _) => Err(anyhow!(
                "what answers is no API server: /version gives {code} without a version; see the server of the kubeconfig"
            )),
        }
    }

    /// Objects of a kind; none where the cluster does not know the kind.
    pub async fn list(&self, resource: &Resource, which: Which<'_>) -> anyhow::Result<Seen<Vec<Value>>> {
        let place = match which.namespace {
            Some(namespace) => format!(" in namespace {namespace}"),
            None if resource.of_cluster => String::new(),
            None => " in all namespaces".to_owned(),
        };
        let what = || format!("list {}{place}", resource.full_name());
        let label = which.label.map(|label| format!("&labelSelector={}", label.replace('=', "%3D")));
        let path = format!("{}?limit={PAGE}{}", resource.path(which.namespace), label.unwrap_or_default());
        let mut objects = Vec::new();
        let (mut from, mut beginnings) = (String::new(), 1);
        loop {
            let page = format!("{path}{from}");
            let mut answer = self.send(Method::GET, &page, None, which.metadata.then_some(METADATA)).await?;
            match answer.code {
                200 => {}
                404 if from.is_empty() => return Ok(Ok(Vec::new())),
                410 if !from.is_empty() && beginnings < BEGINNINGS => {
                    objects.clear();
                    from.clear();
                    beginnings += 1;
                    continue;
                }
                _ => return refused(&answer, what()),
            }
            let items = answer.body["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
            objects.extend(items.into_iter().map(|item| kept(item, resource, which.only)));
            match text(&answer.body["metadata"]["continue"]) {
                "" => return Ok(Ok(objects)),
                token => from = format!("&continue={token}"),
            }
        }
    }

    /// One object, if it is there.
    pub async fn get(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> anyhow::Result<Seen<Option<Value>>> {
        let path = format!("{}/{name}", resource.path(namespace));
        let place = namespace.map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default();
        self.get_at(&path, format!("get {} {name}{place}", resource.full_name())).await
    }

    /// What is at a path, if anything; `what` is what the user has to be allowed.
    pub async fn get_at(&self, path: &str, what: String) -> anyhow::Result<Seen<Option<Value>>> {
        let answer = self.send(Method::GET, path, None, None).await?;
        match answer.code {
            200 => Ok(Ok(Some(answer.body))),
            404 => Ok(Ok(None)),
            _ => refused(&answer, what),
        }
    }

    /// Whether somebody may do something: the status of a `SubjectAccessReview`.
    pub async fn may(&self, spec: &Value) -> anyhow::Result<Seen<bool>> {
        let review =
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let answer = self.send(Method::POST, path, Some(&review), None).await?;
        match answer.code {
            201 => Ok(Ok(answer.body["status"]["allowed"] == true)),
            _ => refused(&answer, "create subjectaccessreviews.authorization.k8s.io".to_owned()),
        }
    }

    /// Whether the user may do something, by the spec of a `SelfSubjectAccessReview`. Everybody may ask.
    pub async fn may_i(&self, spec: &Value) -> anyhow::Result<bool> {
        let review =
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec});
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let answer = self.send(Method::POST, path, Some(&review), None).await?;
        if answer.code != 201 {
            return Err(anyhow!(
                "what you may do cannot be asked: {} ({})",
                text(&answer.body["message"]),
                answer.code
            ));
        }
        Ok(answer.body["status"]["allowed"] == true)
    }

    /// What would become of a pod if it were created.
    pub async fn try_pod(&self, namespace: &str, pod: &Value) -> anyhow::Result<Answer> {
        let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
        self.send(Method::POST, &path, Some(pod), None).await
    }

    /// Changes an object by a JSON merge patch, or looks what would become of it.
    pub async fn patch(&self, path: &str, change: &Value, dry_run: bool) -> anyhow::Result<Answer> {
        let path = if dry_run { format!("{path}?dryRun=All") } else { path.to_owned() };
        self.send(Method::PATCH, &path, Some(change), None).await
    }

    /// The last lines that a container wrote, or why there are none to be had.
    pub async fn log(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        lines: u16,
    ) -> anyhow::Result<Result<String, String>> {
        let path =
            format!("/api/v1/namespaces/{namespace}/pods/{pod}/log?container={container}&tailLines={lines}");
        let (status, bytes) = self.exchange(Method::GET, &path, None, Some("*/*")).await?;
        if status.is_success() {
            return Ok(Ok(String::from_utf8_lossy(&bytes).into_owned()));
        }
        let said: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(Err(format!("{} ({})", text(&said["message"]), status.as_u16())))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        accept: Option<&str>,
    ) -> anyhow::Result<Answer> {
        let (status, bytes) = self.exchange(method, path, body, accept).await?;
        let code = status.as_u16();
        match serde_json::from_slice(&bytes) {
            Ok(body) => Ok(Answer { code, body }),
            // An error may come from whoever stands before the API server; a success is the API server's.
            Err(_) if !status.is_success() => Ok(Answer { code, body: Value::Null }),
            Err(error) => Err(anyhow!("the API server's answer cannot be read: {error}")),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        accept: Option<&str>,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let mut attempts = 0;
        loop {
            let (status, headers, bytes) = self.once(&method, path, body, accept).await?;
            if let Some(wait) = wait(status, &headers).filter(|_| attempts < RETRIES) {
                attempts += 1;
                tokio::time::sleep(wait).await;
                continue;
            }
            if status == StatusCode::UNAUTHORIZED {
                let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                return Err(anyhow!(
                    "the API server does not know you: {}; log in, or choose another --context",
                    text(&body["message"])
                ));
            }
            return Ok((status, bytes));
        }
    }

    async fn once(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        accept: Option<&str>,
    ) -> anyhow::Result<(StatusCode, HeaderMap, Bytes)> {
        let bytes = body.map(Value::to_string).unwrap_or_default();
        let sent = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(ACCEPT, accept.unwrap_or("application/json"))
            .header(CONTENT_TYPE, sent)
            .body(Body::from(bytes.into_bytes()))?;
        let unreachable =
            |error: &dyn std::error::Error| anyhow!("the API server cannot be asked: {}", chain(error));
        let response = self.0.send(request).await.map_err(|error| unreachable(&error))?;
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.map_err(|error| unreachable(&error))?.to_bytes();
        Ok((head.status, head.headers, bytes))
    }
}

/// How long to wait before a request is sent again that the API server did not look at; nothing where it says no time.
fn wait(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    let has_no_time = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
    has_no_time.then(|| Duration::from_secs(seconds).min(LONGEST))
}

/// An item of a list, as far as it is looked at.
fn kept(mut item: Value, resource: &Resource, only: &[&str]) -> Value {
    if let Some(metadata) = item.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    // An item need not say what it is.
    let mut kept = json!({"apiVersion": resource.api_version, "kind": resource.kind});
    if only.is_empty() {
        if let (Some(kept), Value::Object(item)) = (kept.as_object_mut(), item) {
            kept.extend(item.into_iter().filter(|(key, _)| !["apiVersion", "kind"].contains(&key.as_str())));
        }
        return kept;
    }
    if let Some(annotations) = item.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    for pointer in ["/metadata"].iter().chain(only) {
        if let Some(found) = item.pointer_mut(pointer).map(Value::take) {
            let place = pointer.split('/').skip(1).fold(&mut kept, |place, key| &mut place[key]);
            *place = found;
        }
    }
    kept
}

fn refused<T>(answer: &Answer, what: String) -> anyhow::Result<Seen<T>> {
    if answer.code == StatusCode::FORBIDDEN.as_u16() {
        return Ok(Err(Forbidden(what)));
    }
    Err(anyhow!("the API server does not {what}: {} ({})", text(&answer.body["message"]), answer.code))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::http::{StatusCode, Uri};
    use axum::response::IntoResponse;
    use kube::{Client, Config};
    use serde_json::{Value, json};
    use tokio::net::TcpListener;

    use super::{BEGINNINGS, RETRIES, Reader, Which, kept};
    use crate::cluster::kinds;

    /// What an API server answers: status, `Retry-After`, body.
    type Answers = Vec<(u16, Option<&'static str>, Value)>;

    /// A reader of an API server that gives these answers, the last one for ever; and the requests that it had, without what they
    /// have in common.
    async fn reader(answers: Answers) -> (Reader, Arc<Mutex<Vec<String>>>) {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let answer = move |uri: Uri| {
            let mut seen = seen.lock().unwrap();
            let (code, wait, body) = answers[seen.len().min(answers.len() - 1)].clone();
            seen.push(uri.to_string().replace("/api/v1/pods?limit=500", ""));
            let wait = wait.map(|wait| [("retry-after", wait)]);
            async move {
                let code = StatusCode::from_u16(code).unwrap();
                match wait {
                    Some(wait) => (code, wait, body.to_string()).into_response(),
                    None => (code, body.to_string()).into_response(),
                }
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        let mut config = Config::new(url.parse().unwrap());
        config.default_retry = false;
        (Reader::new(Client::try_from(config).unwrap()), requests)
    }

    fn page(name: &str, next: &str) -> (u16, Option<&'static str>, Value) {
        (200, None, json!({"metadata": {"continue": next}, "items": [{"metadata": {"name": name}}]}))
    }

    fn error(code: u16, wait: Option<&'static str>, message: &str) -> (u16, Option<&'static str>, Value) {
        (code, wait, json!({"message": message}))
    }

    /// Names of all pods.
    async fn names(reader: &Reader) -> Result<Vec<String>, String> {
        match reader.list(&kinds::PODS, Which::default()).await {
            Ok(Ok(objects)) => {
                Ok(objects.iter().map(|object| object["metadata"]["name"].to_string()).collect())
            }
            Ok(Err(forbidden)) => Err(forbidden.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[tokio::test]
    async fn a_page_that_has_to_wait_is_asked_for_again_and_a_list_that_expires_is_begun_anew() {
        let busy = || error(429, Some("0"), "too many requests");
        let answers = vec![
            busy(),
            busy(),
            page("of-before", "x"),
            error(410, None, "the continue token is too old"),
            page("a", "y"),
            error(503, Some("0"), "starting"),
            page("b", ""),
        ];
        let (reader, requests) = reader(answers).await;
        assert_eq!(names(&reader).await, Ok(vec!["\"a\"".to_owned(), "\"b\"".to_owned()]));
        let (first, second) = ("&continue=x", "&continue=y");
        assert_eq!(*requests.lock().unwrap(), ["", "", "", first, "", second, second]);
    }

    #[tokio::test]
    async fn an_api_server_that_never_has_time_is_given_up_and_one_that_says_no_time_at_once() {
        for (answers, requests, why) in [
            (vec![error(429, Some("0"), "busy")], RETRIES + 1, "busy (429)"),
            (vec![error(429, None, "busy")], 1, "busy (429)"),
            (vec![error(429, Some("tomorrow"), "busy")], 1, "busy (429)"),
            (vec![error(500, Some("0"), "broken")], 1, "broken (500)"),
            (vec![error(410, None, "old")], 1, "old (410)"),
        ] {
            let (reader, seen) = reader(answers).await;
            let expected = format!("the API server does not list pods in all namespaces: {why}");
            assert_eq!(names(&reader).await, Err(expected));
            assert_eq!(seen.lock().unwrap().len(), requests, "{why}");
        }
        let expires = [page("a", "x"), error(410, None, "old")];
        let answers = expires.into_iter().cycle().take(2 * BEGINNINGS + 2).collect();
        let (reader, seen) = reader(answers).await;
        let expected = "the API server does not list pods in all namespaces: old (410)";
        assert_eq!(names(&reader).await, Err(expected.to_owned()));
        assert_eq!(seen.lock().unwrap().len(), 2 * BEGINNINGS);
    }

    #[test]
    fn of_an_item_what_is_asked_for_is_kept_and_what_nobody_reads_is_not() {
        let item = json!({
            "metadata": {
                "name": "a", "managedFields": [{}],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "b": "c"},
            },
            "spec": {"selector": {"app": "web"}, "ports": []},
            "status": {"loadBalancer": {}},
        });
        let mut all = item.clone();
        all["apiVersion"] = json!("v1");
        all["kind"] = json!("Service");
        all["metadata"].as_object_mut().unwrap().remove("managedFields");
        assert_eq!(kept(item.clone(), &kinds::SERVICES, &[]), all);
        assert_eq!(
            kept(item, &kinds::SERVICES, &["/spec/selector", "/spec/clusterIP"]),
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "annotations": {"b": "c"}},
                "spec": {"selector": {"app": "web"}},
            })
        );
        assert_eq!(
            kept(json!(7), &kinds::SERVICES, &["/spec"]),
            json!({"apiVersion": "v1", "kind": "Service"})
        );
    }
}
