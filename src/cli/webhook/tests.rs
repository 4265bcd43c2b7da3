use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};

use serde_json::json;

use super::Args;
use crate::cli::Cli;
use crate::cli::output::Format;
use crate::webhook::config::{Certificate, Config, Templates};

fn matches(flags: &[&str]) -> Result<ArgMatches, clap::Error> {
    let line = ["promsidecar", "webhook"].iter().chain(flags);
    let mut matches = Cli::command().try_get_matches_from(line)?;
    Ok(matches.remove_subcommand().expect("the subcommand was given").1)
}

fn config(flags: &[&str]) -> anyhow::Result<Config> {
    Args::from_arg_matches(&matches(flags)?)?.to_config()
}

#[test]
fn defaults_serve_a_directory_with_a_certificate_of_our_own() {
    let config = config(&["--templates", "t"]).unwrap();
    assert_eq!(config.listen.to_string(), "0.0.0.0:8443");
    assert_eq!(
        config.certificate,
        Certificate::Own { names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()], ca_out: None }
    );
    assert!(config.policy.native_sidecars);
    let excluded: Vec<&str> = config.policy.excluded_namespaces.iter().map(String::as_str).collect();
    assert_eq!(excluded, ["promsidecar-system"]);
    assert_eq!(config.settings, crate::template::Settings::default());
}

#[test]
fn without_a_directory_the_cluster_is_asked_for_its_templates_and_its_version() {
    let cluster = |kubeconfig: Option<&str>, look_up| Templates::Cluster {
        kubeconfig: kubeconfig.map(Into::into),
        look_up,
    };
    assert_eq!(config(&[]).unwrap().templates, cluster(None, true));
    assert_eq!(config(&["--kubeconfig=k"]).unwrap().templates, cluster(Some("k"), true));
    assert_eq!(config(&["--kubernetes-version=1.29"]).unwrap().templates, cluster(None, false));
    assert_eq!(config(&["--templates=t"]).unwrap().templates, Templates::Directory("t".into()));
}

#[test]
fn every_flag_reaches_the_configuration() {
    let config = config(&[
        "--templates=t",
        "--listen=[::1]:1",
        "--admin-listen=127.0.0.1:2",
        "--kubernetes-version=1.28",
        "--default-template=monitoring/agent",
        "--exclude-namespace=a,b",
        "--exclude-namespace=c",
        "--own-namespace=me",
        "--tls-cert-file=crt",
        "--tls-key-file=key",
        "--max-in-flight=3",
        "--max-connections=4",
        "--drain-time=5s",
        "--controller-id=mine",
        "--agent-image=registry.test/prometheus",
        "--agent-version=3.0.1",
    ])
    .unwrap();
    assert_eq!(config.listen.to_string(), "[::1]:1");
    assert_eq!(config.admin_listen.to_string(), "127.0.0.1:2");
    assert!(!config.policy.native_sidecars);
    assert_eq!(config.policy.default_template.unwrap().to_string(), "monitoring/agent");
    let excluded: Vec<&str> = config.policy.excluded_namespaces.iter().map(String::as_str).collect();
    assert_eq!(excluded, ["a", "b", "c", "me"]);
    assert_eq!(config.certificate, Certificate::Files { certificate: "crt".into(), key: "key".into() });
    assert_eq!((config.limits.max_in_flight, config.limits.max_connections), (3, 4));
    assert_eq!(config.drain_time.as_secs(), 5);
    assert_eq!(config.settings.controller_id, "mine");
    assert_eq!(config.settings.agent_version.to_string(), "v3.0.1");
    assert_eq!(config.settings.agent_image, "registry.test/prometheus");
    assert_eq!(config.settings.supervisable_images[0], "registry.test/prometheus");
}

#[test]
fn every_error_names_the_flag_the_value_and_the_fix() {
    for (flags, parts) in [
        (&["--templates="][..], &["--templates <DIR>", "expected a path"][..]),
        (
            &["--templates=t", "--kubeconfig=k"],
            &["--kubeconfig k has no effect with --templates", "remove one"],
        ),
        (&["--listen=:8443"], &["--listen", "':8443'", "such as 0.0.0.0:8443"]),
        (&["--admin-listen=web"], &["--admin-listen", "'web'", "expected an address"]),
        (
            &["--templates=t", "--admin-listen=0.0.0.0:8443"],
            &["--admin-listen 0.0.0.0:8443", "choose another port"],
        ),
        (&["--kubernetes-version=new"], &["--kubernetes-version", "'new'", "such as 1.33"]),
        (&["--default-template=agent"], &["--default-template", "'agent'", "NAMESPACE/NAME"]),
        (&["--default-template=A/b"], &["--default-template", "'A/b'", "NAMESPACE/NAME"]),
        (&["--exclude-namespace=Team"], &["--exclude-namespace", "'Team'", "lower-case"]),
        (&["--own-namespace=-"], &["--own-namespace", "'-'", "lower-case"]),
        (&["--dns-name=a b"], &["--dns-name", "'a b'", "expected a DNS name"]),
        (&["--max-in-flight=0"], &["--max-in-flight", "'0'", "from 1 to 65536"]),
        (&["--max-connections=many"], &["--max-connections", "'many'", "from 1 to 65536"]),
        (&["--drain-time=15"], &["--drain-time", "'15'", "such as 15s"]),
        (&["--templates=t", "--log-level=a=b"], &["--log-level \"a=b\"", "use error, warn"]),
        (&["--log-format=xml"], &["--log-format", "'xml'", "json"]),
        (&["--agent-version=2.55.0"], &["--agent-version", "'2.55.0'", "3.0 or later"]),
        (&["--templates=t", "--tls-cert-file=c"], &["--tls-cert-file c", "set --tls-key-file too"]),
        (&["--templates=t", "--tls-key-file=k"], &["--tls-key-file k", "set --tls-cert-file too"]),
        (
            &["--templates=t", "--tls-cert-file=c", "--tls-key-file=k", "--dns-name=a"],
            &["--dns-name a", "remove one"],
        ),
        (
            &["--templates=t", "--tls-cert-file=c", "--tls-key-file=k", "--ca-out=o"],
            &["--ca-out o", "remove one"],
        ),
    ] {
        let error = config(flags).expect_err(&flags.join(" ")).to_string();
        for part in parts {
            assert!(error.contains(part), "{flags:?}: {part:?} is missing in {error}");
        }
    }
}

#[test]
fn print_config_shows_each_value_and_where_it_came_from() {
    let matches = matches(&["--templates=t", "--exclude-namespace=a,b"]).unwrap();
    let config = Args::from_arg_matches(&matches).unwrap().to_config().unwrap();
    let mut out = Vec::new();
    super::print::print("webhook", &matches, |id| super::derived(id, &config), Format::Text, &mut out)
        .unwrap();
    let out = String::from_utf8(out).unwrap();
    let line = |flag: &str| -> Vec<&str> {
        let mut rows = out.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        rows.find(|row| row[0] == flag).expect(flag)
    };
    assert_eq!(line("--templates"), ["--templates", "t", "flag"]);
    assert_eq!(line("--exclude-namespace"), ["--exclude-namespace", "a,b", "flag"]);
    assert_eq!(line("--drain-time"), ["--drain-time", "15s", "default"]);
    assert_eq!(line("--dns-name"), ["--dns-name", "localhost,127.0.0.1", "default"]);
    assert_eq!(line("--own-namespace"), ["--own-namespace", "promsidecar-system", "default"]);
    assert_eq!(line("--supervisable-images")[1], "quay.io/prometheus/prometheus,docker.io/prom/prometheus");
}

#[test]
fn print_config_is_json_on_request_and_the_format_alone_is_a_mistake() {
    let matches = matches(&["--templates=t", "--print-config", "-ojson"]).unwrap();
    let config = Args::from_arg_matches(&matches).unwrap().to_config().unwrap();
    let mut out = Vec::new();
    super::print::print("webhook", &matches, |id| super::derived(id, &config), Format::Json, &mut out)
        .unwrap();
    let printed: Vec<serde_json::Value> = serde_json::from_slice(&out).unwrap();
    let row = |flag: &str| printed.iter().find(|row| row["flag"] == flag).expect(flag).clone();
    assert_eq!(row("--templates"), json!({"flag": "--templates", "value": "t", "source": "flag"}));
    assert_eq!(row("--ca-out"), json!({"flag": "--ca-out", "value": null, "source": "default"}));
    assert!(printed.iter().all(|row| row["flag"] != "--output" && row["flag"] != "--print-config"));

    let error = super::super::Cli::try_parse_from(["promsidecar", "webhook", "--templates=t", "-ojson"]);
    assert!(error.unwrap_err().to_string().contains("--print-config"));
}

#[test]
fn every_flag_of_the_servers_but_the_format_of_what_they_print_has_its_variable() {
    let command = Cli::command();
    for name in ["webhook", "controller", "run", "demo"] {
        let subcommand = command.find_subcommand(name).unwrap();
        for arg in
            subcommand.get_arguments().filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()))
        {
            let flag = arg.get_long().unwrap();
            let variable = format!("PROMSIDECAR_{}", flag.to_uppercase().replace('-', "_"));
            assert_eq!(
                arg.get_env().map(|env| env.to_string_lossy().into_owned()),
                (flag != "output").then_some(variable),
                "{name} --{flag}"
            );
        }
    }
    assert!(Cli::try_parse_from(["promsidecar", "webhook", "--templates=t"]).is_ok());
}
