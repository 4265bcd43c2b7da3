//! Errors of the client in words that help at night.
//!
//! Input: an error. Output: one line, each cause said once, with the fix where there is one.

use kube::core::Status;

/// An error of the client, with the fix where there is one.
pub fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => explain_status(status),
        error => chain(error),
    }
}

/// A refusal of the API server, with the fix where there is one.
pub fn explain_status(status: &Status) -> String {
    match status.code {
        // It names what is missing, so it knows the kind: a namespace, mostly.
        404 if status.details.as_ref().is_some_and(|details| !details.name.is_empty()) => {
            format!("{} (404)", status.message)
        }
        404 => "the API server does not know this kind: install its definition (CRD)".to_owned(),
        401 => format!("the API server does not know us: {}", status.message),
        403 => format!("not allowed: {}; grant it to our service account", status.message),
        code => format!("{} ({code})", status.message),
    }
}

/// An error and its causes, of which the client's own first words say least; each is said once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        source = cause.source();
    }
    said
}
