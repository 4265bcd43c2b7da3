//! A volume as the kubelet's atomic writer keeps it (kubernetes `pkg/volume/util/atomic_writer.go`).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A directory whose files are replaced all at once.
pub(crate) struct Volume {
    root: PathBuf,
    swaps: usize,
}

impl Volume {
    /// A volume in an existing empty directory.
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf(), swaps: 0 }
    }

    /// Replaces all files: a new directory with a time stamp, a rename of `..data`, and the old directory is deleted.
    pub(crate) fn publish(&mut self, files: &[(&str, &[u8])]) {
        self.swaps += 1;
        let stamp = format!("..2026_11_24_08_00_00.{:010}", self.swaps);
        fs::create_dir(self.root.join(&stamp)).unwrap();
        for (name, content) in files {
            fs::write(self.root.join(&stamp).join(name), content).unwrap();
        }
        let data = self.root.join("..data");
        let old = fs::read_link(&data);
        symlink(&stamp, self.root.join("..data_tmp")).unwrap();
        fs::rename(self.root.join("..data_tmp"), &data).unwrap();
        for (name, _) in files {
            let link = self.root.join(name);
            if !link.is_symlink() {
                symlink(Path::new("..data").join(name), link).unwrap();
            }
        }
        if let Ok(old) = old {
            fs::remove_dir_all(self.root.join(old)).unwrap();
        }
    }
}
