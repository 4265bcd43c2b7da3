//! Syntax of regular expressions as Go's `regexp` accepts it. PURE.
//!
//! Input: an expression of a relabeling. Output: the first mistake, if any: one bad expression makes Prometheus refuse its whole
//! configuration. Grammar: Go `regexp/syntax`, Perl flags; the check reads and never matches.

mod unicode;

use unicode::CLASSES;

/// Largest repetition that Go allows, also of nested ones multiplied.
const MAX_REPEAT: u32 = 1000;
/// Deepest nesting that Go allows.
const MAX_DEPTH: usize = 1000;

/// Checks an expression in the form in which Prometheus compiles it, between anchors.
pub(crate) fn check(expression: &str) -> Result<(), &'static str> {
    if expression.len() > 16 * 1024 {
        return Err("is longer than 16 KiB");
    }
    let anchored = format!("^(?s:{expression})$");
    Parser { chars: anchored.chars().collect(), at: 0, names: Vec::new(), groups: vec![Group::default()] }
        .parse()
}

#[derive(Default, Clone, Copy)]
struct Group {
    /// Whether something stands before the cursor that can be repeated.
    atom: bool,
    /// Largest product of repetitions in the group and in its last atom.
    repeat: u32,
    last: u32,
    /// Whether the last atom was just repeated, so that a second operator would nest.
    repeated: bool,
}

impl Group {
    fn push_atom(&mut self, repeat: u32) {
        *self = Self { atom: true, repeat: self.repeat.max(repeat), last: repeat, repeated: false };
    }

    fn push_boundary(&mut self) {
        *self = Self { atom: false, last: 0, repeated: false, ..*self };
    }
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    names: Vec<String>,
    groups: Vec<Group>,
}

impl Parser {
    fn parse(mut self) -> Result<(), &'static str> {
        while let Some(c) = self.next() {
            match c {
                '(' => self.open()?,
                ')' => self.close()?,
                '|' => self.group().push_boundary(),
                '[' => {
                    self.class()?;
                    self.group().push_atom(1);
                }
                '*' | '+' | '?' => self.repeat(1)?,
                '{' => match self.counted()? {
                    Some(count) => self.repeat(count)?,
                    None => self.group().push_atom(1),
                },
                '\\' => {
                    self.escape(true)?;
                    self.group().push_atom(1);
                }
                _ => self.group().push_atom(1),
            }
        }
        if self.groups.len() == 1 {
            Ok(())
        } else {
            Err("has an opening parenthesis without its closing one")
        }
    }

    fn next(&mut self) -> Option<char> {
        let c = self.chars.get(self.at).copied();
        self.at += usize::from(c.is_some());
        c
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn take(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        self.at += usize::from(found);
        found
    }

    fn group(&mut self) -> &mut Group {
        if self.groups.is_empty() {
            self.groups.push(Group::default());
        }
        let last = self.groups.len() - 1;
        &mut self.groups[last]
    }

    fn open(&mut self) -> Result<(), &'static str> {
        if self.groups.len() > MAX_DEPTH {
            return Err("nests too deeply");
        }
        if self.take('?') {
            let named = if self.take('P') {
                if !self.take('<') {
                    return Err("has an unknown group after (?P");
                }
                true
            } else {
                self.take('<')
            };
            if named {
                self.name()?;
            } else if self.flags()? {
                // (?i) without a group: holds from here on.
                return Ok(());
            }
        }
        self.groups.push(Group::default());
        Ok(())
    }

    fn name(&mut self) -> Result<(), &'static str> {
        let mut name = String::new();
        loop {
            match self.next() {
                Some('>') if !name.is_empty() && !self.names.contains(&name) => break,
                Some(c) if c.is_ascii_alphanumeric() || c == '_' => name.push(c),
                _ => return Err("has a group with a bad or repeated name"),
            }
        }
        self.names.push(name);
        Ok(())
    }

    /// Reads `i-s:` or `i-s)`; true where the parenthesis is closed already.
    fn flags(&mut self) -> Result<bool, &'static str> {
        let (mut negated, mut any) = (false, false);
        loop {
            match self.next() {
                Some('i' | 'm' | 's' | 'U') => any = true,
                Some('-') if !negated => (negated, any) = (true, false),
                Some(end @ (':' | ')')) if any || !negated => return Ok(end == ')'),
                _ => return Err("has unknown flags after (?"),
            }
        }
    }

    fn close(&mut self) -> Result<(), &'static str> {
        let closed = self.groups.pop().filter(|_| !self.groups.is_empty());
        let Some(closed) = closed else {
            return Err("has a closing parenthesis without its opening one");
        };
        self.group().push_atom(closed.repeat.max(1));
        Ok(())
    }

    fn repeat(&mut self, count: u32) -> Result<(), &'static str> {
        self.take('?');
        let group = self.group();
        if !group.atom {
            return Err("has a repetition with nothing to repeat");
        }
        if group.repeated {
            return Err("has a repetition of a repetition");
        }
        let product = group.last.saturating_mul(count.max(1));
        if product > MAX_REPEAT {
            return Err("repeats more than 1000 times");
        }
        group.push_atom(product);
        group.repeated = true;
        Ok(())
    }

    /// Reads `n}`, `n,}` or `n,m}`; anything else is a literal brace.
    fn counted(&mut self) -> Result<Option<u32>, &'static str> {
        let start = self.at;
        let min = self.number();
        let max =
            if self.take(',') { if self.peek() == Some('}') { min } else { self.number() } } else { min };
        let (Some(min), Some(max), true) = (min, max, self.take('}')) else {
            self.at = start;
            return Ok(None);
        };
        if min > MAX_REPEAT || max > MAX_REPEAT {
            return Err("repeats more than 1000 times");
        }
        if min > max { Err("has a repetition whose minimum is above its maximum") } else { Ok(Some(max)) }
    }

    /// A number without leading zeros, capped.
    fn number(&mut self) -> Option<u32> {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        let digits: String = self.chars.get(start..self.at)?.iter().collect();
        let canonical = !digits.is_empty() && (digits.len() == 1 || !digits.starts_with('0'));
        canonical.then(|| digits.parse().unwrap_or(u32::MAX))
    }

    fn class(&mut self) -> Result<(), &'static str> {
        const OPEN: &str = "has a character class without its closing bracket";
        self.take('^');
        let mut first = true;
        loop {
            let c = self.next().ok_or(OPEN)?;
            if c == ']' && !first {
                return Ok(());
            }
            first = false;
            if c == '[' && self.peek() == Some(':') && self.posix()? {
                continue;
            }
            let low = if c == '\\' { self.escape(false)? } else { Some(c) };
            let ranged = self.peek() == Some('-') && self.chars.get(self.at + 1).is_some_and(|c| *c != ']');
            // A class such as \d cannot begin a range; its hyphen stands for itself.
            let (Some(low), true) = (low, ranged) else { continue };
            self.at += 1;
            let c = self.next().ok_or(OPEN)?;
            let high = if c == '\\' { self.escape(false)? } else { Some(c) };
            if high.is_none_or(|high| high < low) {
                return Err("has a character range that ends before it begins");
            }
        }
    }

    /// Reads `:alpha:]`; false where it is no such name and the bracket stands for itself.
    fn posix(&mut self) -> Result<bool, &'static str> {
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
            "space", "upper", "word", "xdigit",
        ];
        let rest = &self.chars[self.at + 1..];
        let Some(end) = rest.windows(2).position(|pair| pair == [':', ']']) else {
            return Ok(false);
        };
        let name: String = rest[..end].iter().collect();
        self.at += end + 3;
        if NAMES.contains(&name.strip_prefix('^').unwrap_or(&name)) {
            Ok(true)
        } else {
            Err("has an unknown character class between [: and :]")
        }
    }

    /// Reads what follows a backslash; the character, or `None` for a class or assertion.
    fn escape(&mut self, outside_class: bool) -> Result<Option<char>, &'static str> {
        const UNKNOWN: &str = "has an unknown escape after a backslash";
        let c = self.next().ok_or("ends with a backslash")?;
        match c {
            'd' | 'D' | 's' | 'S' | 'w' | 'W' => Ok(None),
            'p' | 'P' => self.unicode_class().map(|()| None),
            'A' | 'b' | 'B' | 'z' if outside_class => Ok(None),
            'Q' if outside_class => {
                while self.at < self.chars.len() && self.chars.get(self.at..self.at + 2) != Some(&['\\', 'E'])
                {
                    self.at += 1;
                }
                // Without \E the quotation runs to the end, past the closing anchor as well.
                if self.at >= self.chars.len() {
                    Err("has \\Q without \\E")
                } else {
                    self.at += 2;
                    Ok(None)
                }
            }
            'E' if outside_class => Err(UNKNOWN),
            '0' => Ok(self.octal(0)),
            '1'..='7' if self.peek().is_some_and(|next| ('0'..='7').contains(&next)) => {
                Ok(self.octal(c.to_digit(8).unwrap_or(0)))
            }
            'x' => self.hexadecimal(),
            'a' => Ok(Some('\u{7}')),
            'f' => Ok(Some('\u{c}')),
            'n' => Ok(Some('\n')),
            'r' => Ok(Some('\r')),
            't' => Ok(Some('\t')),
            'v' => Ok(Some('\u{b}')),
            _ if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(Some(c)),
            _ => Err(UNKNOWN),
        }
    }

    fn octal(&mut self, mut value: u32) -> Option<char> {
        for _ in 0..2 {
            let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) else { break };
            value = value * 8 + digit;
            self.at += 1;
        }
        char::from_u32(value)
    }

    fn hexadecimal(&mut self) -> Result<Option<char>, &'static str> {
        const BAD: &str = "has a \\x without its hexadecimal digits";
        let braces = self.take('{');
        let mut digits = String::new();
        while let Some(c) = self.peek().filter(char::is_ascii_hexdigit) {
            if !braces && digits.len() == 2 {
                break;
            }
            digits.push(c);
            self.at += 1;
        }
        let closed = !braces || self.take('}');
        let enough = if braces { !digits.is_empty() } else { digits.len() == 2 };
        if !closed || !enough {
            return Err(BAD);
        }
        u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32).map(Some).ok_or(BAD)
    }

    /// Reads `L`, `{Lu}` or `{^Greek}`.
    fn unicode_class(&mut self) -> Result<(), &'static str> {
        const BAD: &str = "has an unknown Unicode class after \\p";
        let name: String = if self.take('{') {
            let rest = &self.chars[self.at..];
            let end = rest.iter().position(|c| *c == '}').ok_or(BAD)?;
            self.at += end + 1;
            rest[..end].iter().collect()
        } else {
            self.next().ok_or(BAD)?.to_string()
        };
        let name = name.strip_prefix('^').unwrap_or(&name);
        if CLASSES.binary_search(&name).is_ok() { Ok(()) } else { Err(BAD) }
    }
}

#[cfg(test)]
mod tests {
    use super::check;
    use proptest::prelude::*;

    #[test]
    fn what_go_accepts_is_accepted() {
        for good in [
            "",
            "(.*)",
            "a|b|",
            "go_.*",
            "[a-z]",
            "[]a]",
            "[^]a]",
            "[a-]",
            "[-a]",
            "[[:alpha:]_]",
            "[[:^word:]]",
            "[\\d-]",
            "[\\w.-]+",
            "a{2}",
            "a{2,}",
            "a{2,3}?",
            "a{",
            "a{,3}",
            "{",
            "x{a}",
            "(?i)abc",
            "(?i:abc)",
            "(?i-s:abc)",
            "(?P<n>a)(?<m>b)",
            "\\Qa.b\\E",
            "\\p{Greek}\\pL\\P{^Lu}",
            "\\x41\\x{1F600}",
            "\\012\\0",
            "\\.\\-\\_",
            "a*?b+?c??",
            "\\bfoo\\z",
            "^a$",
            "^*",
            "a)(b",
            "(a{10}){100}",
            "[[:]",
            "ä+",
            "()*",
        ] {
            assert_eq!(check(good), Ok(()), "{good:?}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for bad in [
            "(",
            ")",
            "(a",
            "a)",
            "[a",
            "[]",
            "[^]",
            "*",
            "+a",
            "|*",
            "(*)",
            "a**",
            "a+*",
            "a{2}{3}",
            "a{1001}",
            "a{3,2}",
            "(a{100}){100}",
            "\\",
            "\\8",
            "\\1",
            "\\k",
            "\\C",
            "[z-a]",
            "[a-\\d]",
            "[[:foo:]]",
            "(?z)",
            "(?i",
            "(?P=n)",
            "(?P<n>a)(?P<n>b)",
            "(?P<>a)",
            "(?=a)",
            "(?!a)",
            "(?<=a)",
            "\\pX",
            "\\p{Foo}",
            "[\\p{Lxx}]",
            "\\p{IsGreek}",
            "\\p{greek}",
            "\\p{",
            "\\x4",
            "\\x{}",
            "\\Z",
            "(?-)",
            "[\\",
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC*") {
            let _ = check(&text);
        }

        #[test]
        fn text_of_operators_never_panics(text in "[\\\\(\\[{?*+|)\\]}:^P<>i,0-9a-z-]{0,40}") {
            let _ = check(&text);
        }
    }
}
