//! What a kube-apiserver asks of the answer to an `AdmissionReview` (its `VerifyAdmissionResponse`, and what stands around
//! it), written from its documentation and source and sharing nothing with ours.

use base64::Engine;
use serde_json::{Map, Value};

use super::strict;

/// Most characters of all warnings of one request; past them the API server cuts and drops.
const WARNINGS_BUDGET: usize = 4096;
/// Most characters of a warning, as the documentation asks.
const MAX_WARNING: usize = 120;
/// Most bytes of the name part of a qualified name.
const MAX_NAME: usize = 63;

/// The rules that an answer to the review `uid` breaks, in the order in which they are looked at; none: the API server
/// takes it as it is meant.
pub(crate) fn faults(uid: &str, body: &[u8]) -> Vec<&'static str> {
    let Ok(review) = strict::parse(body) else { return vec!["JSON without repeated members"] };
    let mut faults = Faults::default();
    let Some(review) = review.as_object() else { return vec!["an object"] };
    faults.known(review, &["apiVersion", "kind", "response"]);
    faults.want(review.get("apiVersion") == Some(&"admission.k8s.io/v1".into()), "apiVersion is v1");
    faults.want(review.get("kind") == Some(&"AdmissionReview".into()), "kind is AdmissionReview");
    match review.get("response").and_then(Value::as_object) {
        Some(response) => faults.response(uid, response),
        None => faults.want(false, "a response"),
    }
    faults.0
}

#[derive(Default)]
struct Faults(Vec<&'static str>);

impl Faults {
    fn want(&mut self, holds: bool, rule: &'static str) {
        if !holds {
            self.0.push(rule);
        }
    }

    fn known(&mut self, object: &Map<String, Value>, members: &[&str]) {
        self.want(object.keys().all(|member| members.contains(&&**member)), "known members");
    }

    fn response(&mut self, uid: &str, response: &Map<String, Value>) {
        const MEMBERS: [&str; 7] =
            ["uid", "allowed", "status", "patch", "patchType", "auditAnnotations", "warnings"];
        self.known(response, &MEMBERS);
        self.want(response.get("uid").and_then(Value::as_str) == Some(uid), "the uid of the request");
        let allowed = response.get("allowed").and_then(Value::as_bool);
        self.want(allowed.is_some(), "allowed is a boolean");
        self.status(allowed, response.get("status"));
        self.patch(allowed, response.get("patch"), response.get("patchType"));
        if let Some(warnings) = response.get("warnings") {
            self.warnings(warnings);
        }
        if let Some(annotations) = response.get("auditAnnotations") {
            self.audit(annotations);
        }
    }

    /// Ignored where the pod is allowed; the message of a denial is all that the user sees.
    fn status(&mut self, allowed: Option<bool>, status: Option<&Value>) {
        let Some(status) = status else {
            return self.want(allowed != Some(false), "a denial has a status");
        };
        self.want(allowed != Some(true), "only a denial has a status");
        let Some(status) = status.as_object() else { return self.want(false, "a status is an object") };
        self.known(status, &["code", "reason", "message"]);
        let code = status.get("code").and_then(Value::as_u64);
        self.want(code.is_some_and(|code| (400..600).contains(&code)), "a denial's code is an error");
        let text = |member| status.get(member).and_then(Value::as_str).unwrap_or_default();
        self.want(is_line(text("message")), "a denial's message is a line");
        let reason = text("reason");
        self.want(
            reason.starts_with(|c: char| c.is_ascii_uppercase())
                && reason.chars().all(|c| c.is_ascii_alphabetic()),
            "a denial's reason is a word",
        );
    }

    fn patch(&mut self, allowed: Option<bool>, patch: Option<&Value>, kind: Option<&Value>) {
        self.want(patch.is_some() == kind.is_some(), "patch and patchType together or not at all");
        self.want(kind.is_none_or(|kind| kind == "JSONPatch"), "patchType is JSONPatch");
        let Some(patch) = patch else { return };
        self.want(allowed != Some(false), "no patch on a denial");
        let bytes = patch.as_str().and_then(|patch| {
            let decoded = base64::engine::general_purpose::STANDARD.decode(patch);
            decoded.ok()
        });
        let Some(bytes) = bytes else { return self.want(false, "a patch is base64") };
        if bytes.is_empty() {
            return self.want(false, "a patch is not empty");
        }
        match strict::parse(&bytes) {
            Ok(Value::Array(operations)) => {
                self.want(!operations.is_empty(), "a patch does something");
                self.want(operations.iter().all(is_operation), "operations of RFC 6902");
            }
            _ => self.want(false, "a patch is a JSON array"),
        }
    }

    fn warnings(&mut self, warnings: &Value) {
        let texts: Option<Vec<&str>> =
            warnings.as_array().and_then(|warnings| warnings.iter().map(Value::as_str).collect());
        let Some(texts) = texts else { return self.want(false, "warnings are texts") };
        self.want(!texts.is_empty(), "warnings say something");
        self.want(texts.iter().all(|text| is_line(text)), "a warning is a line");
        self.want(texts.iter().all(|text| text.chars().count() <= MAX_WARNING), "a warning is short");
        let total: usize = texts.iter().map(|text| text.chars().count()).sum();
        self.want(total <= WARNINGS_BUDGET, "warnings within the budget");
        let repeated = (1..texts.len()).any(|index| texts[..index].contains(&texts[index]));
        self.want(!repeated, "warnings are told once");
    }

    /// Keys get the webhook's name and a slash before them, and are then qualified names.
    fn audit(&mut self, annotations: &Value) {
        let Some(annotations) = annotations.as_object() else {
            return self.want(false, "audit annotations are an object");
        };
        self.want(annotations.keys().all(|key| is_name(key)), "an audit key is a name");
        let line = |value: &Value| value.as_str().is_some_and(is_line);
        self.want(annotations.values().all(line), "an audit value is a line");
    }
}

/// Text that shows as one line, and as what it is: no control characters, no other breaks of lines, nothing that turns
/// the direction of what follows or cannot be seen.
pub(crate) fn is_line(text: &str) -> bool {
    let hidden = |c: char| {
        matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
    };
    !text.is_empty() && !text.chars().any(|c| c.is_control() || hidden(c))
}

fn is_name(key: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    key.len() <= MAX_NAME
        && edge(key.chars().next())
        && edge(key.chars().last())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn is_operation(operation: &Value) -> bool {
    let Some(members) = operation.as_object() else { return false };
    let pointer = |member| members.get(member).and_then(Value::as_str).is_some_and(is_pointer);
    let own: &[&str] = match members.get("op").and_then(Value::as_str) {
        Some("add" | "replace" | "test") => &["op", "path", "value"],
        Some("move" | "copy") => &["op", "path", "from"],
        Some("remove") => &["op", "path"],
        _ => return false,
    };
    members.len() == own.len()
        && own.iter().all(|member| members.contains_key(*member))
        && pointer("path")
        && (!own.contains(&"from") || pointer("from"))
}

/// RFC 6901.
fn is_pointer(pointer: &str) -> bool {
    let escapes = pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    escapes && (pointer.is_empty() || pointer.starts_with('/'))
}
