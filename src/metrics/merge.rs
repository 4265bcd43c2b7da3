//! Two expositions on one port. PURE.
//!
//! Input: `OpenMetrics` texts. Output: one.

use std::collections::BTreeSet;

/// Two expositions as one. Of a family that both have, the first one's stays: no scraper takes a family twice.
pub fn merged(first: &str, second: &str) -> String {
    let families = |text: &'_ str| -> Vec<String> {
        let mut families: Vec<String> = Vec::new();
        for line in text.lines().filter(|line| *line != "# EOF") {
            match families.last_mut() {
                // The first line of every family.
                Some(family) if !line.starts_with("# HELP ") => {
                    family.push_str(line);
                    family.push('\n');
                }
                _ => families.push(format!("{line}\n")),
            }
        }
        families
    };
    let name = |family: &str| family.split(' ').nth(2).unwrap_or_default().to_owned();
    let mut all = families(first);
    let known: BTreeSet<String> = all.iter().map(|family| name(family)).collect();
    all.extend(families(second).into_iter().filter(|family| !known.contains(&name(family))));
    all.push("# EOF\n".to_owned());
    all.concat()
}

#[cfg(test)]
mod tests {
    #[test]
    fn of_two_expositions_every_family_comes_once_and_the_end_last() {
        let first =
            "# HELP a A.\n# TYPE a counter\na_total 1\n# HELP b B.\n# TYPE b gauge\nb{x=\"1\"} 2\n# EOF\n";
        let second =
            "# HELP b B.\n# TYPE b gauge\nb{x=\"1\"} 3\n# HELP ab C.\n# TYPE ab gauge\nab 4\n# EOF\n";
        assert_eq!(
            super::merged(first, second),
            first.replace("# EOF\n", "# HELP ab C.\n# TYPE ab gauge\nab 4\n# EOF\n")
        );
    }
}
