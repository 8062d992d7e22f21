//! Could the state be written now? Found out without writing, so that it can be asked every second.
use super::state::{FILE, FRESH, StateDir};
use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};
use rustix::process::geteuid;
use std::fs;
use std::io;
use std::path::Path;

/// Bytes that a file system must have left: more than the state takes, as long as there are few canaries.
const ROOM: u64 = 256 << 10;

impl StateDir {
    /// An error says why a save would fail.
    pub(super) fn check(&mut self) -> io::Result<()> {
        let path = self.path().to_owned();
        let kind = fs::metadata(&path)?;
        if !kind.is_dir() {
            return Err(io::Error::other(format!("{} is not a directory", path.display())));
        }
        if !self.dir().is_at(&path)? {
            let shown = path.display();
            let why = format!("{shown} is another directory now than the one that Evener opened");
            return Err(io::Error::other(why));
        }
        access(&path, Access::WRITE_OK | Access::EXEC_OK)?;
        has_room(&path)?;
        let fresh = path.join(FRESH);
        if fs::symlink_metadata(&fresh).is_ok_and(|found| found.is_dir()) {
            return Err(io::Error::other(format!("{} is a directory", fresh.display())));
        }
        // Somebody took the file away: what is in it must be written again.
        if self.has_written() && !fs::exists(path.join(FILE))? {
            self.forget_written();
        }
        Ok(())
    }
}

fn has_room(path: &Path) -> io::Result<()> {
    let system = statvfs(path)?;
    if system.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(io::ErrorKind::ReadOnlyFilesystem.into());
    }
    // What is kept back for root is there for root. Some file systems tell no sizes.
    let free = if geteuid().is_root() { system.f_bfree } else { system.f_bavail };
    if system.f_blocks > 0 && free.saturating_mul(system.f_frsize) < ROOM {
        return Err(io::ErrorKind::StorageFull.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Overrides;

    #[test]
    fn a_folder_that_is_gone_or_in_the_way_is_found_before_a_save() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let mut state = StateDir::open(&path).unwrap();
        state.save(&Overrides::default()).unwrap();
        state.check().unwrap();
        fs::create_dir(path.join(FRESH)).unwrap();
        assert!(state.check().unwrap_err().to_string().ends_with("state.json.new is a directory"));
        fs::remove_dir_all(&path).unwrap();
        assert_eq!(state.check().unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::create_dir(&path).unwrap();
        assert!(state.check().unwrap_err().to_string().contains("state is another directory now"));
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(state.check().unwrap_err().to_string().ends_with("state is not a directory"));
    }

    #[test]
    fn a_file_that_was_taken_away_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = StateDir::open(dir.path()).unwrap();
        state.save(&Overrides::default()).unwrap();
        fs::remove_file(dir.path().join(FILE)).unwrap();
        state.check().unwrap();
        state.save(&Overrides::default()).unwrap();
        assert!(dir.path().join(FILE).exists());
    }
}
