use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::{Environment, Found, Named, Source, Target, find, source};
use crate::cluster::proxy;

/// A kubeconfig with a context, a cluster and a user of this name.
fn kubeconfig(name: &str, server: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {name}\n\
         clusters: [{{name: {name}, cluster: {{server: {server:?}}}}}]\n\
         contexts: [{{name: {name}, context: {{cluster: {name}, user: {name}, namespace: of-{name}}}}}]\n\
         users: [{{name: {name}, user: {{token: secret}}}}]\n"
    )
}

/// With these files in `KUBECONFIG`.
fn listed(files: &[&Path]) -> Environment {
    let kubeconfig = Some(std::env::join_paths(files).unwrap());
    Environment { kubeconfig, ..Environment::default() }
}

fn found(named: Named<'_>, environment: &Environment) -> Result<(Target, String), String> {
    let Found { config, target } = find(named, environment).map_err(|error| error.to_string())?;
    Ok((target, config.default_namespace))
}

fn target(context: &str, server: &str) -> Target {
    Target { context: Some(context.to_owned()), server: server.to_owned(), proxy: None }
}

#[test]
fn of_several_files_the_first_one_counts_and_one_that_is_not_there_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two, three, away] = ["one", "two", "three", "away"].map(|name| folder.path().join(name));
    fs::write(&one, kubeconfig("one", "https://one:6443")).unwrap();
    fs::write(&two, kubeconfig("one", "https://another") + "preferences: {}\n").unwrap();
    // As it is left where the current context was deleted.
    fs::write(&three, kubeconfig("three", "https://three").replace("-context: three", "-context: ''"))
        .unwrap();
    let of = |context: &str, server: &str| Ok((target(context, server), format!("of-{context}")));
    let three_of = Named { context: Some("three"), ..Named::default() };
    let named = Named { kubeconfig: Some(&two), ..Named::default() };
    for (named, files, expected) in [
        (Named::default(), &[&*away, &one, &two][..], of("one", "https://one:6443")),
        (Named::default(), &[&one, Path::new(""), &away], of("one", "https://one:6443")),
        (Named::default(), &[&three, &one], of("one", "https://one:6443")),
        (three_of, &[&one, &three], of("three", "https://three")),
        (named, &[&one, &three], of("one", "https://another")),
    ] {
        assert_eq!(found(named, &listed(files)), expected, "{named:?} {files:?}");
    }
}

#[test]
fn a_kubeconfig_that_cannot_be_used_is_an_error_and_never_the_cluster_of_the_pod() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let good = kubeconfig("one", "https://one");
    let none = "no current context is set (current-context); kubectl config use-context sets it; contexts: ";
    for (content, why) in [
        (None, "no such file; name one that is there, or unset KUBECONFIG".to_owned()),
        (Some(String::new()), format!("{none}none")),
        (Some(good.replace("current-context: one\n", "")), format!("{none}one")),
        (
            Some(good.replace("current-context: one", "current-context: prod")),
            "it has no context \"prod\" (current-context); name one that is there; contexts: one".to_owned(),
        ),
        (
            Some(good.replace("cluster: one", "cluster: gone")),
            "context \"one\" names the cluster \"gone\", which is not there".to_owned(),
        ),
        (
            Some(good.replace("https://one", "one:6443")),
            "cluster \"one\": server is no address of an API server; expected https://HOST:PORT".to_owned(),
        ),
        (
            Some(good.replace("{server:", "{certificate-authority: /away, server:")),
            "cluster \"one\": certificate-authority /away: No such file or directory (os error 2)".to_owned(),
        ),
        (
            Some(good.replace("{server:", "{certificate-authority-data: '?', server:")),
            "cluster \"one\": certificate-authority-data: it is no base64".to_owned(),
        ),
    ] {
        if let Some(content) = &content {
            fs::write(&path, content).unwrap();
        }
        let error = found(Named::default(), &listed(&[&path])).unwrap_err();
        assert_eq!(error, format!("KUBECONFIG {}: cannot be used: {why}", path.display()));
        // The one that is there by itself is named by its path; it is not there, or empty, in most pods.
        let default = Environment { default: Some(path.clone()), ..Environment::default() };
        match source(Named::default(), &default) {
            Ok(Source::Pod { instead }) if content.as_ref().is_none_or(String::is_empty) => {
                assert!(instead.starts_with(&format!("{}: ", path.display())), "{instead}");
            }
            Ok(Source::Files { .. }) => {
                let error = found(Named::default(), &default).unwrap_err();
                assert_eq!(error, format!("{}: cannot be used: {why}", path.display()));
            }
            other => panic!("{content:?}: {}", other.is_ok()),
        }
    }
    fs::write(&path, good + "users: [\n  token: secret\n").unwrap();
    let error = found(Named::default(), &listed(&[Path::new("/away"), &path])).unwrap_err();
    let start = format!("KUBECONFIG /away:{path}: cannot be used: {path}: ", path = path.display());
    assert!(error.starts_with(&start) && error.ends_with("; mend it"), "{error}");
    assert!(!error.contains("secret") && !error.contains('\n'), "{error}");
}

#[test]
fn a_context_that_is_not_there_is_named_with_those_that_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    fs::write(&path, kubeconfig("one", "https://one")).unwrap();
    let named = Named { context: Some("prod"), ..Named::default() };
    let why = "it has no context \"prod\"; name one that is there; contexts: one";
    let expected = format!("--context prod: cannot be used: KUBECONFIG {}: {why}", path.display());
    assert_eq!(found(named, &listed(&[&path])).unwrap_err(), expected);
    let away = Environment { default: Some("/away".into()), ..Environment::default() };
    let expected = "--context prod: cannot be used: /away: No such file; set --kubeconfig or KUBECONFIG";
    assert_eq!(found(named, &away).unwrap_err(), expected);
    // Set to nothing is not set.
    let unset = Environment { kubeconfig: Some(OsString::new()), ..away };
    assert!(matches!(source(Named::default(), &unset), Ok(Source::Pod { .. })));
}

#[test]
fn the_proxy_of_a_kubeconfig_counts_for_its_cluster_and_the_environments_for_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let proxies = proxy::Environment {
        https: Some("http://u:secret@everywhere:3128".to_owned()),
        no: Some("one, ".to_owned()),
        ..proxy::Environment::default()
    };
    let environment = Environment { proxies, ..listed(&[&path]) };
    let by = |content: String| {
        fs::write(&path, content).unwrap();
        find(Named::default(), &environment)
            .map(|found| found.target.to_string())
            .map_err(|error| error.to_string())
    };
    let own = |url: &str| {
        kubeconfig("one", "https://one").replace("{server:", &format!("{{proxy-url: {url:?}, server:"))
    };
    assert_eq!(by(kubeconfig("one", "https://one")).unwrap(), "context one, https://one");
    assert_eq!(
        by(kubeconfig("two", "https://two")).unwrap(),
        "context two, https://two by proxy http://everywhere:3128"
    );
    assert_eq!(
        by(own("http://u:secret@own:3128")).unwrap(),
        "context one, https://one by proxy http://own:3128"
    );
    assert_eq!(by(own("")).unwrap(), "context one, https://one");
    let error = by(own("ftp://u:secret@own")).unwrap_err();
    assert!(error.contains("cluster \"one\": proxy-url: it is no address of a proxy"), "{error}");
    assert!(!error.contains("secret"), "{error}");
}
