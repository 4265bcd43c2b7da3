//! Modules marked PURE in their header reach no client, clock, environment, file, socket or task, however many modules lie
//! between.
//!
//! Each such module may name only modules that are marked as well, and none of the names below; by induction that holds
//! for everything that it reaches.

use std::collections::{BTreeMap, BTreeSet};
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

/// The code alone: without comments, and without the items that tests alone have.
fn code(source: &str) -> String {
    let lines = source.lines().map(|line| line.split("//").next().unwrap_or_default());
    let mut code = lines.collect::<Vec<_>>().join("\n");
    while let Some(at) = code.find("#[cfg(test)]") {
        let end = at + item_length(&code[at..]);
        code.replace_range(at..end, "");
    }
    code
}

/// Up to the `;` or the `}` that ends the item at the head of `code`.
fn item_length(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        // The brackets of the attribute itself end nothing.
        if depth == 0 && matches!(c, ';' | '}') {
            return at + 1;
        }
    }
    code.len()
}

/// The paths of a use tree: `a::{b, c::{d, self}}` is `a::b`, `a::c::d` and `a::c`. New names (`as`) are left out.
fn expanded(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((head, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        return vec![path.strip_suffix("::self").unwrap_or(path).to_owned()];
    };
    let inner = rest.trim_end().strip_suffix('}').unwrap_or(rest);
    let mut depth = 0_usize;
    let items = inner.split(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    let items = items.map(str::trim).filter(|item| !item.is_empty());
    items.flat_map(|item| expanded(&format!("{}{item}", head.trim()))).collect()
}

/// The code with its use trees as one path each, and with the names that they bring in written out where they are used.
fn spelled_out(code: &str) -> String {
    let mut text = String::new();
    let mut paths = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("use ") {
        let before = rest[..at].rsplit('\n').next().unwrap_or_default().trim();
        let (is_line, end) = (before.is_empty() || before.starts_with("pub"), rest[at..].find(';'));
        let end = end.map_or(rest.len(), |length| at + length);
        if is_line || before.ends_with(['{', '}', ';']) {
            paths.extend(expanded(&rest[at + "use ".len()..end]));
        }
        // What may be a part of a text stays as it is.
        let next = if is_line { end } else { at + "use ".len() };
        text.push_str(&rest[..if is_line { at } else { next }]);
        rest = &rest[next..];
    }
    text.push_str(rest);
    // `io::stdin` after `use std::io`.
    for path in paths.iter().filter(|path| path.starts_with("std::")) {
        let name = path.rsplit("::").next().unwrap_or_default();
        for (at, _) in code.match_indices(&format!("{name}::")) {
            if code[..at].chars().next_back().is_none_or(|c| !is_of_path(c)) {
                let used: String = code[at..].chars().take_while(|c| is_of_path(*c)).collect();
                text.push_str(&["\n", path, &used[name.len()..]].concat());
            }
        }
    }
    for path in paths {
        text.push_str(&["\n", &path].concat());
    }
    text
}

fn is_of_path(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | ':')
}

/// Modules that the spelled-out code of `module` names: the longest prefix of each path that is a file.
fn named_modules(module: &str, code: &str, sources: &Sources) -> BTreeSet<String> {
    let parent = module.rsplit_once("::").map_or("crate", |(parent, _)| parent);
    let grandparent = parent.rsplit_once("::").map_or("crate", |(parent, _)| parent);
    let code = code.replace("super::super::", &format!("{grandparent}::"));
    let code = code.replace("super::", &format!("{parent}::")).replace("self::", &format!("{module}::"));
    let mut named = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let path: String = code[at..].chars().take_while(|c| is_of_path(*c)).collect();
        let mut prefix = path.trim_end_matches(':');
        while !prefix.is_empty() && !sources.contains_key(prefix) {
            prefix = prefix.rsplit_once("::").map_or("", |(prefix, _)| prefix);
        }
        if !prefix.is_empty() && prefix != module {
            named.insert(prefix.to_owned());
        }
    }
    named
}

/// Every breach, a line each.
fn breaches(sources: &Sources) -> Vec<String> {
    let mut breaches = Vec::new();
    for (module, source) in sources.iter().filter(|(_, source)| is_pure(source)) {
        let code = spelled_out(&code(source));
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
    for module in [
        "crate::admission",
        "crate::admission::decision",
        "crate::monitors",
        "crate::monitors::selection",
        "crate::template::render",
        "crate::manifest",
    ] {
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

#[test]
fn no_way_of_writing_a_use_hides_an_offender() {
    let pure = |code: &str| format!("//! Something. PURE.\n\n{code}\n");
    let sources: Sources = [
        ("crate::a", pure("use std::{\n    env,\n    fs,\n};")),
        ("crate::b", pure("use std::io;\nfn f() { io::stdin(); }")),
        ("crate::c", pure("use std::io::{self, Read};\nfn f() { let _ = io::stdin(); }")),
        ("crate::d", pure("use crate::{a::{self, b}, z};")),
        (
            "crate::e",
            pure(
                "#[cfg(test)]\nuse std::fs;\n#[cfg(test)]\nmod tests { fn f() { fs::g(); } }\nuse std::env;",
            ),
        ),
        ("crate::f", pure("use std::sync::{Arc, Mutex};")),
        (
            "crate::g",
            pure("use std::{collections::{BTreeMap, BTreeSet}, io};\nfn f() -> io::Error { reuse }"),
        ),
        ("crate::z", "//! No mark.\n".to_owned()),
    ]
    .map(|(module, source)| (module.to_owned(), source))
    .into();
    assert_eq!(
        breaches(&sources),
        [
            "crate::a names std::env",
            "crate::a names std::fs",
            "crate::b names std::io::stdin",
            "crate::c names std::io::stdin",
            "crate::d reaches crate::z, which is not PURE",
            "crate::e names std::env",
            "crate::f names std::sync::Mutex",
        ]
    );
}
