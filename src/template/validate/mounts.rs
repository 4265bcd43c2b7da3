//! Mounts of the agent's container: those of volumes, and whole objects where upstream has them. PURE.
//!
//! Input: `volumeMounts`, and the names of `secrets` and `configMaps`. Output: mounts away from our own paths, and a volume an
//! object. Objects are optional: an absent one would hold back the application.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::clouds;
use super::object::Object;
use super::pod::{Extras, VOLUME_PREFIX};
use super::text;
use crate::names;
use crate::template::agent::FileSource;
use crate::template::violation::{Findings, Path, Rule};

/// Where nothing may be mounted, nor above: our files, the shadowed token, the agent's own program and shell.
const OUR_PATHS: [&str; 7] =
    [names::CONFIG_DIR, "/promsidecar", names::TOKEN_DIR, "/bin", "/proc", "/sys", "/dev"];

/// Mounts the objects of one list.
pub(super) fn objects(
    names: &[String],
    source: FileSource,
    places: &mut BTreeSet<String>,
    extras: &mut Extras,
    findings: &mut Findings,
) {
    let (field, kind, name_field) = match source {
        FileSource::Secret => ("secrets", "secret", "secretName"),
        FileSource::ConfigMap => ("configMaps", "configMap", "name"),
    };
    let root = Path::root("spec").key(field);
    for (index, name) in names.iter().enumerate() {
        let path = root.index(index);
        let place = format!("/etc/prometheus/{}/{name}", field.to_ascii_lowercase());
        if !text::is_subdomain(name) {
            findings.violation(&path, name, Rule::Text("is not the name of an object (RFC 1123)"));
        } else if places.insert(place.clone()) {
            // By number: names of objects may be longer than those of volumes.
            let volume = format!("promsidecar-{}-{index}", kind.to_ascii_lowercase());
            extras.volumes.push(json!({"name": volume, kind: {name_field: name, "optional": true}}));
            extras.volume_mounts.push(json!({"name": volume, "mountPath": place, "readOnly": true}));
            extras.objects.insert((source, name.clone()));
        } else {
            findings.violation(&path, name, Rule::Duplicate { of: "an earlier item".to_owned() });
        }
    }
}

/// One mount, with the volume's name prefixed.
pub(super) fn mount_of(
    mount: &Map<String, Value>,
    path: &Path,
    volumes: &BTreeSet<String>,
    places: &mut BTreeSet<String>,
    findings: &mut Findings,
) -> Option<Value> {
    let mut object = Object::of_map(mount, path);
    let name = object.text("name", findings);
    let place = object.text("mountPath", findings);
    let read_only = object.boolean("readOnly", findings);
    let sub_path = object.text_or_absent("subPath", findings).filter(|sub_path| !sub_path.is_empty());
    object.finish(findings);
    let (name, place) = (name?, place?);
    if !volumes.contains(&name) {
        let rule =
            Rule::Other { rule: "is not one of spec.volumes", fix: "add the volume, or correct the name" };
        findings.violation(&path.key("name"), name, rule);
        return None;
    }
    if let Some(rule) = forbidden_place(&place).or_else(|| clouds::forbidden_path(&place)) {
        findings.violation(&path.key("mountPath"), place, rule);
        return None;
    }
    if !places.insert(place.trim_end_matches('/').to_owned()) {
        findings.violation(
            &path.key("mountPath"),
            place,
            Rule::Duplicate { of: "an earlier mount".to_owned() },
        );
        return None;
    }
    let mut value = json!({"name": format!("{VOLUME_PREFIX}{name}"), "mountPath": place});
    if let Some(read_only) = read_only {
        value["readOnly"] = json!(read_only);
    }
    if let Some(sub_path) = sub_path {
        if !is_inside(&sub_path) {
            findings.violation(
                &path.key("subPath"),
                sub_path,
                Rule::Text("is not a relative path without .."),
            );
            return None;
        }
        value["subPath"] = json!(sub_path);
    }
    Some(value)
}

/// A runtime makes the directory of a mount, which it cannot below another mount that is read-only: the pod would not start.
pub(super) fn nested(extras: &Extras, findings: &mut Findings) {
    let parts = |mount: &Value| {
        let place = mount["mountPath"].as_str().unwrap_or_default();
        place.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let can_be_written = |mount: &Value| {
        let volume = extras.volumes.iter().find(|volume| volume["name"] == mount["name"]);
        volume.is_some_and(|volume| volume.get("emptyDir").is_some()) && mount["readOnly"] != true
    };
    for outer in extras.volume_mounts.iter().filter(|mount| !can_be_written(mount)) {
        let above = parts(outer);
        let is_below = |mount: &&Value| {
            let inner = parts(mount);
            inner.len() > above.len() && inner.starts_with(&above)
        };
        for inner in extras.volume_mounts.iter().filter(is_below) {
            let rule = Rule::Other {
                rule: "lies below another mount that cannot be written, so that the pod would not start",
                fix: "mount one of the two elsewhere",
            };
            let place = inner["mountPath"].as_str().unwrap_or_default();
            findings.violation(&Path::root("spec").key("volumeMounts"), place, rule);
        }
    }
}

fn forbidden_place(place: &str) -> Option<Rule> {
    let parts: Vec<&str> = place.split('/').filter(|part| !part.is_empty()).collect();
    let plain = place.starts_with('/')
        && place.len() <= 1024
        && !place.contains(':')
        && !place.chars().any(char::is_control)
        && !parts.iter().any(|part| matches!(*part, "." | ".."));
    if !plain {
        return Some(Rule::Text("is not an absolute path without . and .. and colons"));
    }
    let meets = |ours: &str| {
        let ours: Vec<&str> = ours.split('/').filter(|part| !part.is_empty()).collect();
        ours.starts_with(&parts) || parts.starts_with(&ours)
    };
    // The usual link from /var/run to /run is followed by runtimes.
    let meets_token = parts.starts_with(&["run", "secrets"]) || parts == ["run"];
    (meets_token || OUR_PATHS.iter().any(|ours| meets(ours))).then_some(Rule::Other {
        rule: "is, holds or lies under a path that the agent needs",
        fix: "mount the volume elsewhere",
    })
}

/// Whether a path stays below the directory that it begins in.
pub(super) fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= 1024
        && !path.starts_with('/')
        && !path.contains(':')
        && !path.chars().any(char::is_control)
        && path.split('/').all(|part| !part.is_empty() && part != "." && !part.starts_with(".."))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::{nested, objects};
    use crate::template::agent::FileSource;
    use crate::template::validate::pod::Extras;
    use crate::template::violation::Findings;

    #[test]
    fn whole_objects_are_optional_read_only_and_among_those_that_a_namespace_has_to_allow() {
        let (mut places, mut extras, mut findings) =
            (BTreeSet::new(), Extras::default(), Findings::default());
        objects(&["a.b".to_owned()], FileSource::Secret, &mut places, &mut extras, &mut findings);
        objects(&["a.b".to_owned()], FileSource::ConfigMap, &mut places, &mut extras, &mut findings);
        assert_eq!(findings.violations, []);
        assert_eq!(
            extras.volumes,
            [
                json!({"name": "promsidecar-secret-0", "secret": {"secretName": "a.b", "optional": true}}),
                json!({"name": "promsidecar-configmap-0", "configMap": {"name": "a.b", "optional": true}}),
            ]
        );
        let mount = |name: &str, path: &str| json!({"name": name, "mountPath": path, "readOnly": true});
        assert_eq!(
            extras.volume_mounts,
            [
                mount("promsidecar-secret-0", "/etc/prometheus/secrets/a.b"),
                mount("promsidecar-configmap-0", "/etc/prometheus/configmaps/a.b"),
            ]
        );
        let both = [FileSource::Secret, FileSource::ConfigMap].map(|source| (source, "a.b".to_owned()));
        assert_eq!(extras.objects, BTreeSet::from(both));
    }

    #[test]
    fn nothing_is_mounted_below_what_cannot_be_written() {
        let of = |volume: serde_json::Value, read_only: bool, inner: &str| {
            let extras = Extras {
                volumes: vec![volume, json!({"name": "b", "secret": {"secretName": "b"}})],
                volume_mounts: vec![
                    json!({"name": "a", "mountPath": "/etc/prometheus/", "readOnly": read_only}),
                    json!({"name": "b", "mountPath": inner}),
                ],
                ..Extras::default()
            };
            let mut findings = Findings::default();
            nested(&extras, &mut findings);
            findings.violations.len()
        };
        let config_map = || json!({"name": "a", "configMap": {"name": "a"}});
        let scratch = || json!({"name": "a", "emptyDir": {}});
        assert_eq!(of(config_map(), false, "/etc/prometheus/secrets/b"), 1);
        assert_eq!(of(scratch(), true, "/etc/prometheus/secrets/b"), 1);
        assert_eq!(of(scratch(), false, "/etc/prometheus/secrets/b"), 0);
        assert_eq!(of(config_map(), false, "/etc/prometheus-too"), 0);
        assert_eq!(of(config_map(), false, "/etc"), 1, "the other way round: a Secret cannot be written");
    }
}
