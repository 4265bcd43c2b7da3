//! JSON fragments with holes. PURE.
//!
//! Input: text serialised when a template changes, and the names of the holes that a pod fills. Output: bytes appended to
//! a patch, with no value tree in between.

use serde::Serialize;
use serde_json::Value;

/// A place in a fragment that is filled for each pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Hole {
    /// Milliseconds within which remote write must be flushed.
    FlushDeadline,
    /// Port that the agent listens on; 0 means any.
    ListenPort,
    /// `"ports":[…],`, or nothing.
    Ports,
    /// Limit of the agent's data segment in KiB.
    DataLimit,
    /// `"resources":{…},`, or nothing.
    Resources,
    /// User id.
    RunAsUser,
    /// `,"restartPolicy":"Always"`, or nothing.
    RestartPolicy,
    /// `,"optional":true`, or nothing: sources without which an agent exits.
    Optional,
    /// `,{…}` for each object that monitors of the pod's namespace refer to, or nothing.
    MonitorFiles,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    Text(String),
    Hole(Hole),
}

/// Serialised JSON, cut at its holes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Fragment {
    parts: Vec<Part>,
}

impl Fragment {
    /// Appends text that is JSON together with its neighbours.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        if let Some(Part::Text(last)) = self.parts.last_mut() {
            last.push_str(text);
        } else {
            self.parts.push(Part::Text(text.to_owned()));
        }
        self
    }

    /// Appends a value as JSON.
    pub(super) fn json(&mut self, value: &(impl Serialize + ?Sized)) -> &mut Self {
        let text = serde_json::to_string(value).expect("invariant: strings and JSON values serialise");
        self.text(&text)
    }

    /// Appends a hole.
    pub(super) fn hole(&mut self, hole: Hole) -> &mut Self {
        self.parts.push(Part::Hole(hole));
        self
    }

    /// Writes the fragment, asking `fill` for each hole.
    pub(super) fn write(&self, out: &mut Vec<u8>, mut fill: impl FnMut(Hole, &mut Vec<u8>)) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Hole(hole) => fill(*hole, out),
            }
        }
    }

    /// The parts with their holes by name, for hashing: equal for equal fragments and only for those. What monitors put in
    /// has a hash of its own.
    pub(super) fn fingerprint(&self) -> Value {
        let mut whole = Self::default();
        for part in &self.parts {
            match part {
                Part::Text(text) => {
                    whole.text(text);
                }
                Part::Hole(Hole::MonitorFiles) => {}
                Part::Hole(hole) => {
                    whole.hole(*hole);
                }
            }
        }
        serde_json::to_value(&whole.parts).expect("invariant: texts and names serialise")
    }
}
