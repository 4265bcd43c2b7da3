//! Container images from files of this machine: no daemon, no registry, the same bytes from the same files.
//!
//! Input: files and what to run. Output: an OCI image layout as a tar file, for `ctr images import`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// An image to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Image {
    /// Its name, with registry and tag.
    pub(crate) name: String,
    /// Files, as path here and path in the image.
    pub(crate) files: Vec<(PathBuf, String)>,
    /// Symbolic links, as path in the image and target.
    pub(crate) links: Vec<(String, String)>,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) command: Vec<String>,
    /// User and group ids.
    pub(crate) user: String,
}

impl Image {
    /// Adds a program and the libraries that it is linked to.
    pub(crate) fn program(mut self, from: &Path, to: &str) -> Self {
        self.files.push((from.to_owned(), to.to_owned()));
        for library in libraries(from) {
            let file = (PathBuf::from(&library), library);
            if !self.files.contains(&file) {
                self.files.push(file);
            }
        }
        self
    }

    /// The tar file.
    pub(crate) fn archive(&self) -> Vec<u8> {
        let layer = self.layer();
        let mut archive = Archive::default();
        let blob = |archive: &mut Archive, kind: &str, content: &[u8]| {
            let digest = sha256(content);
            archive.file(&format!("blobs/sha256/{digest}"), content, 0o644);
            let media_type = format!("application/vnd.oci.image.{kind}");
            json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": content.len()})
        };
        let layer = blob(&mut archive, "layer.v1.tar", &layer);
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {"Entrypoint": self.entrypoint, "Cmd": self.command, "User": self.user, "Env": ["PATH=/usr/bin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        });
        let config = blob(&mut archive, "config.v1+json", &bytes(&config));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [layer],
        });
        let mut manifest = blob(&mut archive, "manifest.v1+json", &bytes(&manifest));
        manifest["annotations"] = json!({"io.containerd.image.name": self.name});
        archive.file("index.json", &bytes(&json!({"schemaVersion": 2, "manifests": [manifest]})), 0o644);
        archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644);
        archive.finish()
    }

    /// The file system.
    fn layer(&self) -> Vec<u8> {
        let mut archive = Archive::default();
        archive.entry(b'5', "tmp/", "", &[], 0o1777);
        let users = "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n";
        archive.file("etc/passwd", users.as_bytes(), 0o644);
        for (from, to) in &self.files {
            let content = fs::read(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
            archive.file(to.trim_start_matches('/'), &content, 0o755);
        }
        for (path, target) in &self.links {
            archive.entry(b'2', path.trim_start_matches('/'), target, &[], 0o777);
        }
        archive.finish()
    }
}

/// Paths of the shared libraries of a program, and of what loads them (`ldd`); a static program has none.
fn libraries(program: &Path) -> Vec<String> {
    let output = Command::new("ldd").arg(program).output().expect("ldd starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let paths = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    paths.map(str::to_owned).collect()
}

/// This machine's, in the words of OCI.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("a value serialises")
}

fn sha256(content: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(content).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes every write");
        text
    })
}

/// A tar file in the making (POSIX ustar), all of it root's and of the same age.
#[derive(Debug, Default)]
struct Archive(Vec<u8>);

impl Archive {
    fn file(&mut self, name: &str, content: &[u8], mode: u32) {
        self.entry(b'0', name, "", content, mode);
    }

    fn entry(&mut self, kind: u8, name: &str, target: &str, content: &[u8], mode: u32) {
        assert!(name.len() <= 100 && target.len() <= 100, "{name}: too long for ustar");
        let mut header = [0; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, &format!("{mode:07o}"));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", content.len()));
        put(136, "00000000000");
        // The sum is taken with blanks in its own place.
        put(148, "        ");
        put(157, target);
        put(257, "ustar\u{0}00");
        header[156] = kind;
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\u{0}").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(content);
        self.pad(512);
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }

    fn pad(&mut self, block: usize) {
        self.0.resize(self.0.len().next_multiple_of(block), 0);
    }
}
