use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Format, Manifests};

const POD: &str = "kind: Pod\nmetadata:\n  name: web # a comment\nspec: {containers: []}\n";

/// Writes the files into a folder and reads it.
fn read(files: &[(&str, &str)]) -> Manifests {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    match files {
        [(name, _)] => Manifests::read(&folder.path().join(name)).unwrap(),
        _ => Manifests::read(folder.path()).unwrap(),
    }
}

fn written(manifests: &Manifests, format: Option<Format>) -> String {
    let mut out = Vec::new();
    manifests.write(format, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Marks the pods of the given names.
fn mark(manifests: &mut Manifests, names: &[&str]) -> Vec<String> {
    let mut places = Vec::new();
    manifests
        .change(None, |place, pod| {
            let file = Path::new(place.file).file_name().unwrap().to_str().unwrap();
            places.push(format!(
                "{file} {} {}/{} {} {:?}",
                place.document,
                place.kind(),
                place.name(),
                place.namespace,
                place.pointer
            ));
            let changes = names.contains(&place.name());
            if changes {
                pod["spec"]["nodeName"] = json!("n1");
            }
            Ok(changes)
        })
        .unwrap();
    places
}

#[test]
fn documents_without_a_changed_pod_stand_byte_for_byte() {
    let texts = [
        "",
        "# only a comment\n",
        "\n---\n# head\n---\nkind:   Service   # odd  spaces\nspec:   {  a: 1 }\n...\n---\n",
        POD,
        "---\r\nkind: Pod\r\nspec:\r\n  containers: [ ]\r\n",
        "{\"kind\":\"Pod\",\n\t\"spec\" : {\"containers\":[]}}\n\n{\"kind\":\"Service\"}\n",
        "kind: List\nitems:\n- {kind: Pod, spec: {containers: []}}\n- kind: Service",
    ];
    for text in texts {
        let mut manifests = read(&[("a.yaml", text)]);
        mark(&mut manifests, &[]);
        assert_eq!(written(&manifests, None), text);
        assert_eq!(manifests.note(None), None);
    }
}

#[test]
fn a_changed_document_keeps_its_head_its_order_and_its_neighbours() {
    let text = format!(
        "# head\n--- # marker\n# licence\n\n{POD}---\nkind:   Service # stays\n--- {{kind: Pod, metadata: {{name: flow}}, spec: {{containers: []}}}}\n"
    );
    let mut manifests = read(&[("a.yaml", &text)]);
    let places = mark(&mut manifests, &["web", "flow"]);
    assert_eq!(places, ["a.yaml 1 Pod/web default \"\"", "a.yaml 3 Pod/flow default \"\""]);
    assert_eq!(
        written(&manifests, None),
        "# head\n--- # marker\n# licence\n\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers: []\n  nodeName: n1\n---\nkind:   Service # stays\n---\nkind: Pod\nmetadata:\n  name: flow\nspec:\n  containers: []\n  nodeName: n1\n"
    );
    assert_eq!(
        manifests.note(None).unwrap(),
        "2 documents were written anew, without their comments; the others stand as they were"
    );
}

#[test]
fn line_ends_and_byte_order_marks_stay_as_they_were() {
    let text = format!("\u{feff}# head\n{POD}").replace('\n', "\r\n");
    let mut manifests = read(&[("a.yaml", &text)]);
    mark(&mut manifests, &["web"]);
    assert_eq!(
        written(&manifests, None),
        "\u{feff}# head\r\nkind: Pod\r\nmetadata:\r\n  name: web\r\nspec:\r\n  containers: []\r\n  nodeName: n1\r\n"
    );
    let json = "\u{feff}{\"kind\":\"Pod\",\"metadata\":{\"name\":\"web\"},\"spec\":{\"containers\":[]}}";
    let mut manifests = read(&[("a.json", json)]);
    mark(&mut manifests, &["web"]);
    assert_eq!(written(&manifests, None), json.replace("[]}", "[],\"nodeName\":\"n1\"}"));
    // Between other texts it would be a character that no parser accepts.
    let joined = written(&read(&[("a.yaml", "kind: A\n"), ("b.yaml", "\u{feff}kind: B\n")]), None);
    assert_eq!(joined, "kind: A\n---\nkind: B\n");
}

#[test]
fn a_json_file_is_json_and_a_document_is_an_object() {
    let error = |name: &str, text: &str| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        let error = format!("{:#}", Manifests::read(&file).unwrap_err());
        error.replace(&format!("{}/", folder.path().display()), "")
    };
    assert_eq!(
        error("a.json", "{\"kind\": \"A\",}"),
        "a.json: document 1: is YAML, not JSON (key must be a string at line 1 column 14); correct it, or name the file .yaml"
    );
    assert_eq!(
        error("a.yaml", "kind: A\n---\n- 1\n"),
        "a.yaml: document 2: is not an object with apiVersion and kind"
    );
}

#[test]
fn names_in_a_manifest_cannot_forge_lines_of_a_log() {
    let text = "kind: \"Pod\\e[31m\"\nmetadata: {name: \"a\\nb\\u202e\", namespace: \"x\\ty\"}\nspec: {template: {spec: {containers: []}}}\n";
    let mut places = Vec::new();
    read(&[("a.yaml", text)])
        .change(None, |place, _| {
            places.push(place.to_string());
            Ok(false)
        })
        .unwrap();
    assert!(places[0].ends_with("a.yaml: document 1: Pod [31m/a b  in x y"), "{places:?}");
}

#[test]
fn lists_stay_indented_as_they_were() {
    for text in [
        "kind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - name: a\n    args:\n    - x\n",
        "kind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n    - name: a\n      args:\n        - x\n",
    ] {
        let mut manifests = read(&[("a.yaml", text)]);
        mark(&mut manifests, &["web"]);
        let expected = text.replace(" {name: web}", "\n  name: web") + "  nodeName: n1\n";
        assert_eq!(written(&manifests, None), expected);
    }
}

#[test]
fn json_stays_json_on_one_line_or_indented_as_it_was() {
    for (text, expected) in [
        (
            r#"{"spec":{"containers":[]},"kind":"Pod","metadata":{"name":"web"}}{"kind":"Service"}"#,
            r#"{"spec":{"containers":[],"nodeName":"n1"},"kind":"Pod","metadata":{"name":"web"}}{"kind":"Service"}"#,
        ),
        (
            "{\n\t\"kind\": \"Pod\",\n\t\"metadata\": {\"name\": \"web\"},\n\t\"spec\": {\"containers\": []}\n}\n",
            "{\n\t\"kind\": \"Pod\",\n\t\"metadata\": {\n\t\t\"name\": \"web\"\n\t},\n\t\"spec\": {\n\t\t\"containers\": [],\n\t\t\"nodeName\": \"n1\"\n\t}\n}\n",
        ),
    ] {
        let mut manifests = read(&[("a.json", text)]);
        mark(&mut manifests, &["web"]);
        assert_eq!(written(&manifests, None), expected);
        assert_eq!(manifests.note(None), None, "JSON has no comments to lose");
    }
}

#[test]
fn pods_are_found_in_lists_and_workloads() {
    let text = "
kind: List
items:
- kind: CronJob
  metadata: {name: nightly, namespace: team-a}
  spec: {jobTemplate: {spec: {template: {spec: {containers: []}}}}}
- kind: Service
- kind: Pod
  metadata: {generateName: web-}
  spec: {containers: []}
---
kind: Deployment
spec: {template: {spec: {containers: []}}}
";
    let mut manifests = read(&[("a.yaml", text)]);
    assert_eq!(
        mark(&mut manifests, &["nightly"]),
        [
            "a.yaml 1 CronJob/nightly team-a \"/items/0/spec/jobTemplate/spec/template\"",
            "a.yaml 1 Pod/web- default \"/items/2\"",
            "a.yaml 2 Deployment/unnamed default \"/spec/template\"",
        ]
    );
    let changes = manifests.changes().unwrap();
    let [change] = &changes[..] else { unreachable!("one object is changed: {changes:?}") };
    assert_eq!(change.document, 1);
    assert_eq!(change.after.replace("\n          nodeName: n1", ""), change.before);
    let own = |namespace: Option<&str>| {
        let mut namespaces = Vec::new();
        let mut manifests = read(&[("a.yaml", text)]);
        manifests
            .change(namespace, |place, _| {
                namespaces.push(place.namespace.to_owned());
                Ok(false)
            })
            .unwrap();
        namespaces
    };
    assert_eq!(own(None), ["team-a", "default", "default"]);
    assert_eq!(own(Some("other")), ["team-a", "other", "other"]);
}

#[test]
fn files_of_a_folder_are_one_stream() {
    let files = [
        ("a.yaml", "kind: A"),
        ("b.json", "{\"kind\": \"B\"}\n{\"kind\": \"C\"}\n"),
        ("c.yml", "---\nkind: D\n"),
        ("d.yaml", "# empty\n"),
        ("notes.txt", "kind: ["),
    ];
    let manifests = read(&files);
    let text = written(&manifests, None);
    assert_eq!(
        text,
        "kind: A\n---\n{\"kind\": \"B\"}\n---\n\n{\"kind\": \"C\"}\n---\nkind: D\n---\n# empty\n"
    );
    let kinds = |text: &str| -> Vec<String> {
        crate::manifest::read(text).unwrap().iter().map(|document| document.kind().to_owned()).collect()
    };
    assert_eq!(kinds(&text), ["A", "B", "C", "D"]);
    let first_is_json = written(&read(&[("a.json", "{\"kind\":\"A\"}"), ("b.yaml", "kind: B\n")]), None);
    assert_eq!(first_is_json, "---\n{\"kind\":\"A\"}\n---\nkind: B\n");
}

#[test]
fn a_syntax_that_is_asked_for_is_written_throughout() {
    let mut manifests = read(&[("a.yaml", &format!("# head\n{POD}---\nkind: Service # b\n"))]);
    mark(&mut manifests, &["web"]);
    assert_eq!(
        written(&manifests, Some(Format::Yaml)),
        "kind: Pod\nmetadata:\n  name: web\nspec:\n  containers: []\n  nodeName: n1\n---\nkind: Service\n"
    );
    let json = written(&manifests, Some(Format::Json));
    let values: Vec<Value> =
        serde_json::Deserializer::from_str(&json).into_iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(
        values,
        [
            json!({"kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": [], "nodeName": "n1"}}),
            json!({"kind": "Service"}),
        ]
    );
    assert!(manifests.note(Some(Format::Json)).unwrap().starts_with("every document was written anew"));
}

#[test]
fn a_broken_document_is_named_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    fs::write(&file, "kind: A\n---\nkind: [\n").unwrap();
    let error = format!("{:#}", Manifests::read(&file).unwrap_err());
    assert_eq!(error, format!("{}: document 2: line 3 column 7: unclosed bracket '['", file.display()));
}
