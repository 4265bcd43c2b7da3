//! Objects of the cluster, read once, and the patch that restarts one. IO: asks the API server.
//!
//! Input: a client. Output: objects as JSON, or what the user may not do; an error is an API server that cannot be asked.

use anyhow::anyhow;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::{Method, Request, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::explain::chain;
use super::seen::{Forbidden, Resource, Seen, list, text};

/// Objects a page of a list.
const PAGE: u32 = 500;
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
        let mut objects = Vec::new();
        let mut from = String::new();
        loop {
            let label = which.label.map(|label| format!("&labelSelector={}", label.replace('=', "%3D")));
            let path = resource.path(which.namespace);
            let path = format!("{path}?limit={PAGE}{}{from}", label.unwrap_or_default());
            let answer = self.send(Method::GET, &path, None, which.metadata.then_some(METADATA)).await?;
            match answer.code {
                200 => {}
                404 if from.is_empty() => return Ok(Ok(Vec::new())),
                _ => return refused(&answer, what()),
            }
            for item in list(&answer.body["items"]) {
                let mut object = item.clone();
                // An item of a list need not say what it is.
                object["apiVersion"] = json!(resource.api_version);
                object["kind"] = json!(resource.kind);
                objects.push(object);
            }
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
        let status = response.status();
        let bytes = response.into_body().collect().await.map_err(|error| unreachable(&error))?.to_bytes();
        if status == StatusCode::UNAUTHORIZED {
            let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            return Err(anyhow!(
                "the API server does not know you: {}; log in, or choose another --context",
                text(&body["message"])
            ));
        }
        Ok((status, bytes))
    }
}

fn refused<T>(answer: &Answer, what: String) -> anyhow::Result<Seen<T>> {
    if answer.code == StatusCode::FORBIDDEN.as_u16() {
        return Ok(Err(Forbidden(what)));
    }
    Err(anyhow!("the API server does not {what}: {} ({})", text(&answer.body["message"]), answer.code))
}
