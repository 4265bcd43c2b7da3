//! A volume as the kubelet's atomic writer keeps it (kubernetes `pkg/volume/util/atomic_writer.go`).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Contents by path below the volume.
type Files = BTreeMap<String, Vec<u8>>;

/// A directory whose files are replaced all at once.
pub(crate) struct Volume {
    root: PathBuf,
    swaps: usize,
    published: Option<Files>,
}

#[allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part")]
impl Volume {
    /// A volume in an existing empty directory.
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf(), swaps: 0, published: None }
    }

    /// Replaces all files, unless they are what is there. Gives whether it did.
    pub(crate) fn update(&mut self, files: &[(&str, &[u8])]) -> bool {
        let changed = self.published.as_ref() != Some(&owned(files));
        if changed {
            self.publish(files);
        }
        changed
    }

    /// Replaces all files: a new directory with a time stamp, a rename of `..data`, and the old directory is deleted. Each
    /// first part of a path is a link through `..data`.
    pub(crate) fn publish(&mut self, files: &[(&str, &[u8])]) {
        self.swaps += 1;
        let stamp = format!("..2026_11_24_08_00_00.{:010}", self.swaps);
        fs::create_dir(self.root.join(&stamp)).unwrap();
        for (path, content) in files {
            let file = self.root.join(&stamp).join(path);
            fs::create_dir_all(file.parent().expect("below the volume")).unwrap();
            fs::write(file, content).unwrap();
        }
        let data = self.root.join("..data");
        let old = fs::read_link(&data);
        symlink(&stamp, self.root.join("..data_tmp")).unwrap();
        fs::rename(self.root.join("..data_tmp"), &data).unwrap();
        let first = |path: &str| path.split('/').next().expect("a path").to_owned();
        for (path, _) in files {
            let name = first(path);
            let link = self.root.join(&name);
            if !link.is_symlink() {
                symlink(Path::new("..data").join(&name), link).unwrap();
            }
        }
        let before = self.published.replace(owned(files)).unwrap_or_default();
        for name in before.keys().map(|path| first(path)) {
            let link = self.root.join(&name);
            if link.is_symlink() && files.iter().all(|(path, _)| first(path) != name) {
                fs::remove_file(link).unwrap();
            }
        }
        if let Ok(old) = old {
            fs::remove_dir_all(self.root.join(old)).unwrap();
        }
    }
}

fn owned(files: &[(&str, &[u8])]) -> Files {
    files.iter().map(|(path, content)| ((*path).to_owned(), content.to_vec())).collect()
}
