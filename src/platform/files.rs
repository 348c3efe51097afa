//! Files: reads that are bounded and name the path in every error, writes that a crash at any instant leaves whole, and the lock that
//! keeps two processes out of one directory.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// A failure at a path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried.
    pub action: &'static str,
    /// Where.
    pub path: PathBuf,
    /// What the host said.
    pub source: std::io::Error,
}

impl FileError {
    fn at(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// Whether nothing is there.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == ErrorKind::NotFound
    }
}

/// Reads a regular file of at most `limit` bytes. The bytes are wiped when dropped: they may be a key.
pub fn read(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let open = OpenOptions::new()
        .read(true)
        // A FIFO in place of a file must not block us.
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open(path)
        .map_err(FileError::at("read", path))?;
    let metadata = open.metadata().map_err(FileError::at("read", path))?;
    let refuse = |why: String| FileError::at("read", path)(std::io::Error::new(ErrorKind::InvalidData, why));
    if !metadata.is_file() {
        return Err(refuse("it is not a regular file".into()));
    }
    if metadata.len() > limit {
        return Err(refuse(format!("it is larger than {limit} bytes")));
    }
    // Room for all of it at once: a buffer that grows would leave copies of a key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
    open.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(FileError::at("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(refuse(format!("it is larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// As [`read`], with `None` when nothing is there.
pub fn read_if_exists(path: &Path, limit: u64) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
    match read(path, limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// As [`read`], for text.
pub fn read_text(path: &Path, limit: u64) -> Result<String, FileError> {
    let bytes = read(path, limit)?;
    std::str::from_utf8(&bytes)
        .map(str::to_owned)
        .map_err(|error| FileError::at("read", path)(std::io::Error::new(ErrorKind::InvalidData, error)))
}

/// As [`read_text`], but takes a pipe as well, and `-` for standard input: for what a person gives by hand.
pub fn read_text_or_pipe(path: &Path, limit: u64) -> Result<String, FileError> {
    let source: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(File::open(path).map_err(FileError::at("read", path))?),
    };
    // Room for all of it at once, as in `read`.
    let mut text = String::with_capacity(limit as usize + 1);
    source
        .take(limit + 1)
        .read_to_string(&mut text)
        .map_err(FileError::at("read", path))?;
    match text.len() as u64 > limit {
        true => {
            let why = format!("it is larger than {limit} bytes");
            Err(FileError::at("read", path)(std::io::Error::new(
                ErrorKind::InvalidData,
                why,
            )))
        }
        false => Ok(text),
    }
}

/// Whether something is there; an error when that cannot be told.
pub fn exists(path: &Path) -> Result<bool, FileError> {
    path.try_exists().map_err(FileError::at("look at", path))
}

/// Whether a directory is there; what cannot be looked at is none.
pub fn is_directory(path: &Path) -> bool {
    path.is_dir()
}

/// Who may read a written file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The owner alone: keys and tokens.
    Secret = 0o600,
    /// Everyone: certificates.
    Public = 0o644,
}

/// Replaces a file whole: a temporary file beside it, synced, renamed over it, and the directory synced. After a crash at any instant the
/// path holds the old content or the new, never a part.
pub fn write(path: &Path, content: &[u8], mode: Mode) -> Result<(), FileError> {
    write_with(path, mode, |file| file.write_all(content))
}

/// As [`write()`], for content that comes piece by piece.
pub fn write_with(
    path: &Path,
    mode: Mode,
    content: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), FileError> {
    let fail = |error| FileError::at("write", path)(error);
    let temporary = temporary_beside(path, mode, content).map_err(fail)?;
    temporary.persist(path).map_err(|error| fail(error.error))?;
    sync_directory(path).map_err(fail)
}

/// As [`write()`], but fails when anything is there.
pub fn create(path: &Path, content: &[u8], mode: Mode) -> Result<(), FileError> {
    let fail = |error| FileError::at("create", path)(error);
    let temporary = temporary_beside(path, mode, |file| file.write_all(content)).map_err(fail)?;
    temporary.persist_noclobber(path).map_err(|error| fail(error.error))?;
    sync_directory(path).map_err(fail)
}

fn temporary_beside(
    path: &Path,
    mode: Mode,
    content: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> std::io::Result<tempfile::NamedTempFile> {
    let mut temporary = tempfile::Builder::new()
        .prefix(".countersign-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(mode as u32))
        .tempfile_in(directory_of(path))?;
    content(temporary.as_file_mut())?;
    temporary.as_file().sync_all()?;
    Ok(temporary)
}

fn directory_of(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn sync_directory(of: &Path) -> std::io::Result<()> {
    File::open(directory_of(of)).and_then(|directory| directory.sync_all())
}

/// Gives a file another name in the same directory, durably.
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    std::fs::rename(from, to).map_err(FileError::at("rename", from))?;
    sync_directory(to).map_err(FileError::at("rename", from))
}

/// Makes a directory (and its parents) that only its owner may enter, if it is not there.
pub fn create_private_directory(path: &Path) -> Result<(), FileError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(FileError::at("create", path))
}

/// Whether anything has this name, also a link that leads nowhere, or what cannot be looked at.
pub fn is_taken(path: &Path) -> bool {
    !matches!(path.symlink_metadata(), Err(error) if error.kind() == ErrorKind::NotFound)
}

/// A private directory that gets its name when all that belongs in it is there. Dropped before, it is gone.
#[derive(Debug)]
pub struct NewDirectory {
    hidden: tempfile::TempDir,
    path: PathBuf,
}

impl NewDirectory {
    /// Begins one beside the path that it is to have, where nothing may be yet.
    pub fn begin(path: &Path) -> Result<Self, FileError> {
        let fail = |error| FileError::at("create", path)(error);
        if is_taken(path) {
            return Err(fail(ErrorKind::AlreadyExists.into()));
        }
        let parent = directory_of(path);
        create_private_directory(parent)?;
        let hidden = tempfile::Builder::new()
            .prefix(".countersign-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .tempdir_in(parent);
        Ok(Self {
            hidden: hidden.map_err(fail)?,
            path: path.to_owned(),
        })
    }

    /// Where to write meanwhile.
    pub fn hidden(&self) -> &Path {
        self.hidden.path()
    }

    /// Gives it its name, durably. A directory with anything in it is never replaced: `rename` refuses that.
    pub fn finish(self) -> Result<(), FileError> {
        rename(self.hidden.path(), &self.path)?;
        // Nothing of that name is left to remove.
        let _ = self.hidden.keep();
        Ok(())
    }
}

/// Makes a file in a directory and removes it again, to see whether that works.
pub fn try_writing(directory: &Path) -> Result<(), FileError> {
    let made = tempfile::Builder::new().prefix(".countersign-").tempfile_in(directory);
    made.map(drop).map_err(FileError::at("write in", directory))
}

/// Whether [`write()`] can replace what is at a path: nothing, or a file.
pub fn require_replaceable(path: &Path) -> Result<(), FileError> {
    match path.is_dir() {
        true => Err(FileError::at("write", path)(ErrorKind::IsADirectory.into())),
        false => Ok(()),
    }
}

/// Makes a new directory with a name of its own among the host's temporary files. It stays.
pub fn create_temporary_directory(prefix: &str) -> Result<PathBuf, FileError> {
    let made = tempfile::Builder::new().prefix(prefix).tempdir();
    made.map(tempfile::TempDir::keep)
        .map_err(FileError::at("create", Path::new(prefix)))
}

/// Removes a file; nothing there is fine.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(FileError::at("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The permission bits of a file, such as `0o600`.
pub fn permissions(path: &Path) -> Result<u32, FileError> {
    Ok(path.metadata().map_err(FileError::at("look at", path))?.mode() & 0o777)
}

/// The names in a directory, sorted; names that are not text are left out.
pub fn list(path: &Path) -> Result<Vec<String>, FileError> {
    let fail = |error| FileError::at("list", path)(error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(fail)? {
        names.extend(
            entry
                .map_err(|error| FileError::at("list", path)(error))?
                .file_name()
                .into_string(),
        );
    }
    names.sort();
    Ok(names)
}

/// An exclusive lock on a directory, held until dropped (or until the process ends, however it ends).
#[derive(Debug)]
pub struct DirectoryLock(#[expect(dead_code, reason = "held, not read: the lock goes with the open file")] File);

/// Why a directory is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("{} is in use by another countersign process: one process per directory", .0.display())]
    Held(PathBuf),
    /// The lock file cannot be made or locked.
    #[error(transparent)]
    File(#[from] FileError),
}

impl DirectoryLock {
    /// Whether [`create_private_directory`] and [`Self::take`] may work there, as far as that can be told without writing.
    pub fn could_be_taken(directory: &Path) -> Result<(), FileError> {
        use rustix::fs::{Access, AtFlags, CWD, accessat};
        let there = directory.ancestors().find(|path| path.exists());
        let nearest = match there {
            Some(path) if !path.as_os_str().is_empty() => path,
            _ => Path::new("."),
        };
        let fail = |error: std::io::Error| FileError::at("write in", nearest)(error);
        if !nearest.is_dir() {
            return Err(fail(ErrorKind::NotADirectory.into()));
        }
        accessat(CWD, nearest, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).map_err(|error| fail(error.into()))
    }

    /// Takes the lock, or says who stands in the way, without waiting.
    pub fn take(directory: &Path) -> Result<Self, LockError> {
        let path = directory.join(".lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(Mode::Secret as u32)
            .open(&path)
            .map_err(FileError::at("lock", &path))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LockError::Held(directory.to_owned())),
            Err(error) => Err(FileError::at("lock", &path)(error.into()).into()),
        }
    }
}
