//! The images that the node runs, from what was built here.
//!
//! Input: the built programs. Output: [`Image`]s.

use std::path::{Path, PathBuf};

use promsidecar::template::Settings;

use super::image::Image;
use super::settings::PAUSE;

/// Image of the applications.
pub(crate) const APP: &str = "test.local/app:1";
/// Image of promsidecar.
pub(crate) const PROMSIDECAR: &str = "test.local/promsidecar:1";

/// What the loop and a Prometheus image need of busybox.
const APPLETS: [&str; 6] = ["sh", "date", "expr", "rm", "sleep", "cat"];

/// All of them.
pub(crate) fn all() -> Vec<Image> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/tools");
    let version = Settings::default().agent_version;
    let prometheus = tools.join(format!("prometheus-{version}/prometheus"));
    let standin = standin();
    vec![
        standing_in(PAUSE, &standin, &["pause"]),
        standing_in(APP, &standin, &["app"]),
        agent(&prometheus),
        promsidecar(Path::new(env!("CARGO_BIN_EXE_promsidecar"))),
    ]
}

/// The program of applications, built by `make tools`.
pub(crate) fn standin() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/tools/node/standin")
}

fn standing_in(name: &str, program: &Path, command: &[&str]) -> Image {
    let image = Image {
        name: name.to_owned(),
        entrypoint: vec!["/standin".to_owned()],
        command: command.iter().map(|&word| word.to_owned()).collect(),
        user: "65534:65534".to_owned(),
        ..Image::default()
    };
    image.program(program, "/standin")
}

/// The agent, under the name that injected pods ask for: Prometheus beside a busybox, as upstream's image has it.
fn agent(prometheus: &Path) -> Image {
    let Settings { agent_image, agent_version, .. } = Settings::default();
    let image = Image {
        name: format!("{agent_image}:{agent_version}"),
        links: APPLETS.iter().map(|name| (format!("/bin/{name}"), "busybox".to_owned())).collect(),
        entrypoint: vec!["/bin/prometheus".to_owned()],
        user: "65534:65534".to_owned(),
        ..Image::default()
    };
    image.program(prometheus, "/bin/prometheus").program(&busybox(), "/bin/busybox")
}

/// promsidecar as the Dockerfile has it; the libraries stand for the image that the Dockerfile begins with.
pub(crate) fn promsidecar(program: &Path) -> Image {
    let image = Image {
        name: PROMSIDECAR.to_owned(),
        entrypoint: vec!["/usr/local/bin/promsidecar".to_owned()],
        command: vec!["webhook".to_owned()],
        user: "65532:65532".to_owned(),
        ..Image::default()
    };
    image.program(program, "/usr/local/bin/promsidecar")
}

fn busybox() -> PathBuf {
    let found =
        ["/usr/bin/busybox", "/bin/busybox"].map(PathBuf::from).into_iter().find(|path| path.is_file());
    found.expect("busybox is missing: run `make tools`")
}
