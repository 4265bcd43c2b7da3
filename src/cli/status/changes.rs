//! When to look again. IO: watches of the API server.
//!
//! Input: a client and a namespace. Output: a word whenever something of what is told may have changed, at most once in
//! [`TOGETHER`]: templates with their counts, and pods that asked.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::time::Duration;

use anyhow::anyhow;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};

use crate::cluster::explain::chain;
use crate::cluster::objects;
use crate::cluster::seen::Forbidden;
use crate::names;

/// Changes that come together are told together: a rollout changes every pod.
const TOGETHER: Duration = Duration::from_secs(1);

/// What a watch says.
enum Said {
    /// Something of what is told may be different.
    Changed,
    /// Nothing of it is.
    Same,
    /// Templates may not be watched: what the API server says.
    Forbidden(String),
    /// Something else may not be.
    Unseen(Forbidden),
}

/// What changes.
pub(super) struct Changes {
    said: BoxStream<'static, Said>,
    /// What is looked at only when something else changes.
    pub(super) notes: Vec<String>,
}

impl Changes {
    /// Follows templates, and metadata of pods that asked.
    pub(super) fn follow(client: &Client, place: Option<&str>) -> Self {
        let kind = objects::templates();
        let templates: Api<DynamicObject> = match place {
            Some(place) => Api::namespaced_with(client.clone(), place, &kind),
            None => Api::all_with(client.clone(), &kind),
        };
        let templates = watcher(templates, objects::paged()).default_backoff().map(of_templates);
        let pods: Api<PartialObjectMeta<Pod>> = match place {
            Some(place) => Api::namespaced(client.clone(), place),
            None => Api::all(client.clone()),
        };
        let place = place.map_or_else(|| "all namespaces".to_owned(), |place| format!("namespace {place}"));
        let mut told = Told::default();
        let pods = watcher(pods, objects::paged().labels(names::INJECTED))
            .default_backoff()
            .map(move |event| told.of_pods(&event, &place));
        Self::of(stream::select(templates, pods).boxed())
    }

    fn of(said: BoxStream<'static, Said>) -> Self {
        Self { said, notes: Vec::new() }
    }

    /// Waits for a change and for those that come with it. Where templates may not be watched is an error; everything else is tried
    /// again.
    pub(super) async fn next(&mut self) -> anyhow::Result<()> {
        loop {
            let said = self.said.next().await;
            if self.is_change(said)? {
                break;
            }
        }
        let mut together = pin!(tokio::time::sleep(TOGETHER));
        loop {
            let said = tokio::select! {
                () = &mut together => return Ok(()),
                said = self.said.next() => said,
            };
            self.is_change(said)?;
        }
    }

    fn is_change(&mut self, said: Option<Said>) -> anyhow::Result<bool> {
        match said {
            Some(Said::Changed) => Ok(true),
            Some(Said::Same) => Ok(false),
            Some(Said::Forbidden(why)) => Err(anyhow!("templates cannot be watched: {why}")),
            Some(Said::Unseen(forbidden)) => {
                let note = format!("{forbidden}: looked at when a template changes");
                let is_new = !self.notes.contains(&note);
                self.notes.extend(is_new.then_some(note));
                Ok(is_new)
            }
            None => Err(anyhow!("templates cannot be watched: the stream ended")),
        }
    }
}

fn of_templates(event: watcher::Result<Event<DynamicObject>>) -> Said {
    match event {
        Ok(Event::Apply(_) | Event::Delete(_) | Event::InitDone) => Said::Changed,
        Err(error) if is_forbidden(&error) => Said::Forbidden(chain(&error)),
        _ => Said::Same,
    }
}

/// What is told of each pod, by namespace and name. All else about a pod changes more often: its address, its conditions.
#[derive(Default)]
struct Told(HashMap<(Option<String>, String), u64>);

impl Told {
    fn of_pods(&mut self, event: &watcher::Result<Event<PartialObjectMeta<Pod>>>, place: &str) -> Said {
        let is_change = match event {
            Ok(Event::Init) => {
                self.0.clear();
                false
            }
            Ok(Event::InitApply(pod)) => {
                self.0.insert(key(pod), told(pod));
                false
            }
            Ok(Event::InitDone) => true,
            Ok(Event::Apply(pod)) => self.0.insert(key(pod), told(pod)) != Some(told(pod)),
            Ok(Event::Delete(pod)) => self.0.remove(&key(pod)).is_some(),
            Err(error) if is_forbidden(error) => {
                return Said::Unseen(Forbidden(format!("watch pods in {place}")));
            }
            Err(_) => false,
        };
        if is_change { Said::Changed } else { Said::Same }
    }
}

fn key(pod: &PartialObjectMeta<Pod>) -> (Option<String>, String) {
    (pod.namespace(), pod.name_any())
}

fn told(pod: &PartialObjectMeta<Pod>) -> u64 {
    let mut hasher = DefaultHasher::new();
    let annotations = pod.annotations();
    let what =
        (pod.labels().get(names::INJECTED), annotations.get(names::SKIPPED), annotations.get(names::STATUS));
    what.hash(&mut hasher);
    hasher.finish()
}

fn is_forbidden(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status))
        | WatchError(status) => status.is_forbidden(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::stream::{self, StreamExt};
    use k8s_openapi::api::core::v1::Pod;
    use kube::core::{PartialObjectMeta, Status};
    use kube::runtime::watcher::{Error, Event};
    use serde_json::json;

    use super::{Changes, Said, Told};
    use crate::cluster::seen::Forbidden;
    use crate::names;

    fn pod(name: &str, skipped: &str, version: &str) -> PartialObjectMeta<Pod> {
        let metadata = json!({
            "namespace": "shop", "name": name, "resourceVersion": version,
            "labels": {(names::INJECTED): "false"}, "annotations": {(names::SKIPPED): skipped},
        });
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    #[test]
    fn a_pod_changes_what_is_told_by_its_label_its_annotations_and_its_end_alone() {
        let mut told = Told::default();
        for (event, changes) in [
            (Event::Init, false),
            (Event::InitApply(pod("web", "a", "1")), false),
            (Event::InitDone, true),
            (Event::Apply(pod("web", "a", "2")), false),
            (Event::Apply(pod("web", "b", "3")), true),
            (Event::Apply(pod("api", "a", "4")), true),
            (Event::Delete(pod("web", "b", "5")), true),
            (Event::Init, false),
            (Event::InitDone, true),
            (Event::Apply(pod("api", "a", "6")), true),
        ] {
            let shown = format!("{event:?}");
            assert_eq!(
                matches!(told.of_pods(&Ok(event), "namespace shop"), Said::Changed),
                changes,
                "{shown}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_is_told_once_a_second() {
        let storm = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(7)).await;
            Some((Said::Changed, ()))
        });
        let mut changes = Changes::of(storm.boxed());
        let mut told = 0;
        let following = async {
            loop {
                changes.next().await.unwrap();
                told += 1;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(10), following).await.is_err());
        assert_eq!(told, 9, "each takes a second and what there is until the first change");
    }

    #[tokio::test(start_paused = true)]
    async fn pods_that_may_not_be_watched_are_noted_once_and_templates_are_an_error() {
        let forbidden =
            || Err(Error::WatchError(Status { reason: "Forbidden".to_owned(), ..Status::default() }.boxed()));
        let mut told = Told::default();
        let said: Vec<_> = (0..2).map(|_| told.of_pods(&forbidden(), "namespace shop")).collect();
        assert!(matches!(&said[0], Said::Unseen(Forbidden(what)) if what == "watch pods in namespace shop"));
        let mut changes = Changes::of(stream::iter(said).chain(stream::pending()).boxed());
        changes.next().await.unwrap();
        assert_eq!(
            changes.notes,
            ["forbidden: you may not watch pods in namespace shop: looked at when a template changes"]
        );
        let said = [Said::Same, Said::Forbidden("no".to_owned())];
        let mut changes = Changes::of(stream::iter(said).boxed());
        assert_eq!(changes.next().await.unwrap_err().to_string(), "templates cannot be watched: no");
    }
}
