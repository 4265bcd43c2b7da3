//! Files of mounted volumes. IO.
//!
//! Input: a directory that the kubelet may have mounted. Output: files that belong together: the kubelet replaces all files
//! of a volume at once by renaming the symlink `..data`, then deletes the old ones (kubernetes
//! `pkg/volume/util/atomic_writer.go`), and file names beside it lead through that link. No read waits for a writer.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Swaps in a row that a reader puts up with.
const ATTEMPTS: usize = 10;

/// What `read` makes of the directory where the files of `directory` are now. It is called again where a swap came
/// between: a part of the old files may have been deleted under it.
pub fn consistent<T>(directory: &Path, read: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
    let mut current = resolve(directory);
    for _ in 0..ATTEMPTS {
        let outcome = read(&current);
        let now = resolve(directory);
        if now == current {
            return outcome;
        }
        current = now;
    }
    Err(io::Error::other("its files are replaced faster than they can be read"))
}

/// The bytes of a regular file of at most `limit` bytes.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // Asked before it is opened: to open a FIFO is to wait for its other end, and a device may never end.
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::other("it is a directory; name a file"));
    }
    if !metadata.is_file() {
        return Err(io::Error::other("it is a FIFO, a socket or a device; replace it by a file"));
    }
    let too_large = || io::Error::other(format!("it has more than {limit} bytes; make it smaller"));
    if metadata.len() > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    // It may grow meanwhile.
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) }
}

/// Where the files of `directory` are now; the directory itself where it is not such a volume.
fn resolve(directory: &Path) -> PathBuf {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    directory.join("..data").canonicalize().unwrap_or_else(|_| directory.to_path_buf())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::process::Command;

    use super::{ATTEMPTS, consistent, read, resolve};

    fn swap(root: &Path, version: usize) {
        fs::create_dir(root.join(format!("..{version}"))).unwrap();
        symlink(format!("..{version}"), root.join("..new")).unwrap();
        fs::rename(root.join("..new"), root.join("..data")).unwrap();
    }

    #[test]
    fn a_volume_is_read_through_its_current_data_directory() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(resolve(root.path()), root.path());
        swap(root.path(), 1);
        assert_eq!(resolve(root.path()), root.path().canonicalize().unwrap().join("..1"));
        assert_eq!(resolve(Path::new("")), Path::new("."));
    }

    #[test]
    fn what_was_read_during_a_swap_is_read_again_but_not_for_ever() {
        let root = tempfile::tempdir().unwrap();
        swap(root.path(), 0);
        let reads = Cell::new(0);
        let read_during = |swaps: usize| {
            reads.set(0);
            consistent(root.path(), |current| {
                reads.set(reads.get() + 1);
                if reads.get() <= swaps {
                    swap(root.path(), fs::read_dir(root.path()).unwrap().count());
                }
                Ok(current.to_path_buf())
            })
        };
        assert_eq!(read_during(1).unwrap(), resolve(root.path()));
        assert_eq!(reads.get(), 2);
        let error = read_during(usize::MAX).unwrap_err().to_string();
        assert_eq!(
            (reads.get(), error.as_str()),
            (ATTEMPTS, "its files are replaced faster than they can be read")
        );
    }

    #[test]
    fn regular_files_are_read_up_to_the_limit_and_nothing_else_is_opened() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::write(path("file"), "12345").unwrap();
        assert_eq!(read(&path("file"), 5).unwrap(), b"12345");
        let error = |name: &str, limit| read(&path(name), limit).unwrap_err().to_string();
        assert_eq!(error("file", 4), "it has more than 4 bytes; make it smaller");
        File::create(path("sparse")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(error("sparse", 5), "it has more than 5 bytes; make it smaller");
        assert_eq!(error("", 5), "it is a directory; name a file");
        assert!(Command::new("mkfifo").arg(path("fifo")).status().unwrap().success());
        assert_eq!(error("fifo", 5), "it is a FIFO, a socket or a device; replace it by a file");
        symlink("nowhere", path("dangling")).unwrap();
        assert_eq!(error("dangling", 5), "No such file or directory (os error 2)");
        // A device whose length says 0 and which never ends.
        assert!(read(Path::new("/dev/zero"), 5).is_err());
        // A regular file whose length says 0 although it has content.
        assert_eq!(
            read(Path::new("/proc/version"), 5).unwrap_err().to_string(),
            "it has more than 5 bytes; make it smaller"
        );
    }
}
