//! Modules marked PURE in their header reach no client, clock, environment, file, socket or task, however many modules lie
//! between.
//!
//! Each such module may name only modules that are marked as well, and none of the names below; by induction that holds
//! for everything that it reaches.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What a function of data to data never needs.
const FORBIDDEN: [&str; 22] = [
    "std::env",
    "std::fs",
    "std::io::stdin",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "ToSocketAddrs",
    "std::os",
    "std::process",
    "std::thread",
    "std::sync::Mutex",
    "SystemTime",
    "Instant",
    "tokio",
    "tracing::",
    "hyper",
    "axum",
    "rcgen",
    "kube::",
    "println!",
    "eprintln!",
    "thread_local!",
];

/// Source by module path: `crate::admission::patch`.
type Sources = BTreeMap<String, String>;

fn sources() -> Sources {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Sources::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("sources can be listed") {
            let path: PathBuf = entry.expect("sources can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let below = path.strip_prefix(&root).expect("below the root").with_extension("");
                let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
                let text = fs::read_to_string(&path).expect("a source can be read");
                sources.insert(format!("crate::{}", parts.join("::")), text);
            }
        }
    }
    sources
}

/// Whether the header says so.
fn is_pure(source: &str) -> bool {
    source.lines().take_while(|line| line.starts_with("//!")).any(|line| line.contains("PURE"))
}

/// The code alone: without comments and without the tests at the end.
fn code(source: &str) -> String {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Modules that the code of `module` names: the longest prefix of each path that is a file.
fn named_modules(module: &str, code: &str, sources: &Sources) -> Vec<String> {
    let parent = module.rsplit_once("::").map_or("crate", |(parent, _)| parent);
    let grandparent = parent.rsplit_once("::").map_or("crate", |(parent, _)| parent);
    let code = code.replace("super::super::", &format!("{grandparent}::"));
    let code = code.replace("super::", &format!("{parent}::")).replace("self::", &format!("{module}::"));
    let mut named = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let path: String =
            code[at..].chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
        // `use crate::{a, b::c}`: each of the list is a path.
        let list = code[at + path.len()..].strip_prefix('{').and_then(|rest| rest.split('}').next());
        let paths = match list {
            Some(list) => list.split(',').map(|item| format!("{path}{}", item.trim())).collect(),
            None => vec![path],
        };
        for path in paths {
            let mut prefix = path.trim_end_matches(':');
            while !prefix.is_empty() && !sources.contains_key(prefix) {
                prefix = prefix.rsplit_once("::").map_or("", |(prefix, _)| prefix);
            }
            if !prefix.is_empty() && prefix != module {
                named.push(prefix.to_owned());
            }
        }
    }
    named
}

/// Every breach, a line each.
fn breaches(sources: &Sources) -> Vec<String> {
    let mut breaches = Vec::new();
    for (module, source) in sources.iter().filter(|(_, source)| is_pure(source)) {
        let code = code(source);
        for word in FORBIDDEN {
            if code.contains(word) {
                breaches.push(format!("{module} names {word}"));
            }
        }
        for named in named_modules(module, &code, sources) {
            if !is_pure(&sources[&named]) {
                breaches.push(format!("{module} reaches {named}, which is not PURE"));
            }
        }
    }
    breaches
}

#[test]
fn pure_modules_reach_pure_modules_alone() {
    let sources = sources();
    let pure = sources.values().filter(|source| is_pure(source)).count();
    assert!(pure > 40, "only {pure} modules are marked: is the header still read?");
    for module in
        ["crate::admission", "crate::admission::decision", "crate::template::render", "crate::manifest"]
    {
        assert!(is_pure(&sources[module]), "{module} is marked PURE");
    }
    assert_eq!(breaches(&sources), [""; 0]);
}

#[test]
fn an_offender_is_caught_directly_and_through_another_module() {
    let pure = |code: &str| format!("//! Something. PURE.\n\n{code}\n");
    let sources: Sources = [
        ("crate::a", pure("use std::time::Instant;")),
        ("crate::b", pure("use crate::{c::d, e};\nfn f() { super::g::h() }")),
        ("crate::c", pure("// use std::fs, as a comment\n#[cfg(test)]\nmod tests { use std::fs; }")),
        ("crate::c::d", pure("use super::super::e;\nuse super::Thing;")),
        ("crate::e", "//! Reads files. IO.\nuse std::fs;\n".to_owned()),
        ("crate::g", "//! No mark.\n".to_owned()),
    ]
    .map(|(module, source)| (module.to_owned(), source))
    .into();
    assert_eq!(
        breaches(&sources),
        [
            "crate::a names Instant",
            "crate::b reaches crate::e, which is not PURE",
            "crate::b reaches crate::g, which is not PURE",
            "crate::c::d reaches crate::e, which is not PURE",
        ]
    );
}
