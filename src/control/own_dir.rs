//! A directory that nobody else may write to, and files in it that no link leads elsewhere.
//!
//! The state decides where requests go, and whoever offers a takeover gets the sockets. So the directory must belong to
//! the user of this process or to root, and nobody else may write to it. Files are opened relative to the open
//! directory, whatever its path names later.
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fstat, fsync, lstat, openat, renameat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::fs::{DirBuilder, File};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

/// Of files that are made here.
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Write permission of the group and of everybody.
const FOR_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;
const ROOT: u32 = 0;

/// The open directory.
#[derive(Debug)]
pub(super) struct OwnDir(OwnedFd);

/// Why a directory is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Others may change what is in it: whose it is, and what to do.
    #[error("{0}")]
    Shared(String),
}

impl OwnDir {
    /// Makes the directory where needed, with mode 0700, and opens it.
    pub(super) fn make(path: &Path) -> Result<Self, Unfit> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Self::open(path)
    }

    /// Opens one that exists.
    pub(super) fn open(path: &Path) -> Result<Self, Unfit> {
        refuse_link_of_another(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(rustix::fs::CWD, path, flags, Mode::empty()).map_err(io::Error::from)?;
        let stat = fstat(&dir).map_err(io::Error::from)?;
        match why_shared(stat.st_uid, stat.st_mode, geteuid().as_raw(), path) {
            Some(why) => Err(Unfit::Shared(why)),
            None => Ok(Self(dir)),
        }
    }

    /// Is it what this path names now?
    pub(super) fn is_at(&self, path: &Path) -> io::Result<bool> {
        let (own, there) = (fstat(&self.0)?, rustix::fs::stat(path)?);
        Ok((own.st_dev, own.st_ino) == (there.st_dev, there.st_ino))
    }

    /// Was it removed?
    pub(super) fn is_gone(&self) -> io::Result<bool> {
        Ok(fstat(&self.0)?.st_nlink == 0)
    }

    /// Opens a file for reading and writing, and makes it where needed.
    pub(super) fn file(&self, name: &str) -> io::Result<File> {
        self.checked(openat(&self.0, name, OFlags::RDWR | OFlags::CREATE | SAFE, PRIVATE), name)
    }

    /// Makes a file anew. What stands there under its name is removed.
    pub(super) fn fresh(&self, name: &str) -> io::Result<File> {
        match unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | SAFE;
        self.checked(openat(&self.0, name, flags, PRIVATE), name)
    }

    /// The bytes of a file; `None`: there is none.
    pub(super) fn read(&self, name: &str, longest: u64) -> io::Result<Option<Vec<u8>>> {
        let opened = openat(&self.0, name, OFlags::RDONLY | SAFE, Mode::empty());
        if opened.as_ref().err() == Some(&Errno::NOENT) {
            return Ok(None);
        }
        let (file, mut bytes) = (self.checked(opened, name)?, Vec::new());
        if file.take(longest + 1).read_to_end(&mut bytes)? as u64 > longest {
            return Err(io::Error::other(format!("it is longer than {longest} bytes")));
        }
        Ok(Some(bytes))
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.0, from, &self.0, to)?)
    }

    /// Has the names of files survive a loss of power.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(fsync(&self.0)?)
    }

    #[expect(clippy::unused_self, reason = "only files of this directory are checked")]
    fn checked(&self, opened: rustix::io::Result<OwnedFd>, name: &str) -> io::Result<File> {
        let file = opened.map_err(|error| match error {
            Errno::LOOP => io::Error::other(format!("`{name}` in it is a link; remove it")),
            error => error.into(),
        })?;
        let stat = fstat(&file)?;
        if !is_plain(&stat) {
            return Err(io::Error::other(format!("`{name}` in it is not a plain file; remove it")));
        }
        if !is_trusted(stat.st_uid, geteuid().as_raw()) {
            let owner = stat.st_uid;
            let why = format!("`{name}` in it belongs to user {owner}; remove it");
            return Err(io::Error::other(why));
        }
        Ok(file.into())
    }
}

/// Links are not followed, and a pipe does not hold up whoever opens it.
const SAFE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

fn is_plain(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// Whoever owns a link decides where it leads.
fn refuse_link_of_another(path: &Path) -> Result<(), Unfit> {
    let stat = lstat(path).map_err(io::Error::from)?;
    let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    if !is_link || is_trusted(stat.st_uid, geteuid().as_raw()) {
        return Ok(());
    }
    let why = format!(
        "is a link that belongs to user {}: set `state: {{dir: …}}` to the directory itself",
        stat.st_uid
    );
    Err(Unfit::Shared(why))
}

/// Root may change everything anyway.
pub(super) fn is_trusted(user: u32, ours: u32) -> bool {
    user == ours || user == ROOT
}

/// Why others may change what is in a directory; `None`: they may not.
fn why_shared(owner: u32, mode: u32, ours: u32, path: &Path) -> Option<String> {
    let path = path.display();
    if !is_trusted(owner, ours) {
        return Some(format!(
            "belongs to user {owner}, and Evener runs as user {ours}: `chown {ours} {path}`, or set `state: {{dir: …}}` \
             to another directory"
        ));
    }
    let others = match mode & FOR_OTHERS {
        0 => return None,
        0o020 => "its group",
        _ => "everybody",
    };
    let mend = if mode & STICKY != 0 || owner != ours {
        format!("set `state: {{dir: {path}/evener}}`, which Evener makes for itself")
    } else {
        format!("`chmod go-w {path}`")
    };
    Some(format!("may be written to by {others} (mode {:o}): {mend}", mode & 0o7777))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn others_must_not_be_able_to_write() {
        let why = |owner, mode, ours| why_shared(owner, mode, ours, Path::new("/s"));
        for (owner, mode, ours) in [(7, 0o700, 7), (7, 0o755, 7), (0, 0o755, 7), (0, 0o700, 0)] {
            assert_eq!(why(owner, mode, ours), None, "{owner} {mode:o} {ours}");
        }
        for (owner, mode, ours, said) in [
            (8, 0o700, 7, "belongs to user 8, and Evener runs as user 7: `chown 7 /s`"),
            (8, 0o700, 0, "belongs to user 8, and Evener runs as user 0: `chown 0 /s`"),
            (7, 0o775, 7, "may be written to by its group (mode 775): `chmod go-w /s`"),
            (7, 0o702, 7, "may be written to by everybody (mode 702): `chmod go-w /s`"),
            (0, 0o1777, 0, "by everybody (mode 1777): set `state: {dir: /s/evener}`"),
            (0, 0o2770, 7, "by its group (mode 2770): set `state: {dir: /s/evener}`"),
        ] {
            let why = why(owner, mode, ours).unwrap();
            assert!(why.contains(said), "{why}");
        }
    }

    #[test]
    fn a_directory_is_made_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let dir = OwnDir::make(&path).unwrap();
        dir.file("f").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("f"))), (0o700, 0o600));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(OwnDir::make(&path), Err(Unfit::Shared(_))));
    }

    #[test]
    fn links_and_pipes_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let precious = folder.path().join("precious");
        fs::write(&precious, "precious").unwrap();
        let path = folder.path().join("d");
        let dir = OwnDir::make(&path).unwrap();
        symlink(&precious, path.join("link")).unwrap();
        assert!(dir.file("link").unwrap_err().to_string().contains("is a link"));
        assert!(dir.read("link", 100).unwrap_err().to_string().contains("is a link"));
        dir.fresh("link").unwrap();
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        rustix::fs::mknodat(&dir.0, "pipe", FileType::Fifo, PRIVATE, 0).unwrap();
        assert!(dir.read("pipe", 100).unwrap_err().to_string().contains("not a plain file"));
    }

    #[test]
    fn a_link_to_a_directory_is_followed_if_nobody_else_made_it() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        OwnDir::make(&real).unwrap();
        symlink(&real, &link).unwrap();
        OwnDir::make(&link).unwrap();
        // Only root can give it to somebody else.
        if geteuid().as_raw() == ROOT {
            std::os::unix::fs::lchown(&link, Some(4242), None).unwrap();
            let Unfit::Shared(why) = OwnDir::make(&link).unwrap_err() else { unreachable!() };
            assert!(why.contains("a link that belongs to user 4242"), "{why}");
        }
    }

    #[test]
    fn a_file_is_read_up_to_a_length() {
        let folder = tempfile::tempdir().unwrap();
        let dir = OwnDir::make(&folder.path().join("d")).unwrap();
        assert_eq!(dir.read("f", 3).unwrap(), None);
        fs::write(folder.path().join("d/f"), "four").unwrap();
        assert_eq!(dir.read("f", 4).unwrap().unwrap(), b"four");
        assert!(dir.read("f", 3).is_err());
    }
}
