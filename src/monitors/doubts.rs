//! Relabelings of monitors that cannot mean beside the application what they mean in a central Prometheus. PURE.
//!
//! Input: a job's relabelings, upstream's and the author's. Output: violations where a rule obviously leads out of the pod,
//! warnings where it looks into a value that is not known before remote write.

use crate::template::prometheus::Relabel;
use crate::template::render::identity::{Carried, Effect, Stand};
use crate::template::violation::{Findings, Path, Rule};

/// What is said of a relabeling that obviously leads elsewhere.
pub(crate) const LEAVES: Rule = Rule::Other {
    rule: "leads out of the pod, and an agent scrapes its own pod alone",
    fix: "remove the relabeling, or keep the host of __address__ and change its port alone",
};

/// The same of a scheme: Prometheus writes it unescaped before the address.
pub(crate) const NO_SCHEME: Rule = Rule::Other {
    rule: "leads out of the pod: Prometheus begins the URL with any scheme as it stands",
    fix: "use http or https",
};

/// Hosts that are the agent's own pod.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The author's relabelings of one endpoint, each list with its path.
pub(crate) struct Authored<'a> {
    /// What stands before the author's.
    pub(crate) before: &'a [Relabel],
    pub(crate) targets: (&'a [Relabel], Path),
    pub(crate) metrics: (&'a [Relabel], Path),
}

/// Reports what does not mean what its author thinks.
pub(crate) fn report(authored: &Authored<'_>, findings: &mut Findings) {
    let mut carried = Carried::default();
    for rule in authored.before {
        carried.follow(rule);
    }
    let (rules, path) = &authored.targets;
    for (index, rule) in rules.iter().enumerate() {
        let path = path.index(index);
        leaving(rule, &path, findings);
        doubt(&carried.follow(rule), &path, findings);
    }
    carried.scraped();
    let (rules, path) = &authored.metrics;
    for (index, rule) in rules.iter().enumerate() {
        doubt(&carried.follow(rule), &path.index(index), findings);
    }
}

fn doubt(effect: &Effect, path: &Path, findings: &mut Findings) {
    let Effect::Uses(label, stand) = effect else { return };
    let what = match stand {
        Stand::Fact(fact) => format!("{} until the series is sent", fact.placeholder),
        Stand::Address => "localhost and a port until the series is sent".to_owned(),
    };
    let text = format!("looks into {label}, which is {what}; copy it unchanged to a label of its own");
    findings.warning(path, text);
}

/// An address whose host is written out and is not this pod, or a scheme that is none.
fn leaving(rule: &Relabel, path: &Path, findings: &mut Findings) {
    let is_replace = rule.action.is_none_or(|action| action == "replace");
    let Some(replacement) = rule.replacement.as_deref().filter(|_| is_replace) else { return };
    let (stays, why) = match rule.target_label.as_deref() {
        Some("__address__") => (stays(replacement), LEAVES),
        Some("__scheme__") => (is_scheme(replacement), NO_SCHEME),
        _ => return,
    };
    if !stays {
        findings.violation(&path.key("replacement"), replacement, why);
    }
}

/// `http` or `https`, or what may become one once groups are put in.
fn is_scheme(replacement: &str) -> bool {
    let lowered = replacement.to_ascii_lowercase();
    match lowered.split_once('$') {
        Some((literal, _)) => "https".starts_with(literal),
        None => matches!(lowered.as_str(), "http" | "https"),
    }
}

fn stays(replacement: &str) -> bool {
    let literal = replacement.split('$').next().unwrap_or_default();
    if literal.len() < replacement.len() {
        return LOOPBACK.iter().any(|host| {
            host.starts_with(literal)
                || literal.strip_prefix(host).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        });
    }
    LOOPBACK.iter().any(|host| {
        replacement.strip_prefix(host).is_some_and(|rest| {
            let port = rest.strip_prefix(':');
            rest.is_empty()
                || port.is_some_and(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{is_scheme, stays};

    #[test]
    fn a_scheme_is_http_or_https_or_may_become_one() {
        for replacement in ["http", "https", "HTTPS", "$1", "${1}", "http$1", "HTTP${2}", "https$1"] {
            assert!(is_scheme(replacement), "{replacement}");
        }
        for replacement in
            ["", "ftp", "httpss", "http:", "http://evil.example/?x=", "http://$1/?x=", "https:$1", " http"]
        {
            assert!(!is_scheme(replacement), "{replacement}");
        }
    }

    #[test]
    fn an_address_stays_where_its_host_is_loopback_or_taken_over() {
        for replacement in
            ["$1:9100", "${1}", "localhost:8080", "127.0.0.1", "[::1]:$2", "localhost:$1", "127.0.0.$1"]
        {
            assert!(stays(replacement), "{replacement}");
        }
        for replacement in [
            "",
            "blackbox:9115",
            "10.0.0.1:$1",
            "localhost.evil:80",
            "localhost.$1",
            "http-$1",
            "localhost:",
            "127.0.0.1:a",
        ] {
            assert!(!stays(replacement), "{replacement}");
        }
    }
}
