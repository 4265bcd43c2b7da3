//! Scrape classes of a template as upstream has them. It supports paths in them alone; references are taken, and then: those of
//! `authorization` are never loaded, those of `tlsConfig` are loaded from the template's namespace and looked for in the
//! monitor's.

use serde_json::{Value, json};

use super::difference::{Fired, Place, take};
use super::objects::secret_value;

/// The class of a monitor: the one that it names, or the default one.
pub(crate) fn of(template: &Value, spec: &Value) -> Value {
    let classes = template["spec"]["scrapeClasses"].as_array().into_iter().flatten();
    let named = spec["scrapeClass"].as_str().filter(|name| !name.is_empty());
    let is_it = |class: &&Value| match named {
        Some(name) => class["name"] == name,
        None => class["default"] == json!(true),
    };
    classes.cloned().collect::<Vec<_>>().iter().find(is_it).cloned().unwrap_or_default()
}

/// The template with paths in place of its classes' references: those at which our agents have the files.
pub(crate) fn with_paths(template: &Value) -> Value {
    let mut template = template.clone();
    for class in template["spec"]["scrapeClasses"].as_array_mut().into_iter().flatten() {
        if let Some(tls) = class.get_mut("tlsConfig") {
            for (key, file) in [("ca", "caFile"), ("cert", "certFile")] {
                let reference = take(tls, key);
                for (kind, directory) in [("secret", "secrets"), ("configMap", "configmaps")] {
                    put_path(tls, file, directory, &reference[kind]);
                }
            }
            let key = take(tls, "keySecret");
            put_path(tls, "keyFile", "secrets", &key);
        }
        if let Some(authorization) = class.get_mut("authorization") {
            let credentials = take(authorization, "credentials");
            put_path(authorization, "credentialsFile", "secrets", &credentials);
        }
    }
    template
}

fn put_path(section: &mut Value, key: &str, directory: &str, reference: &Value) {
    if let (Some(name), Some(entry)) = (reference["name"].as_str(), reference["key"].as_str()) {
        section[key] = json!(format!("{directory}/{name}/{entry}"));
    }
}

/// The template without what its classes say of authentication.
pub(crate) fn without_authorization(template: &Value) -> Value {
    let mut template = template.clone();
    for class in template["spec"]["scrapeClasses"].as_array_mut().into_iter().flatten() {
        take(class, "authorization");
    }
    template
}

/// What is another way of classes.
pub(crate) fn differences(ours: &mut Value, theirs: &mut Value, place: &Place<'_>, fired: &mut Fired) {
    let states = |key: &str| theirs.get(key).is_some();
    let has_another = ["basic_auth", "oauth2", "bearer_token"].into_iter().any(states);
    let is_the_classes = ours.get("authorization").is_none() || states("bearer_token");
    if has_another && states("authorization") && is_the_classes && place.class["authorization"].is_object() {
        // Prometheus takes no such file.
        fired.note("a class does not add a second way to authenticate");
        take(theirs, "authorization");
    }
    authorization(ours, theirs, place, fired);
    tls(ours, theirs, place, fired);
}

/// A file of the template, where upstream has nothing or, by chance, what it loaded for somebody else.
fn authorization(ours: &mut Value, theirs: &mut Value, place: &Place<'_>, fired: &mut Fired) {
    let reference = &place.class["authorization"]["credentials"];
    let Some(key) = reference["key"].as_str() else { return };
    let own = &ours["authorization"]["credentials_file"];
    let upstream = &theirs["authorization"];
    let nothing =
        upstream["credentials"].is_null() || upstream["credentials"] == secret_value(place.namespace, key);
    if *own == format!("secrets/credentials/{key}") && upstream.is_object() && nothing {
        fired.note("credentials of classes are loaded");
        take(&mut ours["authorization"], "credentials_file");
        take(&mut theirs["authorization"], "credentials");
    }
}

fn tls(ours: &mut Value, theirs: &mut Value, place: &Place<'_>, fired: &mut Fired) {
    let alone = json!({"spec": {"scrapeClasses": [place.class]}});
    let files = &with_paths(&alone)["spec"]["scrapeClasses"][0]["tlsConfig"];
    for (key, file) in [("ca_file", "caFile"), ("cert_file", "certFile"), ("key_file", "keyFile")] {
        let Some(own) = ours["tls_config"][key].as_str().filter(|own| files[file] == *own) else { continue };
        let mut parts = own.splitn(3, '/');
        let kind = match parts.next() {
            Some("secrets") => 0,
            Some("configmaps") => 1,
            // The monitor's own.
            _ => continue,
        };
        let (name, entry) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let upstream = &theirs["tls_config"][key];
        let dangling = format!("/etc/prometheus/certs/{kind}_{}_{name}_{entry}", place.namespace);
        if *upstream == dangling {
            fired.note("TLS files of classes are the template's");
            take(&mut theirs["tls_config"], key);
        } else if upstream.is_null() {
            fired.note("TLS files of classes complete an endpoint's own");
        } else {
            continue;
        }
        take(&mut ours["tls_config"], key);
    }
}
