//! Manifests: text with one or more Kubernetes objects to JSON values. PURE.
//!
//! Input: YAML (several documents) or JSON, `List` objects included. Output: the objects in order, each with the number of
//! its document, or an error that names the document.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

/// One object of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Position of the document in its file, from 1.
    pub number: usize,
    /// The object.
    pub object: Value,
}

/// A document could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("document {number}: {message}")]
pub struct ManifestError {
    /// Position of the document, from 1.
    pub number: usize,
    /// What is wrong and where.
    pub message: String,
}

impl Document {
    /// `kind`, empty where absent.
    pub fn kind(&self) -> &str {
        self.object.get("kind").and_then(Value::as_str).unwrap_or_default()
    }

    /// `apiVersion`, empty where absent.
    pub fn api_version(&self) -> &str {
        self.object.get("apiVersion").and_then(Value::as_str).unwrap_or_default()
    }
}

/// Reads every object of `text`. Empty documents are passed over; `List`s are opened.
pub fn read(text: &str) -> Result<Vec<Document>, ManifestError> {
    let mut documents = Vec::new();
    for part in parts(text) {
        let Some(number) = part.number else { continue };
        match part.parse()? {
            Value::Null => {}
            object @ Value::Object(_) => open(number, object, &mut documents),
            _ => return Err(part.error(None, "is not an object with apiVersion and kind")),
        }
    }
    Ok(documents)
}

/// Appends an object, or the objects of a list.
fn open(number: usize, mut object: Value, documents: &mut Vec<Document>) {
    if !is_list(&object) {
        documents.push(Document { number, object });
        return;
    }
    if let Some(Value::Array(items)) = object.get_mut("items").map(Value::take) {
        for item in items {
            open(number, item, documents);
        }
    }
}

/// A document as it stands in its text, the marker before it and the blanks around it included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// Position among the documents of the text, from 1; `None` for one without content.
    pub number: Option<usize>,
    /// Its bytes. Those of all parts together are the whole text.
    pub text: &'a str,
    /// Lines of the text before it.
    lines_before: usize,
    /// Whether it is a value of a JSON stream, and so nothing else.
    json: bool,
}

/// What editors of some systems put before a text.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The documents of a text: of a stream of JSON values, or of a YAML stream.
pub fn parts(text: &str) -> Vec<Part<'_>> {
    let stream = json_ends(text);
    let json = stream.is_some();
    let ends = stream.unwrap_or_else(|| yaml_ends(text));
    let (mut documents, mut lines_before, mut start) = (0, 0, 0);
    let part = |end| {
        let text = &text[start..end];
        let number = (!is_blank(text)).then(|| {
            documents += 1;
            documents
        });
        let part = Part { number, text, lines_before, json };
        lines_before += text.matches('\n').count();
        start = end;
        part
    };
    ends.into_iter().map(part).collect()
}

impl Part<'_> {
    /// Reads the document as JSON where it is, else as YAML the way kubectl does (YAML 1.1: `0644` is an octal number).
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ManifestError> {
        let (head, content) = self.split();
        match serde_json::from_str(content) {
            Ok(value) => return Ok(value),
            Err(error) if self.json => {
                let text = error.to_string();
                let what = text.split(" at line ").next().unwrap_or_default();
                let line = error.line() + head.matches('\n').count();
                return Err(self.error(Some((line, error.column())), what));
            }
            Err(_) => {}
        }
        let text = self.text.trim_start_matches(BYTE_ORDER_MARK);
        // A node takes two bytes or more; the bounds on aliases and depth stay as they are.
        let budget = serde_saphyr::budget! { max_nodes: text.len(), max_events: 4 * text.len() + 64 };
        let options = serde_saphyr::options! { legacy_octal_numbers: true, budget: budget };
        serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let place = error.location().map(|at| (count(at.line()), count(at.column())));
            self.error(place, &in_our_words(&error))
        })
    }

    /// What stands before the content (blank lines, comments and the document's marker), and the content.
    pub fn split(&self) -> (&str, &str) {
        let mut at = 0;
        for line in self.text.split_inclusive('\n') {
            if !is_filler(line) {
                break;
            }
            at += line.len();
        }
        if at == 0 && self.text.starts_with(BYTE_ORDER_MARK) {
            at = BYTE_ORDER_MARK.len_utf8();
        }
        self.text.split_at(at)
    }

    /// `place`: line and column within the part, from 1.
    fn error(&self, place: Option<(usize, usize)>, what: &str) -> ManifestError {
        let place =
            place.map(|(line, column)| format!("line {} column {column}: ", line + self.lines_before));
        let message = format!("{}{what}", place.unwrap_or_default());
        ManifestError { number: self.number.unwrap_or_default(), message }
    }
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// What a user can do about a YAML error, rather than what a caller of the library could.
fn in_our_words(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    match error.without_snippet() {
        Error::DuplicateMappingKey { .. } => "the same key stands twice in one object; remove one".to_owned(),
        Error::MultipleDocuments { .. } => {
            "another document begins here; put a line with --- before it".to_owned()
        }
        Error::Budget { .. } => {
            "is nested more than 64 levels deep, or repeats anchors too often; simplify it, or give it as JSON"
                .to_owned()
        }
        Error::NonFiniteFloat { .. } => "is no number that JSON has; put it in quotes".to_owned(),
        Error::NullIntoString { .. } => "a key of an object is null; put it in quotes".to_owned(),
        // The lines after the first draw the place, which a log line has no room for.
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            let first = first.strip_prefix("error: ").unwrap_or(first);
            let place = error.location().map(|at| format!("line {} column {}: ", at.line(), at.column()));
            place.and_then(|place| first.strip_prefix(&place)).unwrap_or(first).to_owned()
        }
    }
}

/// Where the values of a JSON stream end, if the text is one: the blanks before each are its own, the last takes what is
/// left. A text whose first value is JSON is a stream, whether or not the rest can be read.
fn json_ends(text: &str) -> Option<Vec<usize>> {
    let content = text.trim_start_matches(BYTE_ORDER_MARK);
    if !content.trim_start().starts_with('{') {
        return None;
    }
    let offset = text.len() - content.len();
    let mut stream = serde_json::Deserializer::from_str(content).into_iter::<IgnoredAny>();
    let mut ends = Vec::new();
    while let Some(value) = stream.next() {
        match value {
            Ok(_) => ends.push(offset + stream.byte_offset()),
            Err(_) if ends.is_empty() => return None,
            // `{…}` and then YAML's marker is YAML.
            Err(_) if text[*ends.last()?..].trim_start().starts_with("---") => return None,
            Err(_) => {
                ends.push(text.len());
                return Some(ends);
            }
        }
    }
    ends.pop();
    ends.push(text.len());
    Some(ends)
}

/// Where the documents of a YAML stream end: before lines that are a `---` marker.
fn yaml_ends(text: &str) -> Vec<usize> {
    let mut ends = Vec::new();
    let (mut start, mut offset) = (0, 0);
    for line in text.split_inclusive('\n') {
        let marker = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if marker && offset > start {
            ends.push(offset);
            start = offset;
        }
        offset += line.len();
    }
    ends.push(text.len());
    ends
}

/// Whether nothing stands in the document; `...` ends one.
fn is_blank(part: &str) -> bool {
    part.lines().all(|line| is_filler(line) || line.trim_end() == "...")
}

/// A blank line, a comment, or a document's marker alone.
fn is_filler(line: &str) -> bool {
    let line = line.trim_start_matches(BYTE_ORDER_MARK);
    let rest = line.strip_prefix("---").unwrap_or(line).trim();
    rest.is_empty() || rest.starts_with('#')
}

/// Whether an object is a list of others: `List`, or what an API returns for a kind, such as `PodList`.
pub fn is_list(object: &Value) -> bool {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    kind.ends_with("List") && object.get("items").is_some_and(Value::is_array)
}

#[cfg(test)]
mod tests {
    use super::{parts, read};
    use serde_json::json;

    #[test]
    fn an_error_names_the_line_of_the_file_and_what_to_do() {
        let error = |text: &str| read(text).unwrap_err().to_string();
        for (text, expected) in [
            (
                "kind: A\n---\nkind: B\n---\n# c\nkind: C\nkind: D\n",
                "document 3: line 7 column 1: the same key stands twice in one object; remove one",
            ),
            (
                "kind: A\n...\nkind: B\n",
                "document 1: line 3 column 1: another document begins here; put a line with --- before it",
            ),
            (
                "kind: A\nn: 1e400\n",
                "document 1: line 2 column 4: is no number that JSON has; put it in quotes",
            ),
            ("~: A\n", "document 1: line 1 column 1: a key of an object is null; put it in quotes"),
            ("{\"kind\":\"A\"}\n{\"kind\":\"B\",,}\n", "document 2: line 2 column 13: key must be a string"),
            ("\n\n- 1\n", "document 1: is not an object with apiVersion and kind"),
        ] {
            assert_eq!(error(text), expected);
        }
        let deep = error(&format!("{}1\n", "a: {".repeat(100)));
        assert!(deep.contains("nested more than 64 levels deep"), "{deep}");
        for text in [
            "a: *b\n",
            "a: [1\n",
            "a: b: c\n",
            "\t\n\ta: 1\n",
            "a: !!int x\n",
            "%YAML 1.2\n---\na: 1\n",
            "? [a]\n: 1\n",
        ] {
            let Err(error) = read(text) else { continue };
            let error = error.to_string();
            for internal in ["Options", "Option<", "from_str", "Policy", "{ "] {
                assert!(!error.contains(internal), "{text:?}: {error}");
            }
        }
    }

    #[test]
    fn a_list_of_a_large_cluster_is_read() {
        let object = format!("- kind: A\n  v: [{}1]\n", "1, ".repeat(1999));
        assert_eq!(read(&format!("kind: List\nitems:\n{}", object.repeat(130))).unwrap().len(), 130);
    }

    #[test]
    fn lists_of_every_kind_are_opened_however_deep() {
        let text = "kind: List\nitems:\n- kind: PodList\n  items: [{kind: A}, {kind: B}]\n- {kind: AllowList, spec: {}}\n";
        let kinds: Vec<_> = read(text).unwrap().iter().map(|d| d.kind().to_owned()).collect();
        assert_eq!(kinds, ["A", "B", "AllowList"]);
    }

    #[test]
    fn numbers_are_read_as_kubectl_reads_them() {
        let read = read("a: 0644\nb: 0o644\nc: '0644'\nd: 1_000\ne: 12:30\nf: 0x1F\n").unwrap();
        assert_eq!(
            read[0].object,
            json!({"a": 420, "b": 420, "c": "0644", "d": 1000, "e": "12:30", "f": 31})
        );
    }

    #[test]
    fn the_parts_of_a_text_are_all_of_it() {
        let texts = [
            "",
            "\n",
            "kind: A",
            "# head\n---\nkind: A\n--- # next\n\nkind: B\n---\n# nothing\n...\n---\nkind: C\n---",
            "---\r\nkind: A\r\n---\r\nkind: B\r\n",
            "--- {kind: A}\n--- # nothing\n",
            "kind: A\ndata: |\n  ---\n  text\n",
            "{\"kind\": \"A\"}\n\n{\"kind\": \"B\"}  \n",
            "{\"kind\": \"A\"}{\"kind\": \"---\\n\"}",
            " {\"kind\":\n\t\"A\"}",
            "{kind: A}\n---\n{kind: B}\n",
            "\u{feff}kind: A\n---\nkind: B\n",
            "\u{feff}{\"kind\": \"A\"}\n{\"kind\": \"B\"}",
            "\u{feff}",
            "{\"kind\": \"A\"}\n---\nkind: B\n",
        ];
        let counts = texts.map(|text| {
            let parts = parts(text);
            assert_eq!(parts.iter().map(|part| part.text).collect::<String>(), text);
            let numbers: Vec<_> = parts.iter().filter_map(|part| part.number).collect();
            assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>(), "{text:?}");
            numbers.len()
        });
        assert_eq!(counts, [0, 0, 1, 3, 2, 1, 1, 2, 2, 1, 2, 2, 2, 0, 2]);
    }

    #[test]
    fn json_with_tabs_and_escapes_that_yaml_does_not_know_is_read() {
        let read = read("{\n\t\"kind\": \"A\\/\\ud83d\\ude00\"\n}\n{\"kind\": \"B\"}\n").unwrap();
        let kinds: Vec<_> = read.iter().map(|d| (d.number, d.kind())).collect();
        assert_eq!(kinds, [(1, "A/\u{1f600}"), (2, "B")]);
    }

    #[test]
    fn documents_and_lists_come_out_in_order() {
        let text = "# head\n---\nkind: A\n---\n\n---\nkind: List\nitems:\n- kind: B\n- {kind: C}\n---\n{\"kind\": \"D\"}\n";
        let read = read(text).unwrap();
        let kinds: Vec<_> = read.iter().map(|d| (d.number, d.kind())).collect();
        assert_eq!(kinds, [(1, "A"), (2, "B"), (2, "C"), (3, "D")]);
    }

    #[test]
    fn the_broken_document_is_named() {
        let error = read("kind: A\n---\nkind: [\n").unwrap_err();
        assert_eq!(error.to_string(), "document 2: line 3 column 7: unclosed bracket '['");
        assert_eq!(read("- 1\n").unwrap_err().message, "is not an object with apiVersion and kind");
    }

    #[test]
    fn large_json_numbers_and_strings_survive() {
        let read = read("{\"a\": \"on\", \"b\": 9007199254740993, \"c\": \"---\\nx\"}").unwrap();
        assert_eq!(read[0].object, json!({"a": "on", "b": 9_007_199_254_740_993_u64, "c": "---\nx"}));
    }
}
