//! The kustomization of `webhook-config/` and its overlays: what kubectl builds fits together, and fits the code.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/kustomize.rs"]
mod kustomize;
#[path = "support/rbac.rs"]
mod rbac;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use clap::CommandFactory;
use kustomize::{
    DEPLOYMENTS, OVERLAYS, OWN_NAMESPACE, all, build, command_line, container, find, flag, folder, identity,
    of_kind, overlay, pod,
};
use promsidecar::cli::{Cli, values};
use promsidecar::names;
use promsidecar::webhook::config::Limits;
use serde_json::{Value, json};

fn identities(objects: &[Value]) -> BTreeSet<String> {
    let found: BTreeSet<_> = objects.iter().map(identity).collect();
    assert_eq!(found.len(), objects.len(), "each object is there once");
    found
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("{pointer} is a string in {value}"))
}

/// Labels of a selector without expressions.
fn labels(value: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
}

/// The Deployments whose pods have these labels.
fn selected<'a>(objects: &'a [Value], selector: &Value) -> Vec<&'a str> {
    let wanted = labels(selector);
    assert!(!wanted.is_empty(), "an empty selector selects everything");
    let has = |deployment: &&&Value| {
        let found = labels(&pod(deployment)["metadata"]["labels"]);
        wanted.iter().all(|(key, value)| found.get(key) == Some(value))
    };
    let deployments = of_kind(objects, "Deployment");
    deployments.iter().filter(has).map(|deployment| text(deployment, "/metadata/name")).collect()
}

/// Ports of a Deployment's container, by name.
fn ports(deployment: &Value) -> BTreeMap<&str, u64> {
    let ports = container(deployment)["ports"].as_array().expect("it has ports").iter();
    ports.map(|port| (text(port, "/name"), port["containerPort"].as_u64().unwrap())).collect()
}

#[test]
fn every_overlay_is_the_base_and_what_it_says() {
    let base = identities(&build(&folder("base")));
    let own = |kind: &str, name: &str| format!("{kind}/{OWN_NAMESPACE}/{name}");
    let mut expected: BTreeSet<String> = [
        "Namespace/promsidecar-system",
        "MutatingWebhookConfiguration/promsidecar",
        "ValidatingAdmissionPolicy/promsidecar-config-maps",
        "ValidatingAdmissionPolicyBinding/promsidecar-config-maps",
    ]
    .map(str::to_owned)
    .into();
    for name in DEPLOYMENTS {
        expected.extend(["ClusterRole", "ClusterRoleBinding"].map(|kind| format!("{kind}/{name}")));
        let kinds = ["ServiceAccount", "Role", "RoleBinding", "Deployment", "PodDisruptionBudget"];
        expected.extend(kinds.map(|kind| own(kind, name)));
        expected.extend([own("NetworkPolicy", name), own("Service", &format!("{name}-metrics"))]);
    }
    expected.insert(own("Service", "promsidecar-webhook"));
    assert_eq!(base, expected);

    let certificate = "promsidecar-controller-certificate";
    let self_managed = [
        own("Role", certificate),
        own("RoleBinding", certificate),
        format!("ClusterRole/{certificate}"),
        format!("ClusterRoleBinding/{certificate}"),
    ];
    let with_self_managed = |more: &[String]| [&self_managed, more].concat().into_iter().collect();
    let more: BTreeMap<&str, BTreeSet<String>> = [
        ("self-managed", with_self_managed(&[])),
        (
            "cert-manager",
            [
                own("Issuer", "promsidecar-self-signed"),
                own("Issuer", "promsidecar-ca"),
                own("Certificate", "promsidecar-ca"),
                own("Certificate", "promsidecar-webhook"),
            ]
            .into(),
        ),
        (
            "strict",
            with_self_managed(&[
                own("NetworkPolicy", "promsidecar-default-deny"),
                own("NetworkPolicy", "promsidecar-egress"),
            ]),
        ),
        ("high-availability", with_self_managed(&["PriorityClass/promsidecar".to_owned()])),
    ]
    .into();
    for name in OVERLAYS {
        let found = identities(&build(&overlay(name)));
        assert!(found.is_superset(&base), "{name}");
        assert_eq!(found.difference(&base).cloned().collect::<BTreeSet<_>>(), more[name], "{name}");
    }
}

#[test]
fn the_definitions_are_a_folder_of_their_own() {
    let found = identities(&build(&folder("crds")));
    let names = ["podmonitors", "prometheusagents", "servicemonitors"];
    let expected = names.map(|name| format!("CustomResourceDefinition/{name}.monitoring.coreos.com"));
    assert_eq!(found, expected.into());
}

#[test]
fn the_program_takes_the_arguments_and_variables_of_its_containers() {
    for (name, objects) in all() {
        for deployment in DEPLOYMENTS {
            let deployment = find(&objects, "Deployment", deployment);
            let line = command_line(deployment);
            let parsed =
                Cli::command().try_get_matches_from([&["promsidecar".to_owned()], &line[..]].concat());
            parsed.unwrap_or_else(|error| panic!("{name}: {error}"));
            let subcommand = text(deployment, "/metadata/labels/app.kubernetes.io~1component");
            assert_eq!(line[0], subcommand, "{name}");
            assert_eq!(container(deployment)["name"], subcommand);
            assert_eq!(flag(&line, "--own-namespace"), OWN_NAMESPACE);
        }
        let controller = find(&objects, "Deployment", "promsidecar-controller");
        // The pod's own name: what its Lease shows.
        assert_eq!(flag(&command_line(controller), "--pod-name"), "pod-1");
        let variables = container(controller)["env"].as_array().unwrap();
        let certificate = variables.iter().find(|variable| variable["name"] == "PROMSIDECAR_CERTIFICATE");
        let external = ["base", "cert-manager"].contains(&name);
        let expected = if external { "external" } else { "self-managed" };
        assert_eq!(certificate.unwrap()["value"], expected, "{name}");
    }
}

#[test]
fn the_names_are_those_of_the_code() {
    let program = Cli::command();
    let default = |command: &str, flag: &str| {
        let command = program.find_subcommand(command).unwrap();
        let flag = command.get_arguments().find(|argument| argument.get_long() == Some(flag)).unwrap();
        flag.get_default_values()[0].to_str().unwrap().to_owned()
    };
    for command in ["webhook", "controller"] {
        assert_eq!(default(command, "own-namespace"), OWN_NAMESPACE);
    }
    for (name, objects) in all() {
        let lease = rbac::permissions(&objects)
            .into_iter()
            .find(|permission| permission.resource == "leases" && permission.verb == "update");
        assert_eq!(lease.unwrap().name.as_deref(), Some(names::LEASE), "{name}");
        let secret = text(
            find(&objects, "Deployment", "promsidecar-webhook"),
            "/spec/template/spec/volumes/0/secret/secretName",
        );
        assert_eq!(secret, "promsidecar-webhook-tls");
        for permission in rbac::permissions(&objects) {
            let of = (permission.resource.as_str(), permission.verb.as_str());
            let limited_to = match of {
                ("secrets", verb) if verb != "create" => Some(secret),
                ("mutatingwebhookconfigurations", _) => Some("promsidecar"),
                ("leases", verb) if verb != "create" => Some(names::LEASE),
                _ => None,
            };
            assert_eq!(permission.name.as_deref(), limited_to, "{name}: {permission:?}");
        }
        let policy = find(&objects, "ValidatingAdmissionPolicy", "promsidecar-config-maps").to_string();
        let account = format!("system:serviceaccount:{OWN_NAMESPACE}:promsidecar-controller");
        assert!(policy.contains(&account) && policy.contains("'promsidecar-'"), "{policy}");
        assert!(policy.contains(&format!("['{}'] == '{}'", names::MANAGED_BY, names::MANAGER)), "{policy}");
        let service = find(&objects, "Service", "promsidecar-webhook");
        for entry in
            find(&objects, "MutatingWebhookConfiguration", "promsidecar")["webhooks"].as_array().unwrap()
        {
            let called = &entry["clientConfig"]["service"];
            assert_eq!(called["name"], service["metadata"]["name"], "{name}");
            assert_eq!(called["namespace"], service["metadata"]["namespace"], "{name}");
            assert_eq!(called["port"], service["spec"]["ports"][0]["port"], "{name}");
        }
    }
}

#[test]
fn ports_selectors_and_probes_lead_to_where_the_program_listens() {
    for (name, objects) in all() {
        let mut listens = BTreeMap::new();
        for deployment in DEPLOYMENTS {
            let deployment = find(&objects, "Deployment", deployment);
            let line = command_line(deployment);
            let address = |name: &str| u64::from(flag(&line, name).parse::<SocketAddr>().unwrap().port());
            let mut expected = BTreeMap::from([("admin", address("--admin-listen"))]);
            if line[0] == "webhook" {
                expected.insert("https", address("--listen"));
            }
            assert_eq!(ports(deployment), expected, "{name}");
            for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
                let get = &container(deployment)[probe]["httpGet"];
                assert_eq!(*get, json!({"path": path, "port": "admin"}), "{name}");
            }
            let own = text(deployment, "/metadata/name");
            assert_eq!(selected(&objects, &deployment["spec"]["selector"]["matchLabels"]), [own]);
            for constraint in pod(deployment)["spec"]["topologySpreadConstraints"].as_array().unwrap() {
                assert_eq!(selected(&objects, &constraint["labelSelector"]["matchLabels"]), [own]);
            }
            let budget = find(&objects, "PodDisruptionBudget", own);
            assert_eq!(selected(&objects, &budget["spec"]["selector"]["matchLabels"]), [own]);
            let policy = find(&objects, "NetworkPolicy", own);
            assert_eq!(selected(&objects, &policy["spec"]["podSelector"]["matchLabels"]), [own]);
            let rules = policy["spec"]["ingress"].as_array().unwrap().iter();
            let opened: BTreeSet<u64> = rules
                .flat_map(|rule| rule["ports"].as_array().unwrap())
                .map(|port| port["port"].as_u64().unwrap())
                .collect();
            assert_eq!(opened, expected.values().copied().collect(), "{name}");
            listens.insert(own, expected);
        }
        for service in of_kind(&objects, "Service") {
            let [deployment] = selected(&objects, &service["spec"]["selector"])[..] else {
                panic!("{name}: one Deployment behind {service}")
            };
            let [port] = &service["spec"]["ports"].as_array().unwrap()[..] else {
                panic!("one port: {service}")
            };
            let target = text(port, "/targetPort");
            assert!(listens[deployment].contains_key(target), "{name}: {service}");
            let metrics = text(service, "/metadata/name").ends_with("-metrics");
            assert_eq!(target, if metrics { "admin" } else { "https" }, "{name}: {service}");
        }
    }
}

#[test]
fn the_webhook_reads_its_certificate_where_it_is_mounted_and_not_the_authoritys_key() {
    for (name, objects) in all() {
        let deployment = find(&objects, "Deployment", "promsidecar-webhook");
        let line = command_line(deployment);
        let mounts = container(deployment)["volumeMounts"].as_array().unwrap();
        let [mount] = &mounts[..] else { panic!("one mount: {mounts:?}") };
        assert_eq!(mount.get("subPath"), None);
        let secret = &pod(deployment)["spec"]["volumes"][0]["secret"];
        let item = |key: &str| json!({"key": key, "path": key});
        assert_eq!(secret["items"], json!([item("tls.crt"), item("tls.key")]), "{name}");
        for (name, file) in [("--tls-cert-file", "tls.crt"), ("--tls-key-file", "tls.key")] {
            assert_eq!(flag(&line, name), format!("{}/{file}", text(mount, "/mountPath")));
        }
    }
}

#[test]
fn a_pod_has_time_to_end_in_order() {
    for (name, objects) in all() {
        let grace = |deployment| {
            let deployment = find(&objects, "Deployment", deployment);
            Duration::from_secs(pod(deployment)["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap())
        };
        let line = command_line(find(&objects, "Deployment", "promsidecar-webhook"));
        let drain = values::duration(flag(&line, "--drain-time")).unwrap();
        assert!(grace("promsidecar-webhook") > drain + Limits::default().stop, "{name}");
        let writes = promsidecar::controller::lease::Terms::default().margin();
        assert!(grace("promsidecar-controller") > writes, "{name}");
    }
}

/// Every key of that name, wherever it is.
fn keys(value: &Value, wanted: &str) -> usize {
    match value {
        Value::Object(map) => {
            map.iter().map(|(key, value)| usize::from(key == wanted) + keys(value, wanted)).sum()
        }
        Value::Array(items) => items.iter().map(|item| keys(item, wanted)).sum(),
        _ => 0,
    }
}

#[test]
fn no_manifest_has_a_ca_bundle_and_cert_manager_is_told_where_to_put_its_own() {
    for (name, objects) in all() {
        assert_eq!(objects.iter().map(|object| keys(object, "caBundle")).sum::<usize>(), 0, "{name}");
        let registration = find(&objects, "MutatingWebhookConfiguration", "promsidecar");
        let told = registration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"].as_str();
        if name == "cert-manager" {
            let certificate = find(&objects, "Certificate", "promsidecar-webhook");
            assert_eq!(told, Some(&*format!("{OWN_NAMESPACE}/{}", text(certificate, "/metadata/name"))));
            assert_eq!(certificate["spec"]["secretName"], "promsidecar-webhook-tls");
            let service = format!("promsidecar-webhook.{OWN_NAMESPACE}.svc");
            assert_eq!(certificate["spec"]["dnsNames"][0], service);
        } else {
            assert_eq!(told, None, "{name}");
        }
    }
}

#[test]
fn pods_satisfy_the_restricted_level_that_their_namespace_enforces() {
    let levels = ["restricted:latest".to_owned()];
    for (name, objects) in all() {
        let namespace = find(&objects, "Namespace", OWN_NAMESPACE);
        assert_eq!(text(namespace, "/metadata/labels/pod-security.kubernetes.io~1enforce"), "restricted");
        for deployment in of_kind(&objects, "Deployment") {
            let violations = support::oracle::pod_security(pod(deployment), &levels).unwrap();
            assert_eq!(violations, BTreeMap::new(), "{name}");
            let security = &container(deployment)["securityContext"];
            assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
        }
    }
    // It would be seen.
    let mut pod = pod(find(&build(&folder("base")), "Deployment", "promsidecar-webhook")).clone();
    pod["spec"]["securityContext"]["runAsNonRoot"] = json!(false);
    assert_eq!(support::oracle::pod_security(&pod, &levels).unwrap().len(), 1);
}

#[test]
fn the_webhook_may_write_nothing_and_secrets_are_for_whoever_makes_the_certificate() {
    for (name, objects) in all() {
        let permissions = rbac::permissions(&objects);
        let writes = permissions.iter().filter(|permission| {
            permission.account == "promsidecar-webhook"
                && !["get", "list", "watch"].contains(&&*permission.verb)
        });
        assert_eq!(writes.count(), 0, "{name}");
        let secrets = permissions.iter().filter(|permission| permission.resource == "secrets");
        let secrets: BTreeSet<_> = secrets
            .map(|permission| (permission.account.as_str(), permission.namespace.as_deref()))
            .collect();
        let expected = match name {
            "base" | "cert-manager" => BTreeSet::new(),
            _ => BTreeSet::from([("promsidecar-controller", Some(OWN_NAMESPACE))]),
        };
        assert_eq!(secrets, expected, "{name}");
        let lists_nodes = permissions.iter().any(|permission| permission.resource == "nodes");
        assert_eq!(lists_nodes, name != "strict", "{name}");
    }
}

#[test]
fn high_availability_is_three_replicas_on_nodes_of_their_own() {
    let objects = build(&overlay("high-availability"));
    let webhook = find(&objects, "Deployment", "promsidecar-webhook");
    assert_eq!(webhook["spec"]["replicas"], 3);
    for deployment in of_kind(&objects, "Deployment") {
        let spec = &pod(deployment)["spec"];
        assert_eq!(
            spec["priorityClassName"],
            find(&objects, "PriorityClass", "promsidecar")["metadata"]["name"]
        );
        let host = &spec["topologySpreadConstraints"][0];
        assert_eq!(host["topologyKey"], "kubernetes.io/hostname");
        assert_eq!(host["whenUnsatisfiable"], "DoNotSchedule");
        let replicas = deployment["spec"]["replicas"].as_u64().unwrap();
        let budget = find(&objects, "PodDisruptionBudget", text(deployment, "/metadata/name"));
        assert!(budget["spec"]["maxUnavailable"].as_u64().unwrap() < replicas);
    }
}

#[test]
fn the_image_is_of_this_version_and_can_be_replaced() {
    let shipped = format!("promsidecar:{}", env!("CARGO_PKG_VERSION"));
    for (name, objects) in all() {
        for deployment in of_kind(&objects, "Deployment") {
            assert_eq!(container(deployment)["image"], shipped, "{name}");
        }
    }
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["webhook-config/overlays/self-managed"],
        "images": [{"name": "promsidecar", "newName": "registry.example.com/promsidecar", "newTag": "other"}],
    });
    let objects = build_around(kustomization);
    for deployment in of_kind(&objects, "Deployment") {
        assert_eq!(container(deployment)["image"], "registry.example.com/promsidecar:other");
    }
}

/// Builds a kustomization whose resources are below the project's root.
fn build_around(mut kustomization: Value) -> Vec<Value> {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // kubectl takes no absolute path.
    let up = "../".repeat(directory.path().components().count() - 1);
    let root = env!("CARGO_MANIFEST_DIR").trim_start_matches('/');
    for resource in kustomization["resources"].as_array_mut().unwrap() {
        *resource = json!(format!("{up}{root}/{}", resource.as_str().unwrap()));
    }
    fs::write(directory.path().join("kustomization.yaml"), kustomization.to_string()).unwrap();
    build(directory.path())
}

#[test]
fn the_kustomizations_of_the_documents_build_and_change_something() {
    let shipped = build(&overlay("self-managed"));
    let mut built = 0;
    for document in ["webhook-config/README.md", "docs/operations.md"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document)).unwrap();
        for block in text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
            let example: Value = serde_saphyr::from_str(block).unwrap();
            if example["kind"] == "Kustomization" {
                assert_ne!(build_around(example), shipped, "{document}: {block}");
                built += 1;
            }
        }
    }
    assert_eq!(built, 2);
    // The other port is the same everywhere.
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md")).unwrap();
    let block = text.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let objects = build_around(serde_saphyr::from_str(block).unwrap());
    let webhook = find(&objects, "Deployment", "promsidecar-webhook");
    assert_eq!(flag(&command_line(webhook), "--listen"), "0.0.0.0:8443");
    assert_eq!(ports(webhook)["https"], 8443);
    let policy = find(&objects, "NetworkPolicy", "promsidecar-webhook");
    assert_eq!(policy["spec"]["ingress"][0]["ports"][0]["port"], 8443);
}
