//! A client of the API server that shares nothing with kubectl.
//!
//! Input: where the API server listens, and objects as JSON. Output: what it answers: status, warnings, object.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::https::{Client, tls_offering};

/// Where to reach the API server, as its administrator.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    pub(crate) ca: String,
    pub(crate) token: &'static str,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) warnings: Vec<String>,
    pub(crate) body: Value,
}

impl Api {
    /// One request on a connection of its own.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.connect().await.send(method, path, body).await
    }

    /// A connection, secured: the API server's own certificate carries its address.
    pub(crate) async fn stream(&self) -> std::io::Result<TlsStream<TcpStream>> {
        tls_offering(&["http/1.1"], self.address, &self.address.ip().to_string(), &self.ca).await
    }

    /// A connection for many requests.
    pub(crate) async fn connect(&self) -> Connection {
        let stream = self.stream().await.unwrap();
        Connection {
            client: Client::new(stream).await,
            authorization: format!("authorization: Bearer {}", self.token),
        }
    }

    /// What is at a path.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let reply = self.send("GET", path, &Value::Null).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        reply.body
    }

    /// What is at a path, as text.
    pub(crate) async fn text(&self, path: &str) -> String {
        let mut client = Client::new(self.stream().await.unwrap()).await;
        let authorization = format!("authorization: Bearer {}", self.token);
        let response = client.send("GET", path, &[&authorization], &[]).await;
        assert_eq!(response.status(), 200, "{path}");
        String::from_utf8(response.body().to_vec()).unwrap()
    }

    /// The items of a list.
    pub(crate) async fn list(&self, path: &str) -> Vec<Value> {
        self.get(path).await["items"].as_array().expect("a list has items").clone()
    }

    /// Creates an object; gives it as it is stored.
    pub(crate) async fn create(&self, path: &str, object: &Value) -> Value {
        let reply = self.send("POST", path, object).await;
        assert_eq!(reply.status, 201, "{path}: {}", reply.body);
        reply.body
    }

    /// Creates a namespace with its service account, without which no pod is admitted; a controller would make it a
    /// little later.
    pub(crate) async fn create_namespace(&self, object: &Value) {
        let name = object["metadata"]["name"].as_str().expect("a namespace has a name");
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let accounts = format!("/api/v1/namespaces/{name}/serviceaccounts");
        for (path, object) in [("/api/v1/namespaces", object), (&*accounts, &account)] {
            let reply = self.send("POST", path, object).await;
            // The control plane's own namespaces are there already, and the controller may have been first.
            assert!([201, 409].contains(&reply.status), "{path}: {}", reply.body);
        }
    }
}

/// A kept connection.
pub(crate) struct Connection {
    client: Client,
    authorization: String,
}

impl Connection {
    pub(crate) async fn send(&mut self, method: &str, path: &str, body: &Value) -> Reply {
        let content_type = match method {
            "PATCH" => "content-type: application/merge-patch+json",
            _ => "content-type: application/json",
        };
        let headers = [self.authorization.as_str(), content_type];
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
        let response = self.client.send(method, path, &headers, &body).await;
        let warnings = response.headers().get_all("warning").iter();
        Reply {
            status: response.status().as_u16(),
            warnings: warnings.map(|value| text_of_warning(value.as_bytes())).collect(),
            // Only health is told as text.
            body: serde_json::from_slice(response.body()).unwrap_or_default(),
        }
    }
}

/// The text of a header such as `299 - "text"`, which is UTF-8.
fn text_of_warning(header: &[u8]) -> String {
    let quoted = header.strip_prefix(b"299 - ").expect("an API server warns with code 299");
    serde_json::from_slice(quoted).expect("the text of a warning is quoted")
}
