//! The kinds of objects that are followed, and what is kept of each.
//!
//! Input: objects as the API server sends them. Output: templates as JSON; monitors, Services and namespaces as far as they
//! are read.

use futures_util::{Stream, TryStreamExt};
use k8s_openapi::api::core::v1::{self, ConfigMap, Namespace};
use kube::api::{ApiResource, DynamicObject, TypeMeta};
use kube::core::{GroupVersionKind, PartialObjectMeta};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use super::watch::map;
use crate::admission::catalog::NamespaceMeta;
use crate::monitors::any::AnyMonitor;
use crate::monitors::object::{self, Kind, MonitorId, MonitorKey};
use crate::monitors::service::Service;
use crate::names;
use crate::store::{inventory, last_good};
use crate::template::agent::TemplateId;
use crate::template::{API_VERSION, KIND};

/// Objects a page of a list.
const PAGE: u32 = 500;

/// The kind of templates.
pub fn templates() -> ApiResource {
    resource(API_VERSION, KIND)
}

/// A kind of monitors.
pub fn monitors(kind: Kind) -> ApiResource {
    resource(object::API_VERSION, kind.word())
}

fn resource(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or_default();
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

/// How long one request of a watch lasts; the next goes on where it ended.
const WATCH_SECONDS: u32 = 60;

/// A watch of all objects of a kind, listed in pages.
pub fn paged() -> watcher::Config {
    watcher::Config::default().page_size(PAGE).timeout(WATCH_SECONDS)
}

/// A watch of the templates of all namespaces, as JSON.
pub fn watch_templates(
    client: &Client,
) -> impl Stream<Item = watcher::Result<Event<(TemplateId, Value)>>> + use<> {
    let templates = Api::<DynamicObject>::all_with(client.clone(), &templates());
    watcher::watcher(templates, paged())
        .map_ok(|event| map(event, |object| (template_id(&object), to_json(object, API_VERSION, KIND))))
}

/// A monitor, or why it cannot be read.
pub type FoundMonitor = (MonitorKey, Result<AnyMonitor, object::ReadError>);

/// A watch of the monitors of a kind, of all namespaces.
pub fn watch_monitors(
    client: &Client,
    kind: Kind,
) -> impl Stream<Item = watcher::Result<Event<FoundMonitor>>> + use<> {
    let found = move |object: DynamicObject| {
        let id = MonitorId { namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
        let read = AnyMonitor::read(kind, &to_json(object, object::API_VERSION, kind.word()));
        (MonitorKey { kind, id }, read)
    };
    let monitors = Api::<DynamicObject>::all_with(client.clone(), &monitors(kind));
    watcher::watcher(monitors, paged()).map_ok(move |event| map(event, found))
}

/// A Service; nothing where its name or namespace is none.
pub type FoundService = (MonitorId, Option<Service>);

/// A watch of the Services of all namespaces. Whatever else is wrong with one is said of it where a monitor selects it.
pub fn watch_services(client: &Client) -> impl Stream<Item = watcher::Result<Event<FoundService>>> + use<> {
    let services = ApiResource::erase::<v1::Service>(&());
    let services = Api::<DynamicObject>::all_with(client.clone(), &services);
    watcher::watcher(services, paged()).map_ok(|event| map(event, found_service))
}

fn found_service(object: DynamicObject) -> FoundService {
    let id = MonitorId { namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
    let read = Service::read(&to_json(object, "v1", "Service"));
    (id, read.ok())
}

/// A last good version that is kept: whose it is, and the object if it can be read.
pub type Kept = Option<(TemplateId, Option<Value>)>;

/// A watch of the last good versions that the controller keeps in our own namespace.
pub fn watch_last_good(
    client: &Client,
    own_namespace: &str,
) -> impl Stream<Item = watcher::Result<Event<Kept>>> + use<> {
    let kept = Api::<ConfigMap>::namespaced(client.clone(), own_namespace);
    watcher::watcher(kept, paged().labels(names::LAST_GOOD))
        .map_ok(|event| map(event, |object| kept_version(&object)))
}

/// The monitor; why one cannot be read is logged.
pub fn readable((_, read): FoundMonitor) -> Option<AnyMonitor> {
    read.inspect_err(|error| tracing::warn!(%error, "object left out")).ok()
}

/// Namespace and name of a template.
pub fn template_id(object: &DynamicObject) -> TemplateId {
    TemplateId { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}

/// An object of a kind as JSON, without what nobody here reads.
pub fn to_json(mut object: DynamicObject, api_version: &str, kind: &str) -> Value {
    object.metadata.managed_fields = None;
    // An item of a list need not say what it is.
    object.types = Some(TypeMeta { api_version: api_version.to_owned(), kind: kind.to_owned() });
    // Maps with text keys, texts and numbers: nothing of it can fail to be JSON.
    serde_json::to_value(object).unwrap_or_default()
}

/// What is read of a namespace.
pub fn namespace(namespace: &PartialObjectMeta<Namespace>) -> inventory::Namespace {
    let (labels, annotations) = (namespace.labels(), namespace.annotations());
    let meta = NamespaceMeta::new(
        |key| labels.get(key).map(String::as_str),
        |key| annotations.get(key).map(String::as_str),
    );
    inventory::Namespace { meta, labels: labels.clone() }
}

/// A last good version: whose it is, and the object if it can be read. Nothing where the annotation does not say what the name
/// says, which alone nobody can edit.
fn kept_version(object: &ConfigMap) -> Kept {
    let id = object.annotations().get(names::TEMPLATE).and_then(|id| TemplateId::parse(id))?;
    if last_good::name(&id) != object.name_any() {
        return None;
    }
    let content = object.data.as_ref().and_then(|data| data.get(names::LAST_GOOD_KEY));
    let restored = last_good::restore(content.map_or("", String::as_str));
    if let Err(why) = &restored {
        tracing::warn!(template = %id, config_map = object.name_any(), error = why, "last good version cannot be read");
    }
    Some((id, restored.ok()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{found_service, kept_version};
    use crate::monitors::service::Refusal;
    use crate::names;
    use crate::store::last_good;
    use crate::template::agent::TemplateId;

    #[test]
    fn what_is_kept_is_whose_name_it_has() {
        let id = |name: &str| TemplateId { namespace: "a".to_owned(), name: name.to_owned() };
        let object = json!({"spec": {}});
        let mut kept = last_good::keep(&id("one"), &object, "own");
        assert_eq!(
            kept_version(&serde_json::from_value(kept.clone()).unwrap()),
            Some((id("one"), Some(object)))
        );
        kept["metadata"]["annotations"] = json!({(names::TEMPLATE): "a/two"});
        assert_eq!(kept_version(&serde_json::from_value(kept).unwrap()), None);
    }

    #[test]
    fn a_service_of_any_shape_is_one_and_what_is_wrong_with_it_is_said_where_it_is_selected() {
        for (name, spec, expected) in [
            ("web", json!({"selector": {"app": "web"}, "ports": [{"port": 80}]}), Some(Ok(()))),
            ("web", json!({}), Some(Err(Refusal::NoSelector))),
            (
                "web",
                json!({"selector": [7], "clusterIPs": {}}),
                Some(Err(Refusal::Misread(
                    "spec.selector has the wrong type: invalid type: sequence, expected a map".to_owned(),
                ))),
            ),
            ("not a name", json!({}), None),
        ] {
            let object = json!({"metadata": {"namespace": "a", "name": name}, "spec": spec, "status": 7});
            let (id, read) = found_service(serde_json::from_value(object).unwrap());
            assert_eq!(id.to_string(), format!("a/{name}"));
            assert_eq!(read.map(|service| service.spec.map(drop)), expected, "{spec}");
        }
    }
}
