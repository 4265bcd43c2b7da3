//! The wire: `AdmissionReview` v1 (admission.k8s.io) in and out. PURE.
//!
//! Input: the body of a call from the API server, borrowed. Output: a response as its `VerifyAdmissionResponse` accepts it:
//! the request's uid, patch and patch type together or not at all, warnings without control characters.

use std::fmt;

use base64_simd::STANDARD;

use super::json::{Field, Text, object};
use super::patch::{PatchBytes, write_string};
use super::pod::PodView;

object! {
    /// The review.
    pub struct Review<'a> {
        /// `admission.k8s.io/v1`.
        api_version: "apiVersion" => Text<'a>,
        /// `AdmissionReview`.
        kind: "kind" => Text<'a>,
        /// The request.
        request: "request" => Request<'a>,
    }
}

object! {
    /// What the API server asks.
    pub struct Request<'a> {
        /// Echoed in the response.
        uid: "uid" => Text<'a>,
        /// Kind that the webhook is registered for, after conversion.
        kind: "kind" => GroupVersionKind<'a>,
        /// Set for calls about parts of a pod.
        sub_resource: "subResource" => Text<'a>,
        /// The pod's namespace; authoritative, the object may lack its own.
        namespace: "namespace" => Text<'a>,
        /// `CREATE`.
        operation: "operation" => Text<'a>,
        /// The pod.
        object: "object" => PodView<'a>,
    }
}

object! {
    /// A kind.
    pub struct GroupVersionKind<'a> {
        /// API group, empty for the core.
        group: "group" => Text<'a>,
        /// Kind.
        kind: "kind" => Text<'a>,
    }
}

/// A body that cannot be answered as a review.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Not JSON.
    #[error("the body is not JSON: {0}")]
    Json(String),
    /// A review of a version that we cannot answer in.
    #[error(
        "want apiVersion admission.k8s.io/v1, got {0:?}; set admissionReviewVersions of the webhook's registration to [v1]"
    )]
    Version(String),
    /// Another object.
    #[error("want apiVersion admission.k8s.io/v1 and kind AdmissionReview, got {api_version:?} and {kind:?}")]
    Kind {
        /// As found.
        api_version: String,
        /// As found.
        kind: String,
    },
    /// No request, or one without a uid.
    #[error("request.uid is missing")]
    Uid,
}

/// Reads a review and its request.
pub fn read(body: &[u8]) -> Result<Request<'_>, Unreadable> {
    let review: Field<Review<'_>> =
        serde_json::from_slice(body).map_err(|error| Unreadable::Json(error.to_string()))?;
    let Field::Value(review) = review else {
        return Err(Unreadable::Kind { api_version: String::new(), kind: String::new() });
    };
    let (api_version, kind) = (review.api_version.text(), review.kind.text());
    if api_version != "admission.k8s.io/v1" || kind != "AdmissionReview" {
        let api_version = one_line(&api_version, 64);
        if kind == "AdmissionReview" && api_version.starts_with("admission.k8s.io/") {
            return Err(Unreadable::Version(api_version));
        }
        return Err(Unreadable::Kind { api_version, kind: one_line(&kind, 64) });
    }
    match review.request {
        Field::Value(request) if !request.uid.text().is_empty() => Ok(request),
        _ => Err(Unreadable::Uid),
    }
}

impl Request<'_> {
    /// Why this is not a call about the creation of a pod, if it is not.
    pub fn mismatch(&self) -> Option<String> {
        let kind = self.kind.value();
        let group = kind.map_or("", |kind| kind.group.text());
        let name = kind.map_or("", |kind| kind.kind.text());
        let sub_resource = self.sub_resource.text();
        if !group.is_empty() || name != "Pod" || !sub_resource.is_empty() {
            let name = if name.is_empty() { "no kind" } else { name };
            let dot = if group.is_empty() { "" } else { "." };
            let slash = if sub_resource.is_empty() { "" } else { "/" };
            return Some(format!("registered for {name}{dot}{group}{slash}{sub_resource}, want pods"));
        }
        match self.operation.text() {
            "CREATE" => None,
            "" => Some("registered for no operation, want CREATE".to_owned()),
            operation => Some(format!("registered for {operation}, want CREATE")),
        }
    }
}

/// Most characters of a warning, as the Kubernetes documentation asks.
pub const MAX_WARNING: usize = 120;

/// A response in the making.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Response {
    /// Absent: admitted. Present: denied with 403 and this message.
    pub denied: Option<String>,
    /// Shown to the user by the client.
    pub warnings: Vec<String>,
    /// Key and value; the API server prefixes the keys with the webhook's name.
    pub audit: Vec<(&'static str, String)>,
    /// The patch.
    pub patch: Option<PatchBytes>,
}

impl Response {
    /// The `AdmissionReview` with this response.
    pub fn write(&self, uid: &str) -> Vec<u8> {
        let patch_size = self.patch.as_ref().map_or(0, |patch| patch.0.len().div_ceil(3) * 4);
        let mut out = Vec::with_capacity(512 + patch_size);
        out.extend_from_slice(
            b"{\"apiVersion\":\"admission.k8s.io/v1\",\"kind\":\"AdmissionReview\",\"response\":{\"uid\":",
        );
        write_string(uid, &mut out);
        match &self.denied {
            None => out.extend_from_slice(b",\"allowed\":true"),
            Some(message) => {
                out.extend_from_slice(
                    b",\"allowed\":false,\"status\":{\"code\":403,\"reason\":\"Forbidden\",\"message\":",
                );
                write_string(message, &mut out);
                out.push(b'}');
            }
        }
        if !self.warnings.is_empty() {
            out.extend_from_slice(b",\"warnings\":[");
            for (index, warning) in self.warnings.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(warning, &mut out);
            }
            out.push(b']');
        }
        if !self.audit.is_empty() {
            for (index, (key, value)) in self.audit.iter().enumerate() {
                out.extend_from_slice(if index == 0 { b",\"auditAnnotations\":{" } else { b"," });
                write_string(key, &mut out);
                out.push(b':');
                write_string(value, &mut out);
            }
            out.push(b'}');
        }
        if let Some(patch) = &self.patch {
            out.extend_from_slice(b",\"patchType\":\"JSONPatch\",\"patch\":\"");
            STANDARD.encode_append(&patch.0, &mut out);
            out.push(b'"');
        }
        out.extend_from_slice(b"}}");
        out
    }
}

/// One line of at most `max` characters that shows as what it is: control characters (the API server drops a warning that
/// has any) and hidden ones become spaces, what is too long ends in an ellipsis.
pub fn one_line(text: &impl fmt::Display, max: usize) -> String {
    let text = text.to_string();
    let clean = |c: char| if c.is_control() || is_hidden(c) { ' ' } else { c };
    let mut line: String = text.chars().map(clean).take(max).collect();
    if text.chars().nth(max).is_some() {
        line.pop();
        line.push('…');
    }
    line
}

/// Breaks of lines that are no control characters, and characters that cannot be seen or turn the direction of writing:
/// none of them belongs into a name, and a log or terminal that honours them shows something else than was written.
const fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}
