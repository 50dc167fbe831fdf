//! Sees that the mesh file changed: by in-place writes, by another file renamed over it, or by a
//! symbolic link on the way to it that leads elsewhere (a mounted ConfigMap).
//!
//! It looks, several times a second, instead of being told: that works on every file system and
//! for every way of replacing a file, and costs one `stat` a look.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Watches one file. [`Watch::poll`] is to be called every [`Watch::INTERVAL`].
#[derive(Debug)]
pub(crate) struct Watch {
    path: PathBuf,
    stamp: Option<Stamp>,
    /// Looks that still read the file although its stamp stays the same.
    rereads: u32,
    /// What the last look read and the one before did not: perhaps half of a file.
    unstable: Option<Reading>,
    /// What the caller knows.
    known: Reading,
    /// The last text that the caller was given.
    text: String,
}

/// What reading the file gave: its text, or why it has none.
type Reading = Result<String, String>;

/// What can be told about a file without reading it. Any way of changing the content changes this,
/// but for a second write within the resolution of the file system's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    /// Changes too when `modified` is set back.
    changed: (i64, i64),
}

impl Watch {
    /// How often to look. A change is reported by the second look that sees it, so that a file is
    /// not read while it is being written.
    pub(crate) const INTERVAL: Duration = Duration::from_millis(250);

    /// After a change the file is read again for this many looks (2 s) whatever its stamp says:
    /// the coarsest clock that file systems stamp with has that resolution (FAT).
    const REREADS: u32 = 8;

    /// Watches a file that `text` was read from. `None` if it is no regular file: a pipe can be
    /// read once only.
    pub(crate) fn new(path: &Path, text: String) -> Option<Self> {
        let is_file = fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
        is_file.then(|| Watch {
            path: path.into(),
            // Unknown, so that the first look reads: it may have changed since `text` was read.
            stamp: None,
            rereads: Self::REREADS,
            unstable: None,
            known: Ok(text.clone()),
            text,
        })
    }

    /// Looks. Returns a new text once, or once why there is none to be read any more.
    pub(crate) fn poll(&mut self) -> Option<Result<String, String>> {
        let stamp = Stamp::of(&self.path).ok();
        if stamp != self.stamp {
            self.stamp = stamp;
            self.rereads = Self::REREADS;
        }
        self.rereads = self.rereads.checked_sub(1)?;
        let reading = fs::read_to_string(&self.path).map_err(|error| error.to_string());
        if reading == self.known {
            self.unstable = None;
            return None;
        }
        if self.unstable.as_ref() != Some(&reading) {
            self.unstable = Some(reading);
            // It takes another look to know.
            self.rereads = self.rereads.max(1);
            return None;
        }
        self.unstable = None;
        self.known.clone_from(&reading);
        match &reading {
            // It is back as it was.
            Ok(text) if *text == self.text => return None,
            Ok(text) => self.text.clone_from(text),
            Err(_) => {}
        }
        Some(reading)
    }
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests;
