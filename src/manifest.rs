//! Manifests: text with one or more Kubernetes objects to JSON values. PURE.
//!
//! Input: YAML (several documents) or JSON, `List` objects included. Output: the objects in order, each with the number of
//! its document, or an error that names the document.

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
    for (index, source) in split(text).into_iter().enumerate() {
        let number = index + 1;
        let fail = |message: String| ManifestError { number, message };
        let value: Value = serde_saphyr::from_str(source).map_err(|error| {
            // The lines after the first draw the place, which a log line has no room for.
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            fail(first.strip_prefix("error: ").unwrap_or(first).to_owned())
        })?;
        match value {
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
            _ => return Err(fail("is not an object with apiVersion and kind".to_owned())),
        }
    }
    Ok(documents)
}

/// The documents of a YAML stream: cut at lines that are a `---` marker.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let marker = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.trim_start().is_empty() || rest.starts_with([' ', '\t']));
        if marker && offset > start {
            parts.push(&text[start..offset]);
            start = offset;
        }
        offset += line.len();
    }
    parts.push(&text[start..]);
    parts.into_iter().filter(|part| !is_blank(part)).collect()
}

fn is_blank(part: &str) -> bool {
    part.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line == "---" || line == "..." || line.starts_with('#')
    })
}

#[cfg(test)]
mod tests {
    use super::read;
    use serde_json::json;

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
