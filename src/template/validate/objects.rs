//! `secrets` and `configMaps`: whole objects of the pod's namespace as directories, where upstream has them. PURE.
//!
//! Input: names. Output: a volume and a mount an object. Each is optional: an absent object would hold back the application.

use std::collections::BTreeSet;

use serde_json::json;

use super::pod::Extras;
use super::text;
use crate::template::agent::FileSource;
use crate::template::violation::{Findings, Path, Rule};

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
