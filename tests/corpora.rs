//! Pods that others wrote, and pods that nobody would write, made to opt in: every patch is judged by the API server's own
//! code. Each corpus prints what it came to, and fails when it comes to less than it did.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]
#![expect(clippy::print_stdout, reason = "the counts are what a reader of the log wants")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use promsidecar::admission::catalog::Catalog;
use promsidecar::admission::{Answer, OutcomeKind, Policy, admit};
use promsidecar::{manifest, names, workload};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use support::cases::{self, Case};
use support::golden::folders;
use support::judge::{Judge, levels};
use support::oracle;
use support::pods::pods;
use support::reviews::creation;

static CATALOG: LazyLock<Catalog> =
    LazyLock::new(|| support::catalog(include_str!("golden/admission/objects.yaml")));

/// Minor version of the newest fixtures; a newer corpus has to be noticed.
const NEWEST: u32 = 37;
/// Where the pods of the corpora are created.
const NAMESPACE: &str = "team-a";

/// How a pod asks, and on which cluster.
struct Way {
    template: &'static str,
    native: bool,
}

/// A template with credentials in an init container, and one with everything that templates may add in a container.
const WAYS: [Way; 2] =
    [Way { template: "true", native: true }, Way { template: "platform/full", native: false }];

/// What a corpus came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    /// Pods that the API server would send.
    pods: usize,
    injected: usize,
    /// Pods that asked, were not injected, and were told so on the pod.
    marked: usize,
    /// Patched pods that were valid before, and still are.
    valid: usize,
    /// Patched pods that satisfied the restricted level in its latest version, and still do.
    restricted: usize,
    /// The same of the baseline level.
    baseline: usize,
    /// Levels in their versions that were satisfied and still are, over all patched pods.
    levels: usize,
}

/// A corpus as it is gone through.
#[derive(Default)]
struct Corpus {
    tally: Tally,
    findings: Vec<String>,
}

impl Corpus {
    /// Admits a pod as the API server sends it, and has the patch judged. `admitted` is injection with everything around it.
    fn admit(
        &mut self,
        name: &str,
        pod: &Value,
        namespace: &str,
        levels: &[String],
        admitted: &dyn Fn(&Value) -> Answer,
    ) {
        self.tally.pods += 1;
        let Answer::Reviewed { body, outcome } = admitted(pod) else { return };
        let Some(patch) = support::patch(&body) else { return };
        let second = |pod: &Value| match admitted(pod) {
            Answer::Reviewed { body, .. } => {
                support::patch(&body).map(|patch| serde_json::from_slice(&patch).unwrap())
            }
            Answer::Failed { .. } | Answer::Unreadable { .. } => None,
        };
        let judge = Judge { namespace, levels, second: &second };
        let judgement = judge.judge(pod, &serde_json::from_slice(&patch).unwrap());
        self.findings.extend(judgement.findings.iter().map(|finding| format!("{name}: {finding}")));
        let tally = &mut self.tally;
        if outcome.kind == OutcomeKind::Injected {
            tally.injected += 1;
        } else {
            tally.marked += 1;
        }
        let satisfies = |level: &str| usize::from(judgement.satisfied.iter().any(|found| found == level));
        tally.valid += usize::from(judgement.was_valid);
        tally.restricted += satisfies("restricted:latest");
        tally.baseline += satisfies("baseline:latest");
        tally.levels += judgement.satisfied.len();
    }

    /// A pod that is made to ask in each way.
    fn ask(&mut self, name: &str, pod: &Value, levels: &[String]) {
        for way in &WAYS {
            let name = format!("{name} ({})", way.template);
            match oracle::sent(&opted_in(pod, way)) {
                Ok(sent) => {
                    self.admit(&name, &sent.pod, NAMESPACE, levels, &|pod| {
                        answer(pod, NAMESPACE, way.native)
                    });
                }
                Err(failure) => self.findings.push(format!("{name}: {failure:?}")),
            }
        }
    }

    /// Nothing was found, and there was as much to find it in as there should be.
    fn conclude(self, name: &str, minimum: Tally) {
        let Self { tally, findings } = self;
        println!("{name}: {tally:?}");
        let shown: Vec<_> = findings.iter().take(20).map(String::as_str).collect();
        assert!(findings.is_empty(), "{} findings, first of all\n{}", findings.len(), shown.join("\n"));
        let pairs = [
            ("pods", tally.pods, minimum.pods),
            ("injected", tally.injected, minimum.injected),
            ("marked", tally.marked, minimum.marked),
            ("valid", tally.valid, minimum.valid),
            ("restricted", tally.restricted, minimum.restricted),
            ("baseline", tally.baseline, minimum.baseline),
            ("levels", tally.levels, minimum.levels),
        ];
        for (what, found, least) in pairs {
            assert!(found >= least, "{name}: {found} {what}, expected {least} or more");
        }
    }
}

fn answer(pod: &Value, namespace: &str, native: bool) -> Answer {
    let review = serde_json::to_vec(&creation(pod, namespace)).unwrap();
    admit(&review, &CATALOG, &Policy { native_sidecars: native, ..Policy::default() })
}

/// The pod with a request and a port hint, as a user would write them.
fn opted_in(pod: &Value, way: &Way) -> Value {
    let mut pod = pod.clone();
    let metadata = &mut pod["metadata"];
    metadata["namespace"] = json!(NAMESPACE);
    if !metadata["annotations"].is_object() {
        metadata["annotations"] = json!({});
    }
    metadata["annotations"][names::INJECT] = json!(way.template);
    metadata["annotations"][names::PORT] = json!("8080");
    pod
}

/// Some levels, for corpora that are not about them.
fn few_levels() -> Vec<String> {
    ["v1.0", "latest"]
        .iter()
        .flat_map(|version| ["baseline", "restricted"].map(|level| format!("{level}:{version}")))
        .collect()
}

/// One statement of the Pod Security fixtures: this pod does or does not satisfy the level.
struct Claim {
    level: String,
    satisfied: bool,
}

/// The claims of all fixtures by the text of the pod: most pods stand in many versions.
fn fixtures() -> BTreeMap<String, Vec<Claim>> {
    let root = oracle::module("k8s.io/pod-security-admission").join("test/testdata");
    let mut fixtures: BTreeMap<String, Vec<Claim>> = BTreeMap::new();
    for level in ["baseline", "restricted"] {
        for version in folders(&root.join(level)) {
            for (folder, satisfied) in [("pass", true), ("fail", false)] {
                for file in files(&version.join(folder)) {
                    let version = version.file_name().unwrap().to_str().unwrap();
                    let claim = Claim { level: format!("{level}:{version}"), satisfied };
                    fixtures.entry(fs::read_to_string(file).unwrap()).or_default().push(claim);
                }
            }
        }
    }
    fixtures
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn fixtures_of_pod_security_keep_every_level_that_they_satisfy() {
    let levels = levels(NEWEST);
    let mut corpus = Corpus::default();
    let mut confirmed = 0;
    for (text, claims) in fixtures() {
        let mut pod: Value = serde_saphyr::from_str(&text).unwrap();
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        // The oracle is one only if it agrees with the fixtures.
        let violations = oracle::pod_security(&pod, &levels).unwrap();
        for claim in &claims {
            assert!(levels.contains(&claim.level), "{} is newer than 1.{NEWEST}", claim.level);
            let satisfied = !violations.contains_key(&claim.level);
            assert_eq!(satisfied, claim.satisfied, "{name}, {}: {violations:?}", claim.level);
            confirmed += 1;
        }
        // Some names hold underscores.
        pod["metadata"]["name"] = json!("fixture");
        corpus.ask(&name, &pod, &levels);
    }
    println!("Pod Security fixtures: {confirmed}");
    assert!(confirmed >= 4537, "{confirmed} fixtures, expected 4537 or more");
    let minimum = Tally {
        pods: 760,
        injected: 728,
        marked: 32,
        valid: 752,
        restricted: 54,
        baseline: 458,
        levels: 22020,
    };
    corpus.conclude("Pod Security pods", minimum);
}

#[test]
fn a_pod_with_every_field_of_every_version_keeps_them_all() {
    let root = oracle::module("k8s.io/api").join("testdata");
    let mut corpus = Corpus::default();
    for version in folders(&root) {
        let text = fs::read_to_string(version.join("core.v1.Pod.json")).unwrap();
        let mut pod: Value = serde_json::from_str(&text).unwrap();
        let spec = &mut pod["spec"];
        // What forbids injection, and what forbids it in a container.
        assert!(spec["hostNetwork"].take().is_boolean() && spec["restartPolicy"].take().is_string());
        corpus.ask(version.file_name().unwrap().to_str().unwrap(), &pod, &few_levels());
    }
    let minimum = Tally { pods: 10, injected: 10, ..Tally::default() };
    corpus.conclude("pods with every field", minimum);
}

/// Documents of the Kubernetes module that mention containers, each with the file that it stands in.
fn manifests() -> Vec<(String, String)> {
    let root = oracle::module("k8s.io/kubernetes");
    let (mut found, mut pending) = (Vec::new(), vec![root.clone()]);
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            // No manifests, but megabytes of schemas.
            if path != root.join("api") {
                pending.extend(files(&path));
            }
            continue;
        }
        let is_manifest =
            path.extension().is_some_and(|kind| kind == "yaml" || kind == "yml" || kind == "json");
        let text = if is_manifest { fs::read_to_string(&path).unwrap() } else { continue };
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        let parts = manifest::parts(&text).into_iter().map(|part| part.text);
        let with_pods = parts.filter(|text| text.contains("containers") && text.contains("kind"));
        found.extend(with_pods.map(|text| (name.clone(), text.to_owned())));
    }
    found
}

/// Pods of the manifests that the API server's decoder refuses: templates that happen to be YAML.
const REFUSED: [(&str, &str); 3] = [
    (
        "test/integration/scheduler_perf/event_handling/templates/poddelete-pod-blocker-topology-ports-resources.yaml",
        "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
    ),
    (
        "test/integration/scheduler_perf/event_handling/templates/poddelete-pod-nodeports.yaml",
        "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
    ),
    (
        "test/kubemark/resources/heapster_template.json",
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    ),
];
/// Texts that cannot be read and are no templates: one is wrong on purpose, one describes tests.
const UNREADABLE: [(&str, &str); 2] = [
    (
        "hack/testdata/invalid-deployment-unknown-and-duplicate-fields.yaml",
        "document 1: line 9 column 3: the same key stands twice in one object; remove one",
    ),
    ("test/conformance/testdata/conformance.yaml", "document 1: is not an object with apiVersion and kind"),
];

#[test]
fn manifests_of_kubernetes_itself_are_injected() {
    let mut corpus = Corpus::default();
    let (mut read, mut templates) = (0, 0);
    let (mut refused, mut unreadable) = (Vec::new(), Vec::new());
    for (name, text) in manifests() {
        let documents = match manifest::read(&text) {
            Ok(documents) => documents,
            Err(_) if ["{{", "__"].iter().any(|mark| text.contains(mark)) => {
                templates += 1;
                continue;
            }
            Err(error) => {
                unreadable.push((name, error.to_string()));
                continue;
            }
        };
        for pod in documents.iter().flat_map(|document| pods_of(&document.object)) {
            match oracle::sent(&pod) {
                Ok(_) => {
                    read += 1;
                    corpus.ask(&name, &pod, &few_levels());
                }
                Err(failure) => refused.push((name.clone(), failure.message)),
            }
        }
    }
    refused.sort();
    unreadable.sort();
    let (all, wrong) = (read + refused.len(), unreadable.len());
    println!(
        "manifests of Kubernetes: {all} have a pod, {read} of them are read, the decoder refuses {}; beside them {templates} \
         templates, {wrong} others",
        refused.len()
    );
    let owned =
        |list: &[(&str, &str)]| list.iter().map(|&(a, b)| (a.to_owned(), b.to_owned())).collect::<Vec<_>>();
    assert_eq!(refused, owned(&REFUSED));
    assert_eq!(unreadable, owned(&UNREADABLE));
    assert!(all >= 255, "{all} manifests have a pod, expected 255 or more");
    assert!(templates >= 19, "{templates} templates, expected 19 or more");
    let minimum =
        Tally { pods: 504, injected: 466, marked: 38, valid: 446, restricted: 6, baseline: 432, levels: 880 };
    corpus.conclude("manifests of Kubernetes", minimum);
}

/// The pods of a manifest, those of lists too.
fn pods_of(object: &Value) -> Vec<Value> {
    match object["items"].as_array() {
        Some(items) => items.iter().filter_map(workload::pod).collect(),
        None => workload::pod(object).into_iter().collect(),
    }
}

#[test]
fn goldens_hold_before_the_api_server() {
    let mut corpus = Corpus::default();
    for folder in folders(&cases::root()) {
        let case = Case::read(&folder);
        let name = folder.file_name().unwrap().to_str().unwrap();
        let request = &case.review["request"];
        // Cases of what no API server would send are not for it to judge.
        let Ok(sent) = oracle::sent(&request["object"]) else { continue };
        let namespace = request["namespace"].as_str().unwrap();
        corpus.admit(name, &sent.pod, namespace, &levels(NEWEST), &|pod| {
            let mut review = case.review.clone();
            review["request"]["object"] = pod.clone();
            case.admit(&review)
        });
    }
    let minimum = Tally {
        pods: 91,
        injected: 50,
        marked: 29,
        valid: 78,
        baseline: 78,
        levels: 3042,
        ..Tally::default()
    };
    corpus.conclude("goldens", minimum);
}

#[test]
fn generated_pods_hold_before_the_api_server() {
    const PODS: usize = 2400;
    let (mut runner, pods) = (TestRunner::deterministic(), pods());
    let mut corpus = Corpus::default();
    let (mut applied, mut no_pods) = (0, 0);
    for index in 0..PODS {
        let (pod, namespace) = pods.new_tree(&mut runner).unwrap().current();
        let native = index % 4 > 0;
        // As generated: with nulls and fields that no version has. The engines agree on all of it.
        if let Answer::Reviewed { body, .. } = answer(&pod, namespace, native)
            && let Some(patch) = support::patch(&body)
        {
            let patched = oracle::apply(&pod, &serde_json::from_slice(&patch).unwrap());
            assert_eq!(patched, Ok(support::apply(&pod, &patch)));
            applied += 1;
        }
        // As an API server would send it.
        match oracle::sent(&pod) {
            Ok(sent) => corpus.admit(&index.to_string(), &sent.pod, namespace, &few_levels(), &|pod| {
                answer(pod, namespace, native)
            }),
            Err(_) => no_pods += 1,
        }
    }
    println!("patches applied to generated JSON: {applied}; no pods: {no_pods}");
    assert!(applied >= 1500, "{applied} patches applied to generated JSON, expected 1500 or more");
    let minimum = Tally {
        pods: 1800,
        injected: 1200,
        marked: 400,
        valid: 1200,
        baseline: 1600,
        levels: 3200,
        ..Tally::default()
    };
    corpus.conclude("generated pods", minimum);
}
