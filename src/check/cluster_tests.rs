use serde_json::{Value, json};

use super::{api_server, definitions, kubelets};
use crate::check::facts::Facts;
use crate::check::finding::{Outcome, told};
use crate::cluster::seen::Forbidden;
use crate::names;

#[test]
fn an_api_server_that_is_too_old_or_says_nothing_is_told() {
    for (version, outcome) in
        [("v1.29.9", Outcome::Failed), ("v1.30.0-eks-1", Outcome::Ok), ("nightly", Outcome::Warning)]
    {
        let facts = Facts { version: version.to_owned(), ..Facts::default() };
        assert_eq!(told(&api_server(&facts))[0].0, outcome, "{version}");
    }
}

fn definition(version: &str, status: bool) -> Value {
    let subresources = if status { json!({"status": {}}) } else { json!({}) };
    json!({
        "metadata": {"annotations": {"operator.prometheus.io/version": "0.93.1"}},
        "spec": {"versions": [{"name": version, "served": true, "subresources": subresources}]},
        "status": {"conditions": [{"type": "Established", "status": "True"}]},
    })
}

#[test]
fn definitions_are_judged_by_what_they_serve_and_whose_they_are_is_told() {
    let mut facts = Facts::default();
    let agents = "prometheusagents.monitoring.coreos.com";
    let none = definitions(&facts);
    assert_eq!(told(&none)[0].0, Outcome::Failed);
    assert_eq!(
        told(&none)[1].1,
        "podmonitors.monitoring.coreos.com is not there, so there are no such monitors"
    );

    let mut ours = definition("v1alpha1", true);
    let mut taken_over = ours.clone();
    taken_over["metadata"]["labels"] = json!({"app.kubernetes.io/name": "promsidecar"});
    ours["metadata"] = json!({"labels": taken_over["metadata"]["labels"]});
    for (object, outcome, found) in [
        (definition("v1alpha1", true), Outcome::Ok, "v1alpha1 with status (prometheus-operator 0.93.1)"),
        (ours, Outcome::Ok, "v1alpha1 with status (promsidecar's own)"),
        // Installed over ours, whose label nobody took off.
        (taken_over, Outcome::Ok, "v1alpha1 with status (prometheus-operator 0.93.1)"),
        (definition("v1", true), Outcome::Failed, "does not serve v1alpha1"),
        (
            definition("v1alpha1", false),
            Outcome::Failed,
            "has no subresource status (prometheus-operator 0.93.1): the controller cannot tell how templates are",
        ),
    ] {
        facts.definitions.insert(agents, Ok(Some(object)));
        let findings = definitions(&facts);
        assert_eq!((findings[0].outcome, &*findings[0].found), (outcome, &*format!("{agents} {found}")));
    }
    facts.definitions.insert(agents, Err(Forbidden("get it".to_owned())));
    assert_eq!(told(&definitions(&facts))[0], (Outcome::NotChecked, "forbidden: you may not get it", ""));
}

fn node(name: &str, version: &str) -> Value {
    json!({"metadata": {"name": name}, "status": {"nodeInfo": {"kubeletVersion": version}}})
}

#[test]
fn old_kubelets_fail_what_insists_on_native_sidecars_and_change_the_mode_of_others() {
    let with = |version: &str, kubelets: &[&str]| Facts {
        version: version.to_owned(),
        nodes: Ok(kubelets.iter().map(|kubelet| node("n", kubelet)).collect()),
        ..Facts::default()
    };
    let ok = kubelets(&with("v1.31.0", &["v1.30.1", "v1.31.0"]));
    assert_eq!(
        told(&ok),
        [(Outcome::Ok, "2 nodes, the oldest 1.30: agents of mode auto are native sidecars", "")]
    );
    let none = kubelets(&with("v1.31.0", &[]));
    assert_eq!(told(&none), [(Outcome::Ok, "0 nodes: agents of mode auto are ordinary containers", "")]);

    let mut old = with("v1.31.0", &["v1.28.4", "v1.31.0"]);
    let warned = kubelets(&old);
    assert_eq!(warned[0].outcome, Outcome::Warning);
    assert_eq!(
        warned[0].found,
        "nodes older than 1.29 run no native sidecars: n (v1.28.4); so agents of mode auto are ordinary containers"
    );
    let annotations = json!({(names::CONTROLLER_ID): "promsidecar", (names::MODE): "native"});
    old.agents = Ok(vec![
        json!({"metadata": {"name": "one", "namespace": "a", "annotations": annotations}}),
        json!({"metadata": {"name": "two", "namespace": "a", "annotations": {(names::MODE): "native"}}}),
    ]);
    let failed = kubelets(&old);
    assert_eq!(failed[0].outcome, Outcome::Failed);
    assert!(failed[0].found.ends_with("templates of mode native: a/one"), "{}", failed[0].found);
    // A skew that nobody supports.
    assert_eq!(kubelets(&with("v1.33.0", &["v1.28.4"]))[0].outcome, Outcome::Failed);
}
