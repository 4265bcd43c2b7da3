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
            Value::Object(mut object) => {
                let is_list = object.get("kind").and_then(Value::as_str) == Some("List");
                match object.remove("items") {
                    Some(Value::Array(items)) if is_list => {
                        documents.extend(items.into_iter().map(|object| Document { number, object }));
                    }
                    items => {
                        if let Some(items) = items {
                            object.insert("items".to_owned(), items);
                        }
                        documents.push(Document { number, object: Value::Object(object) });
                    }
                }
            }
            _ => return Err(part.error("is not an object with apiVersion and kind".to_owned())),
        }
    }
    Ok(documents)
}

/// A document as it stands in its text, the marker before it and the blanks around it included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// Position among the documents of the text, from 1; `None` for one without content.
    pub number: Option<usize>,
    /// Its bytes. Those of all parts together are the whole text.
    pub text: &'a str,
}

/// The documents of a text: of a stream of JSON values, or of a YAML stream.
pub fn parts(text: &str) -> Vec<Part<'_>> {
    let texts = json_texts(text).unwrap_or_else(|| yaml_texts(text));
    let mut documents = 0;
    let part = |text| {
        let number = (!is_blank(text)).then(|| {
            documents += 1;
            documents
        });
        Part { number, text }
    };
    texts.into_iter().map(part).collect()
}

impl Part<'_> {
    /// Reads the document as JSON where it is, else as YAML the way kubectl does (YAML 1.1: `0644` is an octal number).
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ManifestError> {
        let (_, content) = self.split();
        if let Ok(value) = serde_json::from_str(content) {
            return Ok(value);
        }
        let options = serde_saphyr::options! { legacy_octal_numbers: true };
        serde_saphyr::from_str_with_options(self.text, options).map_err(|error| {
            // The lines after the first draw the place, which a log line has no room for.
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            self.error(first.strip_prefix("error: ").unwrap_or(first).to_owned())
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
        self.text.split_at(at)
    }

    fn error(&self, message: String) -> ManifestError {
        ManifestError { number: self.number.unwrap_or_default(), message }
    }
}

/// The values of a JSON stream, if the text is one: each with the blanks before it, the last with those behind it too.
fn json_texts(text: &str) -> Option<Vec<&str>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let mut texts = Vec::new();
    let mut start = 0;
    while let Some(value) = stream.next() {
        value.ok()?;
        let end = stream.byte_offset();
        texts.push(text.get(start..end)?);
        start = end;
    }
    // What is left is blank.
    if let (Some(last), Some(rest)) = (texts.pop(), text.get(start..)) {
        texts.push(text.get(start - last.len()..start + rest.len())?);
    }
    Some(texts)
}

/// The documents of a YAML stream: cut at lines that are a `---` marker.
fn yaml_texts(text: &str) -> Vec<&str> {
    let mut texts = Vec::new();
    let (mut start, mut offset) = (0, 0);
    for line in text.split_inclusive('\n') {
        let marker = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if marker && offset > start {
            texts.push(&text[start..offset]);
            start = offset;
        }
        offset += line.len();
    }
    texts.push(&text[start..]);
    texts
}

/// Whether nothing stands in the document; `...` ends one.
fn is_blank(part: &str) -> bool {
    part.lines().all(|line| is_filler(line) || line.trim_end() == "...")
}

/// A blank line, a comment, or a document's marker alone.
fn is_filler(line: &str) -> bool {
    let rest = line.strip_prefix("---").unwrap_or(line).trim();
    rest.is_empty() || rest.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::{parts, read};
    use serde_json::json;

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
        ];
        let counts = texts.map(|text| {
            let parts = parts(text);
            assert_eq!(parts.iter().map(|part| part.text).collect::<String>(), text);
            let numbers: Vec<_> = parts.iter().filter_map(|part| part.number).collect();
            assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>(), "{text:?}");
            numbers.len()
        });
        assert_eq!(counts, [0, 0, 1, 3, 2, 1, 1, 2, 2, 1, 2]);
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
        assert_eq!(error.to_string(), "document 2: line 2 column 7: unclosed bracket '['");
        assert_eq!(read("- 1\n").unwrap_err().message, "is not an object with apiVersion and kind");
    }

    #[test]
    fn large_json_numbers_and_strings_survive() {
        let read = read("{\"a\": \"on\", \"b\": 9007199254740993, \"c\": \"---\\nx\"}").unwrap();
        assert_eq!(read[0].object, json!({"a": "on", "b": 9_007_199_254_740_993_u64, "c": "---\nx"}));
    }
}
