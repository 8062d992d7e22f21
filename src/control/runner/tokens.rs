//! Following the file of the keys that sign tokens: new ones count within a second, and a broken file changes nothing.
use super::Runner;
use crate::config::read_jwks;
use crate::observe::Level;
use crate::table::Sight;

impl Runner {
    /// Looks at the file. Called by the second: a small file costs less than a watch of its folder.
    pub(super) fn follow_token_keys(&self) {
        let access = self.core.table().access.as_ref();
        let Some(jwt) = access.and_then(|access| access.jwt.as_ref()) else { return };
        let file = jwt.file.display();
        let tell = |level, message| self.started.events.tell(level, "keys", message, "file", None);
        let announce = |message| tell(Level::Info, message);
        let read = read_jwks(&jwt.file);
        match jwt.seen(read.as_ref().err().map(String::as_str)) {
            Sight::Broken(why) => {
                tell(
                    Level::Warning,
                    format!("`jwt.keys` cannot be used, the old keys hold: {why}"),
                );
            }
            Sight::Mended => announce(format!("`{file}` can be used again")),
            Sight::AsBefore => {}
        }
        if let Ok(keys) = read
            && keys != *jwt.jwks()
        {
            let n = keys.0.len();
            jwt.trust(keys);
            let s = if n == 1 { "" } else { "s" };
            announce(format!("`{file}` was read again: tokens are verified by {n} key{s}"));
        }
    }
}
