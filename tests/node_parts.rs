//! What a real node is made of, without one: what is said of a machine that cannot run it, and the images.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/node/image.rs"]
mod image;
#[expect(dead_code, reason = "the rest is for a node")]
#[path = "support/node/images.rs"]
mod images;
#[expect(dead_code, reason = "the rest is for a node")]
#[path = "support/node/preflight.rs"]
mod preflight;
#[expect(dead_code, reason = "the rest is for a node")]
#[path = "support/node/settings.rs"]
mod settings;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use image::Image;
use images::{PROMSIDECAR, promsidecar};
use preflight::{Cgroups, Facts, refusal};
use serde_json::Value;

/// A machine that can.
fn able() -> Facts {
    Facts {
        root: true,
        absent: Vec::new(),
        namespaces: String::new(),
        links: String::new(),
        overlay: String::new(),
        cgroups: Cgroups::V2(controllers("cpuset cpu io memory hugetlb pids rdma misc")),
        group: String::new(),
    }
}

fn controllers(names: &str) -> Vec<String> {
    names.split(' ').map(str::to_owned).collect()
}

/// The lines between the first, which says that there is a list, and the last, which says what to do.
fn named(facts: &Facts) -> Vec<String> {
    let Some(refusal) = refusal(facts) else { return Vec::new() };
    let lines: Vec<&str> = refusal.lines().collect();
    let [first, features @ .., last] = &lines[..] else { panic!("{refusal}") };
    assert_eq!(*first, "this machine cannot run a node, for lack of");
    assert_eq!(*last, "get them, or leave these tests out: make test E2E=0");
    features.iter().map(|line| line.trim_start().to_owned()).collect()
}

#[test]
fn every_missing_feature_is_named_with_what_to_do() {
    assert_eq!(named(&able()), [""; 0]);
    let v1 = Cgroups::V1(controllers("blkio cpu cpuacct cpuset devices freezer memory pids systemd"));
    assert_eq!(named(&Facts { cgroups: v1, ..able() }), [""; 0]);

    let cases: [(Facts, &[&str]); 8] = [
        // Whatever else is missing could not be found out.
        (
            Facts { root: false, absent: vec!["runc".to_owned()], cgroups: Cgroups::Absent, ..able() },
            &["root: namespaces, mounts and control groups need it"],
        ),
        (
            Facts { absent: vec!["ctr".to_owned(), "/usr/lib/cni/ptp".to_owned()], ..able() },
            &[
                "ctr: install the Debian package containerd, or run `make tools`",
                "/usr/lib/cni/ptp: install the Debian package containernetworking-plugins, or run `make tools`",
            ],
        ),
        (
            Facts { namespaces: "unshare: unshare failed: Operation not permitted".to_owned(), ..able() },
            &["namespaces (net, mnt, pid): unshare: unshare failed: Operation not permitted"],
        ),
        (
            Facts { links: "Error: Unknown device type.".to_owned(), ..able() },
            &["network links (bridge, veth): Error: Unknown device type."],
        ),
        (
            Facts { overlay: "mount: unknown filesystem type 'overlay'.".to_owned(), ..able() },
            &["overlayfs: mount: unknown filesystem type 'overlay'."],
        ),
        (
            Facts { cgroups: Cgroups::V2(controllers("cpuset cpu pids")), ..able() },
            &["cgroup controller memory: /sys/fs/cgroup (v2) has none"],
        ),
        (
            Facts { group: "mkdir: Read-only file system".to_owned(), ..able() },
            &["control groups of one's own: mkdir: Read-only file system"],
        ),
        (
            Facts { cgroups: Cgroups::Absent, ..able() },
            &[
                "cgroup controller cpu: /sys/fs/cgroup has none",
                "cgroup controller cpuset: /sys/fs/cgroup has none",
                "cgroup controller memory: /sys/fs/cgroup has none",
                "cgroup controller pids: /sys/fs/cgroup has none",
            ],
        ),
    ];
    for (facts, expected) in cases {
        assert_eq!(named(&facts), expected, "{facts:?}");
    }
}

#[test]
fn what_has_to_pass_before_a_merge_never_leaves_the_node_out() {
    assert!(!include_str!("../.ci/run").contains("E2E"));
}

/// What `tar` says of a file: one line an entry, with mode, owner, size and name.
fn listed(archive: &Path) -> Vec<String> {
    let output = Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(archive).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The columns are padded; the times are all the same.
    let line =
        |line: &str| line.split_whitespace().filter(|word| !word.contains(':')).collect::<Vec<_>>().join(" ");
    String::from_utf8(output.stdout).unwrap().lines().map(line).collect()
}

#[test]
fn an_image_is_an_oci_layout_that_tar_can_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("program"), "x".repeat(1000)).unwrap();
    let image = Image {
        name: "test.local/image:1".to_owned(),
        files: vec![(path("program"), "/bin/program".to_owned())],
        links: vec![("/bin/sh".to_owned(), "program".to_owned())],
        entrypoint: vec!["/bin/program".to_owned()],
        command: vec!["run".to_owned()],
        user: "1:2".to_owned(),
    };
    assert_eq!(image.archive(), image.archive(), "the same bytes");
    fs::write(path("image.tar"), image.archive()).unwrap();
    let mut unpack = Command::new("tar");
    unpack.arg("-xf").arg(path("image.tar")).arg("-C").arg(directory.path());
    assert!(unpack.status().unwrap().success());

    let json = |name: &str| serde_json::from_slice::<Value>(&fs::read(path(name)).unwrap()).unwrap();
    // Every blob has the digest that it is named by.
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap().replace("sha256:", "");
        let file = format!("blobs/sha256/{digest}");
        assert_eq!(fs::metadata(path(&file)).unwrap().len(), descriptor["size"], "{descriptor}");
        let sum = Command::new("sha256sum").arg(path(&file)).output().unwrap().stdout;
        assert!(String::from_utf8(sum).unwrap().starts_with(&digest), "{descriptor}");
        file
    };
    let index = json("index.json");
    assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], image.name);
    let manifest = json(&blob(&index["manifests"][0]));
    let config = json(&blob(&manifest["config"]));
    let layer = blob(&manifest["layers"][0]);
    assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
    let run = ["Entrypoint", "Cmd", "User"].map(|key| config["config"][key].clone());
    assert_eq!(
        run,
        [serde_json::json!(["/bin/program"]), serde_json::json!(["run"]), serde_json::json!("1:2")]
    );
    assert_eq!(
        listed(&path(&layer)),
        [
            "drwxrwxrwt 0/0 0 1970-01-01 tmp/",
            "-rw-r--r-- 0/0 54 1970-01-01 etc/passwd",
            "-rwxr-xr-x 0/0 1000 1970-01-01 bin/program",
            "lrwxrwxrwx 0/0 0 1970-01-01 bin/sh -> program",
        ]
    );
}

/// Instructions of the last stage of the Dockerfile.
fn dockerfile() -> BTreeMap<&'static str, Vec<&'static str>> {
    let (_, stage) = include_str!("../Dockerfile").rsplit_once("\nFROM ").unwrap();
    let mut instructions = BTreeMap::<_, Vec<_>>::new();
    for (name, rest) in stage.lines().filter_map(|line| line.split_once(' ')) {
        if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase()) {
            instructions.entry(name).or_default().push(rest);
        }
    }
    instructions
}

#[test]
fn the_image_of_promsidecar_is_that_of_the_dockerfile() {
    let program = Path::new(env!("CARGO_BIN_EXE_promsidecar"));
    let image = promsidecar(program);
    let instructions = dockerfile();
    let known = ["ARG", "CMD", "COPY", "ENTRYPOINT", "EXPOSE", "LABEL", "USER"];
    assert_eq!(instructions.keys().copied().collect::<Vec<_>>(), known, "another one needs a look here");

    let copied = image.files.iter().filter(|(from, _)| from == program);
    let copied: Vec<String> = copied.map(|(_, to)| format!("--from=build /out/promsidecar {to}")).collect();
    assert_eq!(instructions["COPY"], copied);
    assert_eq!(instructions["USER"], [image.user.as_str()]);
    let words = |name: &str| serde_json::from_str::<Vec<String>>(instructions[name][0]).unwrap();
    assert_eq!(words("ENTRYPOINT"), image.entrypoint);
    assert_eq!(words("CMD"), image.command);
    assert_eq!((&*image.name, image.links.len()), (PROMSIDECAR, 0));

    // What the rest stands for: the C runtime of the image that the stage begins with.
    let runtime =
        ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"];
    for (from, to) in image.files.iter().filter(|(from, _)| from != program) {
        assert_eq!(from, Path::new(to));
        let name = from.file_name().unwrap().to_str().unwrap();
        assert!(runtime.contains(&name), "{name} is not in gcr.io/distroless/cc");
    }
}

/// Everything in its PATH but Go.
#[test]
fn a_missing_go_is_one_sentence_with_what_to_do() {
    let path = tempfile::tempdir().unwrap();
    for program in ["bash", "basename", "dirname"] {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
        let found = String::from_utf8(found.stdout).unwrap();
        std::os::unix::fs::symlink(found.trim(), path.path().join(program)).unwrap();
    }
    let setup = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/setup.sh");
    let output = Command::new(setup).env("PATH", path.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"");
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "setup.sh: Go is missing, and the tests need it to build Prometheus, Kubernetes and the oracle: install it from \
         go.dev/doc/install and put its bin directory into PATH\n"
    );
}
