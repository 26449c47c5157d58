//! Opening files of a checkpoint folder, and only of it. No file format is known here.

use super::{CheckpointError, FileBytes};
use memmap2::Mmap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A checkpoint folder on disk.
///
/// Names that the user or frit chose are opened as they are. Names that come from a file's content (shards in an
/// index) must be plain names of regular files of the folder. A symbolic link may stay within the folder or, as the
/// Hugging Face cache lays its files out, lead from `<repo>/snapshots/<revision>/` to `<repo>/blobs/`.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A folder that exists.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let io = |source| CheckpointError::Io { path: path.to_path_buf(), source };
        if !std::fs::metadata(path).map_err(io)?.is_dir() {
            return Err(io(std::io::ErrorKind::NotADirectory.into()));
        }
        Ok(Folder { path: path.to_path_buf() })
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True when a regular file of this name is there.
    pub fn holds(&self, name: &str) -> bool {
        std::fs::metadata(self.path.join(name)).is_ok_and(|m| m.is_file())
    }

    /// Maps a file whose name frit chose.
    pub fn map(&self, name: &str) -> Result<FileBytes, CheckpointError> {
        map_file(&self.path.join(name))
    }

    /// Maps a file that `index` names.
    pub fn map_shard(&self, index: &str, name: &str) -> Result<FileBytes, CheckpointError> {
        map_file(&self.checked(index, name)?)
    }

    /// Reads a small file whose name frit chose.
    pub fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, CheckpointError> {
        let path = self.path.join(name);
        let io = |source| CheckpointError::Io { path: path.clone(), source };
        let file = open_regular(&path)?;
        let size = file.metadata().map_err(io)?.len();
        if size > limit {
            return Err(CheckpointError::TooLarge { path, size, limit });
        }
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes).map_err(io)?;
        Ok(bytes)
    }

    fn checked(&self, index: &str, name: &str) -> Result<PathBuf, CheckpointError> {
        let refuse =
            |reason| CheckpointError::UnsafePath { index: index.to_string(), name: name.to_string(), reason };
        if name.is_empty() || name == "." || name == ".." {
            return Err(refuse("not a file name"));
        }
        if name.contains(['/', '\\', ':', '\0']) {
            return Err(refuse("only a plain file name is allowed, without a folder or drive"));
        }
        let path = self.path.join(name);
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| CheckpointError::Io { path, source }
        };
        let root = self.path.canonicalize().map_err(io(&self.path))?;
        let real = path.canonicalize().map_err(io(&path))?;
        let cache_blobs = root
            .parent()
            .filter(|snapshots| snapshots.file_name().is_some_and(|n| n == "snapshots"))
            .and_then(Path::parent)
            .map(|repo| repo.join("blobs"));
        let inside =
            real.starts_with(&root) || cache_blobs.is_some_and(|blobs| real.parent() == Some(&blobs));
        if !inside {
            return Err(refuse("the link leads out of the folder"));
        }
        Ok(real)
    }
}

fn open_regular(path: &Path) -> Result<File, CheckpointError> {
    let io = |source| CheckpointError::Io { path: path.to_path_buf(), source };
    // Asked before opening: opening a FIFO would wait for its writer.
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(io(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file")));
    }
    File::open(path).map_err(io)
}

fn map_file(path: &Path) -> Result<FileBytes, CheckpointError> {
    let io = |source| CheckpointError::Io { path: path.to_path_buf(), source };
    let file = open_regular(path)?;
    if file.metadata().map_err(io)?.len() == 0 {
        return Ok(Arc::new(Vec::<u8>::new()));
    }
    // SAFETY: the map is private and read-only. That no other process shrinks or rewrites a checkpoint while it is
    // open is the contract of every reader that maps files; it is stated in the crate's documentation.
    let map = unsafe { Mmap::map(&file) }.map_err(io)?;
    Ok(Arc::new(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(folder: &Folder, name: &str) -> bool {
        matches!(folder.map_shard("index.json", name), Err(CheckpointError::UnsafePath { .. }))
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("model");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(outer.path().join("secret"), b"x").unwrap();
        std::fs::write(inner.join("shard"), b"abc").unwrap();
        let folder = Folder::open(&inner).unwrap();
        for name in
            ["../secret", "/etc/hostname", "a/../../secret", "..\\secret", "C:secret", "", ".", "..", "a\0b"]
        {
            assert!(refused(&folder, name), "{name:?}");
        }
        assert_eq!((*folder.map_shard("i", "shard").unwrap()).as_ref(), b"abc");
    }

    #[cfg(unix)]
    #[test]
    fn links_may_stay_in_the_folder_or_lead_into_the_cache_blobs() {
        use std::os::unix::fs::symlink;
        let repo = tempfile::tempdir().unwrap();
        let snapshot = repo.path().join("snapshots/rev");
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::create_dir(repo.path().join("blobs")).unwrap();
        std::fs::write(repo.path().join("blobs/abc"), b"blob").unwrap();
        std::fs::write(repo.path().join("secret"), b"x").unwrap();
        std::fs::write(snapshot.join("plain"), b"plain").unwrap();
        symlink("../../blobs/abc", snapshot.join("cached")).unwrap();
        symlink("plain", snapshot.join("alias")).unwrap();
        symlink("../../secret", snapshot.join("escape")).unwrap();
        let folder = Folder::open(&snapshot).unwrap();
        assert_eq!((*folder.map_shard("i", "cached").unwrap()).as_ref(), b"blob");
        assert_eq!((*folder.map_shard("i", "alias").unwrap()).as_ref(), b"plain");
        assert!(refused(&folder, "escape"));
    }

    #[test]
    fn a_folder_in_place_of_a_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("shard")).unwrap();
        assert!(Folder::open(dir.path()).unwrap().map_shard("i", "shard").is_err());
    }
}
