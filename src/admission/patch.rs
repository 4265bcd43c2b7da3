//! Add-only JSON patches (RFC 6902), proven while they are written. PURE.
//!
//! Input: a [`PodView`] and fragments. Output: the bytes of a patch whose every operation applies to the object as
//! received: each parent was seen present and of the right kind, or was created by an earlier operation. The API server
//! rejects a pod whose patch does not apply, whatever the failure policy says, so what cannot be proven is not written.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json::Field;
use super::pod::PodView;

/// An object or array that operations add to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Parent {
    /// `/metadata/labels`.
    Labels,
    /// `/metadata/annotations`.
    Annotations,
    /// `/spec/volumes`.
    Volumes,
    /// `/spec/initContainers`.
    InitContainers,
    /// `/spec/containers`.
    Containers,
    /// `/metadata`, which only the pod template of a manifest may lack.
    Metadata,
}

impl Parent {
    const ALL: [Self; 6] = [
        Self::Labels,
        Self::Annotations,
        Self::Volumes,
        Self::InitContainers,
        Self::Containers,
        Self::Metadata,
    ];

    /// JSON pointer (RFC 6901).
    pub const fn pointer(self) -> &'static str {
        match self {
            Self::Labels => "/metadata/labels",
            Self::Annotations => "/metadata/annotations",
            Self::Volumes => "/spec/volumes",
            Self::InitContainers => "/spec/initContainers",
            Self::Containers => "/spec/containers",
            Self::Metadata => "/metadata",
        }
    }

    const fn is_array(self) -> bool {
        matches!(self, Self::Volumes | Self::InitContainers | Self::Containers)
    }
}

/// How a parent was found before a patch created it; `uninject` restores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Was {
    /// The member was not there.
    Absent,
    /// The member was `null`.
    Null,
}

impl Was {
    /// How a member was found; `None` where it holds something.
    pub const fn of(member: Option<&Value>) -> Option<Self> {
        match member {
            None => Some(Self::Absent),
            Some(Value::Null) => Some(Self::Null),
            Some(_) => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Missing(Was),
    Wrong,
}

/// An operation that could not be proven to apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} is of an unexpected kind", .0.pointer())]
pub struct Unprovable(pub Parent);

/// A patch in the making.
pub struct Patch {
    bytes: Vec<u8>,
    states: [State; 6],
}

/// A finished patch: `[{"op":"add","path":…,"value":…},…]`.
#[derive(Clone, PartialEq, Eq)]
pub struct PatchBytes(pub Vec<u8>);

impl fmt::Debug for PatchBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl Patch {
    /// Starts a patch for this pod.
    pub fn new(pod: &PodView<'_>) -> Self {
        let states = Parent::ALL.map(|parent| {
            let (Some(metadata), Some(spec)) = (pod.metadata.value(), pod.spec.value()) else {
                return State::Wrong;
            };
            match parent {
                Parent::Labels => state(&metadata.labels),
                Parent::Annotations => state(&metadata.annotations),
                Parent::Volumes => state(&spec.volumes),
                Parent::InitContainers => state(&spec.init_containers),
                Parent::Containers => state(&spec.containers),
                Parent::Metadata => State::Ready,
            }
        });
        let mut bytes = Vec::with_capacity(16 * 1024);
        bytes.push(b'[');
        Self { bytes, states }
    }

    /// How a parent will have been found, if adding to it has to create it.
    pub const fn would_create(&self, parent: Parent) -> Option<Was> {
        match self.states[parent as usize] {
            State::Missing(was) => Some(was),
            State::Ready | State::Wrong => None,
        }
    }

    /// Adds a string member to an object.
    pub fn member(&mut self, parent: Parent, key: &str, value: &str) -> Result<(), Unprovable> {
        self.open(parent, key)?;
        write_string(value, &mut self.bytes);
        self.bytes.push(b'}');
        Ok(())
    }

    /// Adds a string member whose content is escaped already.
    pub fn escaped_member(
        &mut self,
        parent: Parent,
        key: &str,
        value: &EscapedJson,
    ) -> Result<(), Unprovable> {
        self.open(parent, key)?;
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(&value.bytes);
        self.bytes.extend_from_slice(b"\"}");
        Ok(())
    }

    /// Appends an element to an array; `value` writes its JSON.
    pub fn element(&mut self, parent: Parent, value: impl FnOnce(&mut Vec<u8>)) -> Result<(), Unprovable> {
        self.open(parent, "-")?;
        value(&mut self.bytes);
        self.bytes.push(b'}');
        Ok(())
    }

    /// The finished patch.
    pub fn finish(mut self) -> PatchBytes {
        self.bytes.push(b']');
        PatchBytes(self.bytes)
    }

    /// Writes an operation up to its value, after creating the parent where it is missing.
    fn open(&mut self, parent: Parent, key: &str) -> Result<(), Unprovable> {
        match self.states[parent as usize] {
            State::Wrong => return Err(Unprovable(parent)),
            State::Ready => {}
            State::Missing(_) => {
                self.path(parent.pointer(), None);
                self.bytes.extend_from_slice(if parent.is_array() { b"[]}" } else { b"{}}" });
                self.states[parent as usize] = State::Ready;
            }
        }
        self.path(parent.pointer(), Some(key));
        Ok(())
    }

    fn path(&mut self, pointer: &str, key: Option<&str>) {
        if self.bytes.len() > 1 {
            self.bytes.push(b',');
        }
        self.bytes.extend_from_slice(b"{\"op\":\"add\",\"path\":\"");
        self.bytes.extend_from_slice(pointer.as_bytes());
        if let Some(key) = key {
            self.bytes.push(b'/');
            // RFC 6901: `~` and `/` are escaped. Keys are ours: no character needs JSON escapes.
            for byte in key.bytes() {
                match byte {
                    b'~' => self.bytes.extend_from_slice(b"~0"),
                    b'/' => self.bytes.extend_from_slice(b"~1"),
                    byte => self.bytes.push(byte),
                }
            }
        }
        self.bytes.extend_from_slice(b"\",\"value\":");
    }
}

const fn state<T>(field: &Field<T>) -> State {
    match field {
        Field::Absent => State::Missing(Was::Absent),
        Field::Null => State::Missing(Was::Null),
        Field::Wrong => State::Wrong,
        Field::Value(_) => State::Ready,
    }
}

/// JSON text that becomes the content of a JSON string, escaped while it is written: what is written once and repeated is
/// not escaped again and again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EscapedJson {
    bytes: Vec<u8>,
    length: usize,
}

impl EscapedJson {
    /// Empty, with room for that many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), length: 0 }
    }

    /// Bytes of the text before escaping.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing was written.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends JSON text. It holds no control characters outside of strings, and inside they are escaped.
    pub fn json(&mut self, text: &str) {
        for part in text.as_bytes().split_inclusive(|byte| matches!(byte, b'"' | b'\\')) {
            match part.split_last() {
                Some((special @ (b'"' | b'\\'), plain)) => {
                    self.bytes.extend_from_slice(plain);
                    self.bytes.extend_from_slice(&[b'\\', *special]);
                }
                _ => self.bytes.extend_from_slice(part),
            }
        }
        self.length += text.len();
    }

    /// Appends text that needs no escapes, such as digits and names of labels.
    pub fn plain(&mut self, text: &str) {
        debug_assert!(!needs_escapes(text), "{text:?}");
        self.bytes.extend_from_slice(text.as_bytes());
        self.length += text.len();
    }

    /// Appends a quotation mark.
    pub fn quote(&mut self) {
        self.bytes.extend_from_slice(b"\\\"");
        self.length += 1;
    }

    /// Appends text as a JSON string.
    pub fn string(&mut self, text: &str) {
        if needs_escapes(text) {
            self.json(&serde_json::to_string(text).expect("invariant: a string is written to memory"));
        } else {
            self.quote();
            self.plain(text);
            self.quote();
        }
    }

    /// Appends what was escaped before.
    pub fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.length += other.length;
    }
}

/// Whether a JSON string of this text differs from the text.
#[expect(clippy::needless_bitwise_bool, reason = "without an early end, texts are checked in vectors")]
fn needs_escapes(text: &str) -> bool {
    text.bytes().fold(false, |found, byte| found | (byte < b' ') | (byte == b'"') | (byte == b'\\'))
}

/// Writes a JSON string.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    if needs_escapes(text) {
        serde_json::to_writer(out, text).expect("invariant: a string is written to memory");
    } else {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::{EscapedJson, write_string};

    #[test]
    fn strings_are_written_as_serde_writes_them_and_escaped_text_is_what_escaping_it_whole_gives() {
        let (mut raw, mut escaped) = (String::new(), EscapedJson::default());
        for text in ["", "plain", "\"", "\\", "a\"b\\c\n", "\u{0}\u{1f}\u{7f} \u{2028} é 😀", "\\\"\\"] {
            let mut written = Vec::new();
            write_string(text, &mut written);
            let string = serde_json::to_string(text).unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), string);

            raw.push_str("{\"key\":12,");
            raw.push_str(&string);
            escaped.json("{\"key\":");
            escaped.plain("12,");
            let mut part = EscapedJson::with_capacity(8);
            part.string(text);
            escaped.append(&part);
        }
        assert_eq!(escaped.len(), raw.len());
        let whole = serde_json::to_string(&raw).unwrap();
        assert_eq!(format!("\"{}\"", String::from_utf8(escaped.bytes).unwrap()), whole);
    }
}
