//! Templates with text, keys, sizes and depths that nobody would write: refused in short lines, or rendered as what they
//! are.

mod support;

use std::collections::BTreeMap;

use promsidecar::manifest;
use promsidecar::monitors::selection::Selection;
use promsidecar::template::agent::Agent;
use promsidecar::template::render;
use promsidecar::template::violation::Violation;
use serde_json::{Value, json};
use support::contract::is_line;
use support::template::{all_places, full_spec, judge, judge_spec, parts, paths, template, with};

/// Text for every place that takes text, and for keys.
fn absurd() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "\0",
        "a\nb",
        "\u{202e}x",
        "\u{2028}",
        "$(POD_NAME)",
        "${HOME}",
        "$",
        "{{x}}",
        "\"}]",
        "- a: b",
        "a: &b [*b]",
        "99999999999999999999999999999999",
        "1e9999",
        "-1",
        "0",
        "-0",
        "NaN",
        "inf",
        "1E400Gi",
        "99999999999999999999Ei",
        "0x10",
        "1_000",
        "99999999999999999y",
        "1y1y",
        "1.5h",
        "584542047y",
        "18446744073709551616ms",
        "0s",
        "-5s",
        "v3",
        "v3.99999999999999999999.0",
        "3.13.5-rc.1+build",
        "http://",
        "https://user:pw@x/",
        "http://[::1",
        "http://x:99999/",
        "(",
        "(?<x>a)",
        "a{99999}",
        "*",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.push("x".repeat(20_000));
    texts.push("((((a*)*)*)*)".repeat(50));
    texts
}

/// Whatever was judged: lines of bounded length, or a configuration that is YAML.
fn sound(judged: &Result<Agent, Vec<Violation>>, what: &str) {
    let line = |text: &str| {
        let start: String = text.chars().take(80).collect();
        assert!(is_line(text), "{what}: {start:?}");
        assert!(text.len() < 1500, "{what}: {} bytes: {start}", text.len());
    };
    match judged {
        Err(violations) => {
            assert!(!violations.is_empty());
            for violation in violations {
                line(&violation.to_string());
            }
        }
        Ok(agent) => {
            for field in &agent.ignored {
                line(&format!("{}: {}", field.path, field.why));
            }
            agent
                .config
                .warnings
                .iter()
                .for_each(|warning| line(&format!("{}: {}", warning.path, warning.text)));
            let text = render::render(agent, "team-a", &Selection::default());
            let parsed: Value = serde_saphyr::from_str(&text).expect("a configuration is YAML");
            assert_eq!(parsed["scrape_configs"][0]["job_name"], "promsidecar/annotations", "{what}");
        }
    }
}

#[test]
fn absurd_text_in_any_field_is_refused_in_short_lines_or_rendered_as_text() {
    // One of each name will do: the same type stands in many places.
    let mut places = BTreeMap::new();
    for spec in parts() {
        for (pointer, path) in all_places(&spec) {
            if spec.pointer(&pointer).is_some_and(Value::is_string) {
                let field =
                    pointer.rsplit('/').find(|part| part.parse::<usize>().is_err()).unwrap_or_default();
                places.entry(field.to_owned()).or_insert_with(|| (spec.clone(), pointer.clone(), path));
            }
        }
    }
    assert!(places.len() > 60, "{}", places.len());
    for text in absurd() {
        for (spec, pointer, path) in places.values() {
            sound(&judge_spec(with(spec, pointer, json!(text))), path.as_str());
        }
    }
}

#[test]
fn absurd_keys_are_named_in_short_lines() {
    let parts = parts();
    for key in absurd() {
        for pointer in [
            "",
            "/externalLabels",
            "/remoteWrite/0/headers",
            "/remoteWrite/0/queueConfig",
            "/resources/limits",
            "/volumes/0",
            "/containers/0",
            "/otlp",
        ] {
            let mut spec =
                parts.iter().find(|part| part.pointer(pointer).is_some()).expect("one has it").clone();
            let map = spec.pointer_mut(pointer).and_then(Value::as_object_mut).expect("an object");
            map.insert(key.clone(), json!("x"));
            sound(&judge_spec(spec), pointer);
        }
        let mut object = template(json!({}));
        object["metadata"]["annotations"][format!("sidecar.prometheus.io/{key}")] = json!(7);
        sound(&judge(&object), "metadata.annotations");
    }
}

#[test]
fn a_megabyte_of_text_is_judged_like_less_of_it() {
    let text = "m".repeat(1 << 20);
    for pointer in [
        "/version",
        "/image",
        "/scrapeInterval",
        "/externalLabels/cluster",
        "/remoteWrite/0/url",
        "/remoteWrite/0/writeRelabelConfigs/0/regex",
    ] {
        sound(&judge_spec(with(&full_spec(), pointer, json!(text))), pointer);
    }
}

#[test]
fn many_wrong_values_are_reported_up_to_a_bound() {
    let headers: serde_json::Map<String, Value> =
        (0..5000).map(|index| (format!("X-{index}"), json!(index))).collect();
    let violations = judge_spec(json!({"remoteWrite": [{"url": "https://a.example", "headers": headers}]}));
    let count = paths(&violations).len();
    assert!(violations.is_err() && (50..=200).contains(&count), "{count}");
}

#[test]
fn a_deep_template_is_refused_or_judged_but_never_ends_the_process() {
    for depth in [100, 1_000, 20_000] {
        let nested = |open: &str, close: &str| format!("{}x{}", open.repeat(depth), close.repeat(depth));
        for value in [nested("[", "]"), nested("{a: ", "}")] {
            for field in ["future", "otlp", "tsdb", "containers", "externalLabels", "volumes"] {
                let text = format!(
                    "apiVersion: monitoring.coreos.com/v1alpha1\nkind: PrometheusAgent\nmetadata: {{name: shop}}\nspec: {{{field}: {value}}}\n"
                );
                match manifest::read(&text) {
                    Ok(documents) => drop(judge(&documents[0].object)),
                    Err(error) => assert!(is_line(&error.to_string()), "{error}"),
                }
            }
        }
    }
}
