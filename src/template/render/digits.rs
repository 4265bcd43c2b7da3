//! Expressions that match numbers of a range. PURE.
//!
//! Input: two bounds. Output: an expression of RE2 over decimal digits without leading zeros, for relabelings: they compare
//! text and know no numbers.

/// Largest number that is matched: 31 years of milliseconds, far below where durations overflow.
pub(super) const LARGEST: u64 = 999_999_999_999;

/// Numbers from `least` to [`LARGEST`].
pub(super) fn at_least(least: u64) -> String {
    between(least, LARGEST)
}

/// Numbers from `least` to `most`, both included; nothing where `least` is more.
pub(super) fn between(least: u64, most: u64) -> String {
    let (least, most) = (least.min(LARGEST), most.min(LARGEST));
    let mut alternatives = Vec::new();
    let mut whole_lengths = Vec::new();
    let (mut shortest, mut longest) = (0, 9);
    loop {
        let (low, high) = (least.max(shortest), most.min(longest));
        if shortest > 0 && low == shortest && high == longest {
            whole_lengths.push(longest.to_string().len() - 1);
        } else if low <= high {
            alternatives.push(same_length(low.to_string().as_bytes(), high.to_string().as_bytes()));
        }
        if longest >= most {
            break;
        }
        (shortest, longest) = (longest + 1, longest * 10 + 9);
    }
    // Lengths of which every number matches follow on one another.
    if let [few, .., many] = whole_lengths[..] {
        alternatives.push(format!("[1-9][0-9]{{{few},{many}}}"));
    } else if let [digits] = whole_lengths[..] {
        alternatives.push(format!("[1-9][0-9]{{{digits}}}"));
    }
    // An empty alternation would match the empty text.
    if alternatives.is_empty() { "[^\\s\\S]".to_owned() } else { alternatives.join("|") }
}

/// Numbers between two of as many digits.
fn same_length(low: &[u8], high: &[u8]) -> String {
    let (Some((low_first, low_rest)), Some((high_first, high_rest))) =
        (low.split_first(), high.split_first())
    else {
        return String::new();
    };
    let any = match low_rest.len() {
        0 => String::new(),
        1 => "[0-9]".to_owned(),
        count => format!("[0-9]{{{count}}}"),
    };
    let from_start = low_rest.iter().all(|digit| *digit == b'0');
    let to_end = high_rest.iter().all(|digit| *digit == b'9');
    if low_first == high_first {
        let rest = if from_start && to_end { any } else { group(&same_length(low_rest, high_rest)) };
        return format!("{}{rest}", char::from(*low_first));
    }
    let mut alternatives = Vec::new();
    let mut middle = (*low_first, *high_first);
    if !from_start {
        let nines = vec![b'9'; low_rest.len()];
        alternatives.push(format!("{}{}", char::from(*low_first), group(&same_length(low_rest, &nines))));
        middle.0 += 1;
    }
    let mut last = None;
    if !to_end {
        let zeros = vec![b'0'; high_rest.len()];
        last = Some(format!("{}{}", char::from(*high_first), group(&same_length(&zeros, high_rest))));
        middle.1 -= 1;
    }
    match middle.0.cmp(&middle.1) {
        std::cmp::Ordering::Less => {
            alternatives.push(format!("[{}-{}]{any}", char::from(middle.0), char::from(middle.1)));
        }
        std::cmp::Ordering::Equal => alternatives.push(format!("{}{any}", char::from(middle.0))),
        std::cmp::Ordering::Greater => {}
    }
    alternatives.extend(last);
    alternatives.join("|")
}

fn group(expression: &str) -> String {
    if expression.contains('|') { format!("(?:{expression})") } else { expression.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{LARGEST, at_least, between};
    use proptest::prelude::*;
    use regex::Regex;

    fn matches(expression: &str, text: &str) -> bool {
        Regex::new(&format!("^(?s:{expression})$")).unwrap().is_match(text)
    }

    #[test]
    fn bounds_themselves_match_and_their_neighbours_do_not() {
        for bound in [1, 9, 10, 99, 100, 999, 1000, 15_000, 30_000, 60_000, 100_001, 86_400_000] {
            let expression = at_least(bound);
            assert!(matches(&expression, &bound.to_string()), "{bound}: {expression}");
            assert!(matches(&expression, &(bound + 1).to_string()), "{bound}: {expression}");
            assert!(!matches(&expression, &(bound - 1).to_string()), "{bound}: {expression}");
        }
        assert_eq!(at_least(30_000), "[3-9][0-9]{4}|[1-9][0-9]{5,11}");
    }

    #[test]
    fn what_is_no_canonical_number_never_matches() {
        for text in ["", "030000", "30000ms", "3e9", "-30000", "30 000", "1000000000000", "٣٠٠٠٠"] {
            assert!(!matches(&at_least(1), text), "{text:?}");
        }
        assert!(!matches(&between(5, 4), "") && !matches(&between(5, 4), "5"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn a_number_matches_exactly_when_it_is_in_the_range(
            a in prop_oneof![0..2000u64, 0..=LARGEST],
            b in prop_oneof![0..2000u64, 0..=LARGEST],
            n in prop_oneof![0..2000u64, 0..=LARGEST],
        ) {
            let (least, most) = (a.min(b), a.max(b));
            let expression = between(least, most);
            prop_assert_eq!(matches(&expression, &n.to_string()), least <= n && n <= most, "{}", expression);
            for edge in [least, most] {
                prop_assert!(matches(&expression, &edge.to_string()), "{}", expression);
            }
        }
    }
}
