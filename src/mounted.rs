//! Files of mounted volumes. IO.
//!
//! Input: a directory that the kubelet may have mounted. Output: the directory to read from, such that several files read
//! through it belong together: the kubelet replaces all files of a volume at once by renaming the symlink `..data`
//! (kubernetes `pkg/volume/util/atomic_writer.go`), and file names beside it lead through that link.

use std::path::{Path, PathBuf};

/// Where the files of `directory` are now; the directory itself where it is not such a volume.
pub fn resolve(directory: &Path) -> PathBuf {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    directory.join("..data").canonicalize().unwrap_or_else(|_| directory.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::resolve;
    use std::path::Path;

    #[test]
    fn a_volume_is_read_through_its_current_data_directory() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(resolve(root.path()), root.path());
        std::fs::create_dir(root.path().join("..1")).unwrap();
        std::os::unix::fs::symlink("..1", root.path().join("..data")).unwrap();
        assert_eq!(resolve(root.path()), root.path().canonicalize().unwrap().join("..1"));
        assert_eq!(resolve(Path::new("")), Path::new("."));
    }
}
