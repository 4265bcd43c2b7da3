//! Tables of the documents that are made from those of the code.

mod support;

use std::fmt::Write;

use promsidecar::admission::reason::TABLE;
use promsidecar::monitors::fields as monitors;
use promsidecar::template::api::fields::{FIELDS, Verdict};
use support::documents::{read, root};
use support::golden::compare;

/// First letter in upper case, full stop at the end.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().expect("no text of the table is empty");
    format!("{}{}.", first.to_uppercase(), letters.as_str())
}

fn reasons() -> String {
    let mut out = String::from(
        "# Reasons\n\n\
         Why a pod got no agent. The rows of the table are tried in this order, and the first that applies is the reason.\n\
         The same word stands in the admission warning, the audit annotations, the pod's annotation\n\
         `sidecar.prometheus.io/skipped`, the metrics and the log. `promsidecar explain REASON` prints its section.\n\n\
         - *Told*: whether the pod's owner hears of it, by a warning or by a denial.\n\
         - *Marks the pod*: whether a pod that is admitted without its agent gets the annotation\n  \
         `sidecar.prometheus.io/skipped` and the label `sidecar.prometheus.io/injected: \"false\"`.\n\
         - *If required*: what becomes of the pod where `sidecar.prometheus.io/required` is \"true\" on the pod or its namespace.\n\n\
         Names of templates in other namespaces do not leak: where such a template is not claimed or not permitted, the pod's\n\
         owner reads `template-not-found`. The true reason stands in the audit annotations, the metrics, the log, and an Event on the\n\
         template.\n\n\
         This file is made from the table in `src/admission/reason.rs`; `make golden` writes it.\n\n\
         | # | reason | told | marks the pod | if required |\n\
         | --- | --- | --- | --- | --- |\n",
    );
    let yes_no = |yes| if yes { "yes" } else { "no" };
    for (index, row) in TABLE.iter().enumerate() {
        let required = if row.reason.denies_if_required() {
            "denied"
        } else if row.word == "internal-error" {
            "HTTP 500, so that the registration's failure policy decides"
        } else {
            "admitted"
        };
        let (told, marks) = (yes_no(!row.reason.is_silent()), yes_no(row.reason.marks_pod()));
        let number = index + 1;
        writeln!(out, "| {number} | [`{0}`](#{0}) | {told} | {marks} | {required} |", row.word)
            .expect("a string takes every write");
    }
    for row in &TABLE {
        write!(
            out,
            "\n## {}\n\n{}\n\n- Cause: {}.\n- Fix: {}.\n- Event reason: `{}`\n",
            row.word,
            sentence(row.meaning),
            row.cause,
            row.fix,
            row.event
        )
        .expect("a string takes every write");
    }
    out
}

#[test]
fn the_reasons_are_those_of_the_table() {
    let mut wrong = Vec::new();
    compare(&root().join("docs/reasons.md"), Some(&reasons()), &mut wrong);
    assert!(
        wrong.is_empty(),
        "write it with UPDATE_GOLDEN=1 cargo test --test docs_tables\n{}",
        wrong.join("\n")
    );
}

fn template_fields() -> String {
    let mut out = String::from(
        "# Fields of a template\n\n\
         A template is an upstream `PrometheusAgent`, unchanged. What becomes of each field of its `spec` in an agent beside an\n\
         application; upstream's documentation says what it means. A field that has no effect is reported by\n\
         `promsidecar validate`, never rejected: only what would change the pod's security or stop the agent is a violation.\n\n\
         - *honoured*: it does what it does upstream, in the form that a sidecar needs.\n\
         - *modified*: it does most of that, with the difference given.\n\
         - *ignored*: it has no effect, for the reason given.\n\n\
         This file is made from the table in `src/template/api/fields.rs`; `make golden` writes it.\n\n\
         | field | verdict | what differs |\n\
         | --- | --- | --- |\n",
    );
    for field in &FIELDS {
        let (verdict, why) = match field.verdict {
            Verdict::Honoured => ("honoured", ""),
            Verdict::Modified(how) => ("modified", how),
            Verdict::Ignored(why) => ("ignored", why),
        };
        writeln!(out, "| `{}` | {verdict} | {why} |", field.name).expect("a string takes every write");
    }
    out + UPSTREAMS_MISTAKES
}

/// `tests/oracle_templates.rs` shows each of them.
const UPSTREAMS_MISTAKES: &str = "
## What is not taken over

Where prometheus-operator 0.93.1 makes an agent that does not do what its template says, ours does:

- Several fields of `tsdb` make several sections `storage`, and Prometheus refuses the file. There is one.
- `$` in `externalLabels` is not escaped: Prometheus 3 takes `$5` for a variable and sends nothing. It is kept as written,
  and `$(POD_NAME)` is the pod's name.
- `sigv4.useFIPSSTSEndpoint` is written for Prometheus 3.0, which refuses the file. It is left out there, and reported.
- Headers of `tracingConfig` come in another order each time, so the file changes without a change. They are sorted.
- A `bodySizeLimit` above `enforcedBodySizeLimit` stays in the global section. The lower one counts.
- What Prometheus refuses is let through, and no agent starts or reloads: `writeRelabelConfigs` with an unknown action or a
  bad expression, two remote writes of one name, a `managedIdentity.clientId` that is no UUID, headers that Prometheus sets
  itself, the same OTLP attribute twice, and OTLP strategies or `nameEscapingScheme: AllowUTF8` that need other names than
  `nameValidationScheme: Legacy` allows. These are violations.
- A mount in `volumeMounts` without a volume makes pods that the API server refuses. It is a violation.
- Credentials stand in clear text in the generated file. Here they are files and variables, and what has neither form
  (`azureAd.oauth`, headers of a proxy) is a violation.

Those about scrape jobs are in [monitors.md](monitors.md).
";

fn monitor_fields(table: &[monitors::Field]) -> String {
    let mut out = String::from("| field | verdict | what differs |\n| --- | --- | --- |\n");
    for field in table {
        let (verdict, why) = match field.verdict {
            monitors::Verdict::Honoured(note) => ("honoured", note),
            monitors::Verdict::Ignored(why) => ("ignored", why),
            monitors::Verdict::Rejected(why) => ("rejected", why),
        };
        writeln!(out, "| `{}` | {verdict} | {why} |", field.name).expect("a string takes every write");
    }
    out
}

#[test]
fn the_fields_of_a_monitor_are_those_of_the_tables() {
    let path = root().join("docs/monitors.md");
    let text = read("docs/monitors.md");
    let mut tables = text.split("\n| field | verdict | what differs |\n");
    let before = tables.next().expect("a text has a beginning");
    let written = [
        &monitors::SPEC[..],
        &monitors::ENDPOINT[..],
        &monitors::SERVICE_SPEC[..],
        &monitors::SERVICE_ENDPOINT[..],
    ]
    .map(monitor_fields);
    let mut expected = before.to_owned();
    for (part, table) in tables.zip(written) {
        let after = part.split_once("\n\n").map_or("", |(_, after)| after);
        let more = if after.is_empty() { String::new() } else { format!("\n{after}") };
        expected.extend(["\n", &table, &more]);
    }
    let mut wrong = Vec::new();
    compare(&path, Some(&expected), &mut wrong);
    assert!(
        wrong.is_empty(),
        "write it with UPDATE_GOLDEN=1 cargo test --test docs_tables\n{}",
        wrong.join("\n")
    );
    assert_eq!(text.matches("| field | verdict |").count(), 4, "docs/monitors.md has four tables");
}

#[test]
fn the_fields_of_a_template_are_those_of_the_table() {
    let mut wrong = Vec::new();
    compare(&root().join("docs/template-fields.md"), Some(&template_fields()), &mut wrong);
    assert!(
        wrong.is_empty(),
        "write it with UPDATE_GOLDEN=1 cargo test --test docs_tables\n{}",
        wrong.join("\n")
    );
}
