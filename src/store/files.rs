//! Templates, their monitors, and namespaces from a directory of manifests. IO: reads files, by polling.
//!
//! Input: every `*.yaml`, `*.yml` and `*.json` of the directory (not of its subdirectories). Output: a [`Store`] that keeps,
//! for each file, the last version that could be read: a half-written file changes nothing, a file that is gone takes its
//! objects with it. Polling rather than notification, because a watch on a file does not survive the kubelet's symlink
//! swaps and mounts without notification exist. No file can hold the watch up: only regular ones of a bounded size are read.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::Store;
use super::documents::{self, Files, Problem};
use crate::admission::catalog::Catalog;
use crate::manifest;
use crate::mounted;
use crate::template::Settings;

/// How often the directory is looked at.
pub const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Most bytes of one file: a ConfigMap has 1 MiB at most, a list of a large cluster's templates a few.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// A directory of manifests.
#[derive(Debug)]
pub struct FileStore {
    directory: PathBuf,
    settings: Settings,
    catalog: ArcSwap<Catalog>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes last seen of each file, whether they could be read or not.
    seen: BTreeMap<String, Vec<u8>>,
    /// Last good documents of each file.
    good: Files,
    /// What is wrong with the present bytes of a file, by name.
    unreadable: BTreeMap<String, Problem>,
    /// What was said about monitors.
    noted: Vec<String>,
    /// Documents that the last build left out.
    left_out: Vec<Problem>,
    /// What was logged and still holds.
    logged: BTreeSet<Problem>,
    /// Why the directory could not be listed the last time.
    unlisted: Option<String>,
    /// Whether the directory was ever read.
    synced: bool,
}

impl FileStore {
    /// A store that has read nothing yet; call [`Self::poll`].
    pub fn new(directory: PathBuf, settings: Settings) -> Self {
        Self { directory, settings, catalog: ArcSwap::default(), state: Mutex::default() }
    }

    /// Looks at the directory for ever.
    pub async fn watch(self: Arc<Self>, every: Duration) -> anyhow::Result<()> {
        let mut interval = tokio::time::interval(every);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let store = Arc::clone(&self);
            tokio::task::spawn_blocking(move || store.poll()).await?;
        }
    }

    /// Reads what changed and swaps the catalog if anything did.
    pub fn poll(&self) {
        let mut state = self.state();
        let files = match mounted::consistent(&self.directory, contents) {
            Ok(files) => files,
            Err(error) => return state.cannot_list(&self.directory, &error),
        };
        if state.unlisted.take().is_some() && state.synced {
            tracing::info!(directory = %self.directory.display(), "the directory can be listed again");
        }

        let mut changed = !state.synced | state.forget_all_but(&files);
        for (name, bytes) in files {
            changed |= state.take(name, bytes);
        }
        if changed {
            let previous = self.catalog.load();
            let built = documents::build(&state.good, &self.settings, &previous);
            super::log_violations(&previous, &built.catalog);
            let (templates, files) = (built.catalog.templates().count(), state.good.len());
            tracing::info!(templates, files, "templates read");
            if templates == 0 {
                let directory = self.directory.display();
                tracing::warn!(%directory, "no PrometheusAgent in the directory: no pod gets an agent; put a template there");
            }
            state.left_out = built.problems;
            for note in built.notes.iter().filter(|note| !state.noted.contains(note)) {
                tracing::warn!(note, "monitor");
            }
            state.noted = built.notes;
            self.catalog.store(Arc::new(built.catalog));
        }
        state.log_problems();
        state.synced = true;
    }

    /// What is wrong at present, sorted: files that cannot be read, and single documents of those that can.
    pub fn problems(&self) -> Vec<Problem> {
        self.state().problems().into_iter().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete at each point where it could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for FileStore {
    fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    fn readiness(&self) -> Result<(), String> {
        let state = self.state();
        match (&state.unlisted, state.synced) {
            // A directory that was read once serves from what it held.
            (_, true) => Ok(()),
            (Some(why), false) => Err(format!("templates not read: {why}")),
            (None, false) => Err(format!("templates not read yet: {}", self.directory.display())),
        }
    }
}

impl State {
    fn cannot_list(&mut self, directory: &Path, error: &io::Error) {
        let message = format!("cannot list {}: {error}", directory.display());
        if self.unlisted.as_ref() != Some(&message) {
            tracing::error!(error = message, "templates stay as they were");
            self.unlisted = Some(message);
        }
    }

    /// Drops files that are gone; whether any had objects.
    fn forget_all_but(&mut self, files: &Contents) -> bool {
        self.seen.retain(|name, _| files.contains_key(name));
        self.unreadable.retain(|name, _| files.contains_key(name));
        let before = self.good.len();
        self.good.retain(|name, _| files.contains_key(name));
        self.good.len() != before
    }

    /// Reads one file's documents if its bytes changed; whether they did too.
    fn take(&mut self, name: String, bytes: io::Result<Vec<u8>>) -> bool {
        let problem = |document, message| Problem { file: name.clone(), document, message };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                self.seen.remove(&name);
                self.unreadable.insert(name.clone(), problem(0, format!("cannot be read: {error}")));
                return false;
            }
        };
        if self.seen.get(&name) == Some(&bytes) {
            return false;
        }
        let read = std::str::from_utf8(&bytes)
            .map_err(|error| problem(0, format!("is not UTF-8: {error}")))
            .and_then(|text| manifest::read(text).map_err(|error| problem(error.number, error.message)));
        self.seen.insert(name.clone(), bytes);
        match read {
            Ok(documents) => {
                self.unreadable.remove(&name);
                self.good.insert(name, documents);
                true
            }
            Err(problem) => {
                self.unreadable.insert(name, problem);
                false
            }
        }
    }

    fn problems(&self) -> BTreeSet<Problem> {
        self.unreadable.values().chain(&self.left_out).cloned().collect()
    }

    /// Logs what is newly wrong and what is mended, each once.
    fn log_problems(&mut self) {
        let problems = self.problems();
        for Problem { file, document, message } in problems.difference(&self.logged) {
            let last_good = self.good.contains_key(file) && self.unreadable.contains_key(file);
            tracing::warn!(
                file,
                document,
                problem = message,
                last_good_in_force = last_good,
                "manifest left out"
            );
        }
        for Problem { file, document, .. } in self.logged.difference(&problems) {
            tracing::info!(file, document, "manifest mended");
        }
        self.logged = problems;
    }
}

/// The bytes of each manifest by name, or why they cannot be read.
type Contents = BTreeMap<String, io::Result<Vec<u8>>>;

fn contents(directory: &Path) -> io::Result<Contents> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = entry.path();
        let manifest =
            path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|e| extension == *e));
        // A link is followed: in a volume every file is one.
        if manifest && !name.starts_with('.') && !path.is_dir() {
            files.insert(name, mounted::read(&path, MAX_FILE));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{FileStore, Problem};
    use crate::store::Store;
    use crate::template::Settings;

    fn namespace(name: &str) -> String {
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
    }

    fn store(directory: &Path) -> FileStore {
        FileStore::new(directory.to_path_buf(), Settings::default())
    }

    fn knows(store: &FileStore, name: &str) -> bool {
        store.catalog().namespace(name).is_some()
    }

    #[test]
    fn a_broken_file_keeps_its_last_good_version_until_it_is_mended() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.yaml");
        let store = store(directory.path());
        std::fs::write(&file, namespace("one")).unwrap();
        store.poll();
        assert!(knows(&store, "one"));

        std::fs::write(&file, format!("{}---\nkind: [\n", namespace("two"))).unwrap();
        store.poll();
        store.poll();
        assert!(knows(&store, "one") && !knows(&store, "two"));
        let problems = store.problems();
        assert_eq!(
            problems.iter().map(|p| (p.file.as_str(), p.document)).collect::<Vec<_>>(),
            [("a.yaml", 2)]
        );

        std::fs::write(&file, namespace("two")).unwrap();
        store.poll();
        assert!(knows(&store, "two") && !knows(&store, "one"));
        assert_eq!(store.problems(), []);
    }

    #[test]
    fn a_file_that_is_gone_takes_its_objects_with_it() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.yaml"), namespace("one")).unwrap();
        std::fs::write(
            directory.path().join("b.json"),
            br#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "two"}}"#,
        )
        .unwrap();
        std::fs::write(directory.path().join("c.txt"), namespace("three")).unwrap();
        let store = store(directory.path());
        store.poll();
        assert!(knows(&store, "one") && knows(&store, "two") && !knows(&store, "three"));
        std::fs::remove_file(directory.path().join("a.yaml")).unwrap();
        store.poll();
        assert!(!knows(&store, "one") && knows(&store, "two"));
    }

    #[test]
    fn a_swapped_volume_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let volume = directory.path();
        for (version, name) in [("..1", "one"), ("..2", "two")] {
            std::fs::create_dir(volume.join(version)).unwrap();
            std::fs::write(volume.join(version).join("a.yaml"), namespace(name)).unwrap();
        }
        std::os::unix::fs::symlink("..1", volume.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/a.yaml", volume.join("a.yaml")).unwrap();
        let store = store(volume);
        store.poll();
        assert!(knows(&store, "one"));
        std::os::unix::fs::symlink("..2", volume.join("..data_tmp")).unwrap();
        std::fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
        store.poll();
        assert!(knows(&store, "two") && !knows(&store, "one"));
    }

    #[test]
    fn a_directory_that_cannot_be_listed_is_not_ready_and_later_keeps_what_was_read() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("templates");
        let store = store(&directory);
        assert!(store.readiness().unwrap_err().starts_with("templates not read yet: "));
        store.poll();
        assert!(store.readiness().unwrap_err().starts_with("templates not read: cannot list "));
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("a.yml"), namespace("one")).unwrap();
        store.poll();
        assert_eq!(store.readiness(), Ok(()));
        std::fs::remove_dir_all(&directory).unwrap();
        store.poll();
        assert_eq!(store.readiness(), Ok(()));
        assert!(knows(&store, "one"));
    }

    #[test]
    fn bytes_that_are_no_text_are_reported() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.yaml"), [0xff, 0xfe]).unwrap();
        let store = store(directory.path());
        store.poll();
        let [Problem { file, document, message }] = &store.problems()[..] else { panic!("one problem") };
        assert_eq!((file.as_str(), *document), ("a.yaml", 0));
        assert!(message.starts_with("is not UTF-8: "), "{message}");
    }
}
