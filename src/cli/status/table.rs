//! How templates and their pods are. PURE.
//!
//! Input: templates, and metadata of pods that asked, as the API server lists them. Output: a row for each template, and the pods
//! that asked in vain.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::admission::status;
use crate::cluster::seen::{Forbidden, annotation, label, list, name, namespace, text};
use crate::names;
use crate::template::agent::TemplateId;

/// What is asked of the cluster.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Seen {
    /// `PrometheusAgents`, claimed or not.
    pub(super) templates: Vec<Value>,
    /// Metadata of pods that asked.
    pub(super) pods: Vec<Value>,
    /// Why templates of a namespace cannot be seen; of no namespace: those of all.
    pub(super) hidden: BTreeMap<String, Forbidden>,
    /// What could not be seen.
    pub(super) notes: Vec<String>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Status {
    pub(super) templates: Vec<Row>,
    /// Pods without the agent that they asked for: namespace, reason, how many.
    pub(super) skipped: BTreeMap<(String, String), usize>,
    pub(super) notes: Vec<String>,
}

/// One template.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) id: TemplateId,
    pub(super) generation: i64,
    /// Why it cannot be seen, if it cannot.
    pub(super) hidden: Option<Forbidden>,
    /// Status, reason and message of both conditions; nothing where no controller wrote it.
    pub(super) reconciled: Option<Condition>,
    pub(super) available: Option<Condition>,
    /// Pods of all namespaces, those that are up to date, those whose agent is ready.
    pub(super) counts: Option<[u64; 3]>,
    /// Its pods, of those that are looked at.
    pub(super) pods: Pods,
}

/// What is seen of the pods of a template.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Pods {
    pub(super) namespaces: BTreeSet<String>,
    /// How many a newer promsidecar injected.
    pub(super) newer: usize,
}

/// One condition.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Condition {
    pub(super) status: String,
    pub(super) reason: String,
    pub(super) message: String,
    /// Whether it is of the template as it is.
    pub(super) current: bool,
}

impl Status {
    /// What was seen, as far as it is claimed by `controller_id`.
    pub(super) fn of(seen: &Seen, controller_id: &str) -> Self {
        let mut pods: BTreeMap<TemplateId, Pods> = BTreeMap::new();
        let mut skipped = BTreeMap::new();
        for pod in &seen.pods {
            let place = namespace(pod).to_owned();
            match label(pod, names::INJECTED) {
                Some("true") => {
                    if let Some(written) = annotation(pod, names::STATUS).and_then(status::read) {
                        let pods: &mut Pods = pods.entry(written.template.clone()).or_default();
                        pods.namespaces.insert(place);
                        pods.newer += usize::from(written.is_newer());
                    }
                }
                Some(_) => {
                    let reason = annotation(pod, names::SKIPPED).unwrap_or_default();
                    let reason = reason.split(':').next().unwrap_or_default().to_owned();
                    *skipped.entry((place, reason)).or_default() += 1;
                }
                None => {}
            }
        }
        let claimed = |object: &&Value| annotation(object, names::CONTROLLER_ID) == Some(controller_id);
        let mut templates: Vec<Row> =
            seen.templates.iter().filter(claimed).map(|object| row(object, &mut pods)).collect();
        // Pods outlive their templates.
        templates.extend(pods.into_iter().map(|(id, pods)| Row {
            hidden: seen.hidden.get(&id.namespace).or_else(|| seen.hidden.get("")).cloned(),
            id,
            generation: 0,
            reconciled: None,
            available: None,
            counts: None,
            pods,
        }));
        templates.sort_by(|a, b| a.id.cmp(&b.id));
        Self { templates, skipped, notes: seen.notes.clone() }
    }

    /// Whether every template is in force as it is: what is told of an older version says nothing of the present one.
    pub(super) fn is_good(&self) -> bool {
        let good = |condition: &Option<Condition>| {
            condition.as_ref().is_some_and(|condition| condition.status == "True" && condition.current)
        };
        self.templates.iter().all(|row| good(&row.reconciled) && good(&row.available))
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let condition = |condition: &Option<Condition>| {
            condition.as_ref().map(|Condition { status, reason, message, current }| {
                json!({"status": status, "reason": reason, "message": message, "current": current})
            })
        };
        let templates = self.templates.iter().map(|row| {
            let counts = row
                .counts
                .map(|[all, updated, ready]| json!({"all": all, "updated": updated, "ready": ready}));
            json!({
                "template": row.id.to_string(),
                "generation": row.generation,
                "reconciled": condition(&row.reconciled),
                "available": condition(&row.available),
                "pods": counts,
                "newer": row.pods.newer,
                "namespaces": row.pods.namespaces,
            })
        });
        let skipped = self.skipped.iter().map(
            |((namespace, reason), count)| json!({"namespace": namespace, "reason": reason, "pods": count}),
        );
        json!({
            "templates": templates.collect::<Vec<_>>(),
            "skipped": skipped.collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

fn row(object: &Value, pods: &mut BTreeMap<TemplateId, Pods>) -> Row {
    let id = TemplateId { namespace: namespace(object).to_owned(), name: name(object).to_owned() };
    let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
    let status = &object["status"];
    let condition = |kind: &str| {
        let found = list(&status["conditions"]).iter().find(|condition| condition["type"] == kind)?;
        Some(Condition {
            status: text(&found["status"]).to_owned(),
            reason: text(&found["reason"]).to_owned(),
            message: text(&found["message"]).to_owned(),
            current: found["observedGeneration"] == generation,
        })
    };
    let count = |key: &str| status[key].as_u64();
    let counts = count("replicas").zip(count("updatedReplicas")).zip(count("availableReplicas"));
    Row {
        reconciled: condition("Reconciled"),
        available: condition("Available"),
        counts: counts.map(|((all, updated), ready)| [all, updated, ready]),
        pods: pods.remove(&id).unwrap_or_default(),
        id,
        generation,
        hidden: None,
    }
}

/// The heading of the table.
pub(super) const HEADING: [&str; 8] =
    ["NAMESPACE", "TEMPLATE", "RECONCILED", "AVAILABLE", "PODS", "UP-TO-DATE", "READY", "NAMESPACES"];

impl Row {
    /// The cells of the table.
    pub(super) fn cells(&self) -> [String; 8] {
        let condition = |condition: &Option<Condition>| match condition {
            None => "-".to_owned(),
            // Of an older version: the controller has not seen the present one.
            Some(Condition { status, current: false, .. }) => format!("{status}?"),
            Some(Condition { status, .. }) => status.clone(),
        };
        let count =
            |index: usize| self.counts.map_or_else(|| "-".to_owned(), |counts| counts[index].to_string());
        let namespaces = match self.pods.namespaces.len() {
            0 => "-".to_owned(),
            1..=3 => self.pods.namespaces.iter().cloned().collect::<Vec<_>>().join(","),
            many => many.to_string(),
        };
        [
            self.id.namespace.clone(),
            self.id.name.clone(),
            condition(&self.reconciled),
            condition(&self.available),
            count(0),
            count(1),
            count(2),
            namespaces,
        ]
    }

    /// What there is to say of it, a line each: what is wrong and, if `wide`, all else.
    pub(super) fn remarks(&self, wide: bool) -> Vec<String> {
        let conditions = [("Reconciled", &self.reconciled), ("Available", &self.available)];
        let mut remarks: Vec<String> = conditions
            .into_iter()
            .filter_map(|(kind, condition)| {
                let Condition { status, reason, message, .. } = condition.as_ref()?;
                if status == "True" && (!wide || message.is_empty()) {
                    return None;
                }
                let separator = if message.is_empty() { "" } else { ": " };
                Some(format!("{}: {kind} is {status}: {reason}{separator}{message}", self.id))
            })
            .collect();
        if let Some(forbidden) = &self.hidden {
            let why = &forbidden.0;
            remarks
                .push(format!("{}: its pods run; cannot tell how it is, because you may not {why}", self.id));
        } else if self.reconciled.is_none() && self.generation == 0 {
            remarks.push(format!("{}: its pods run, and it is not there", self.id));
        } else if self.reconciled.is_none() {
            remarks.push(format!("{}: no controller has looked at it: see promsidecar check", self.id));
        } else if conditions.iter().any(|(_, found)| found.as_ref().is_some_and(|found| !found.current)) {
            remarks.push(format!(
                "{}: no controller has looked at it since its last edit: see promsidecar check",
                self.id
            ));
        }
        match self.pods.newer {
            0 => {}
            newer => remarks.push(format!(
                "{}: a newer promsidecar injected {newer} of its pods: only that one can tell whether they are up to date",
                self.id
            )),
        }
        if wide && self.pods.namespaces.len() > 3 {
            let all = self.pods.namespaces.iter().cloned().collect::<Vec<_>>().join(", ");
            remarks.push(format!("{}: its pods run in {all}", self.id));
        }
        remarks
    }
}

/// Templates of other namespaces that pods use, which a list of one namespace does not have: namespace and name.
pub(super) fn elsewhere(seen: &Seen, place: Option<&str>) -> BTreeSet<(String, String)> {
    let used = seen.pods.iter().filter_map(|pod| status::read(annotation(pod, names::STATUS)?));
    let ids = used.map(|written| (written.template.namespace, written.template.name));
    ids.filter(|(namespace, _)| place.is_some_and(|place| place != namespace)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Seen, Status};
    use crate::cluster::seen::Forbidden;
    use crate::names;

    fn template(name: &str, status: &Value) -> Value {
        let annotations = json!({(names::CONTROLLER_ID): "promsidecar"});
        json!({
            "metadata": {"namespace": "a", "name": name, "generation": 2, "annotations": annotations},
            "status": status,
        })
    }

    fn pod(place: &str, injected: &str, key: &str, value: &str) -> Value {
        let labels = json!({(names::INJECTED): injected});
        json!({"metadata": {"namespace": place, "labels": labels, "annotations": {key: value}}})
    }

    fn seen() -> Seen {
        let condition = |kind: &str, status: &str, generation: i64, message: &str| {
            json!({
                "type": kind, "status": status, "reason": "Because", "message": message, "observedGeneration": generation,
            })
        };
        let good = json!({
            "replicas": 3, "updatedReplicas": 2, "availableReplicas": 1,
            "conditions": [condition("Reconciled", "True", 2, "derived: x"), condition("Available", "True", 1, "")],
        });
        let bad = json!({"conditions": [condition("Reconciled", "False", 2, "spec.version: no")]});
        let of = |template: &str| format!(r#"{{"version":1,"template":"a/{template}","hash":"h"}}"#);
        let newer = r#"{"version":2,"template":"a/one"}"#;
        Seen {
            templates: vec![
                template("two", &bad),
                template("one", &good),
                json!({"metadata": {"namespace": "a", "name": "foreign"}}),
            ],
            pods: vec![
                pod("b", "true", names::STATUS, &of("one")),
                pod("a", "true", names::STATUS, &of("one")),
                pod("b", "true", names::STATUS, &of("gone")),
                pod("b", "true", names::STATUS, newer),
                pod("b", "false", names::SKIPPED, "template-not-found: no x"),
            ],
            ..Seen::default()
        }
    }

    #[test]
    fn every_template_has_a_row_those_that_are_gone_while_pods_run_as_well() {
        let status = Status::of(&seen(), "promsidecar");
        let rows: Vec<String> = status.templates.iter().map(|row| row.cells().join(" ")).collect();
        assert_eq!(rows, ["a gone - - - - - b", "a one True True? 3 2 1 a,b", "a two False - - - - -"]);
        let remarks = |wide: bool| -> Vec<String> {
            status.templates.iter().flat_map(|row| row.remarks(wide)).collect()
        };
        let wrong = [
            "a/gone: its pods run, and it is not there",
            "a/one: no controller has looked at it since its last edit: see promsidecar check",
            "a/one: a newer promsidecar injected 1 of its pods: only that one can tell whether they are up to date",
            "a/two: Reconciled is False: Because: spec.version: no",
        ];
        assert_eq!(remarks(false), wrong);
        let derived = "a/one: Reconciled is True: Because: derived: x";
        assert_eq!(remarks(true), [wrong[0], derived, wrong[1], wrong[2], wrong[3]]);
        for (namespace, expected) in [
            ("", "a/gone: its pods run; cannot tell how it is, because you may not list templates"),
            ("a", "a/gone: its pods run; cannot tell how it is, because you may not list templates"),
            ("b", wrong[0]),
        ] {
            let hidden = [(namespace.to_owned(), Forbidden("list templates".to_owned()))].into();
            let status = Status::of(&Seen { hidden, ..seen() }, "promsidecar");
            assert_eq!(status.templates[0].remarks(false), [expected], "{namespace}");
        }
        assert_eq!(status.skipped, [(("b".to_owned(), "template-not-found".to_owned()), 1)].into());
        assert!(!status.is_good());
    }

    #[test]
    fn an_edit_that_nobody_has_looked_at_is_not_in_force() {
        let is_good = |reconciled: i64, available: i64| {
            let condition = |kind: &str, generation: i64| json!({"type": kind, "status": "True", "observedGeneration": generation});
            let conditions = [condition("Reconciled", reconciled), condition("Available", available)];
            let templates = vec![template("one", &json!({"conditions": conditions}))];
            Status::of(&Seen { templates, ..Seen::default() }, "promsidecar").is_good()
        };
        assert_eq!([is_good(2, 2), is_good(1, 2), is_good(2, 1), is_good(1, 1)], [true, false, false, false]);
    }

    #[test]
    fn programs_read_the_same() {
        let status = Status::of(&seen(), "promsidecar").json();
        assert_eq!(status["templates"][1]["pods"], json!({"all": 3, "updated": 2, "ready": 1}));
        assert_eq!(status["templates"][1]["newer"], json!(1));
        assert_eq!(status["templates"][1]["available"]["current"], json!(false));
        assert_eq!(status["skipped"], json!([{"namespace": "b", "reason": "template-not-found", "pods": 1}]));
    }
}
