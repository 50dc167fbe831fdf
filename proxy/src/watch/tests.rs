use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A directory of its own for one test, gone with it.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("selvedge-watch-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A watched file with this text, after enough looks that only the stamp is looked at.
fn settled(path: &Path, text: &str) -> Watch {
    let mut watch = Watch::new(path, text.into()).unwrap();
    for _ in 0..=Watch::REREADS {
        assert_eq!(watch.poll(), None);
    }
    assert_eq!(watch.rereads, 0);
    watch
}

/// A change is reported by the second look, once.
#[track_caller]
fn sees(watch: &mut Watch, expected: &str) {
    assert_eq!(watch.poll(), None);
    assert_eq!(watch.poll(), Some(Ok(expected.into())));
    assert_eq!(watch.poll(), None);
}

#[test]
fn in_place_writes_are_seen() {
    let dir = Dir::new();
    let path = dir.file("mesh.toml");
    fs::write(&path, "one").unwrap();
    let mut watch = settled(&path, "one");
    fs::write(&path, "three").unwrap();
    sees(&mut watch, "three");
    fs::write(&path, "five").unwrap();
    sees(&mut watch, "five");
}

#[test]
fn a_write_that_keeps_length_and_time_is_seen() {
    let dir = Dir::new();
    let path = dir.file("mesh.toml");
    fs::write(&path, "one").unwrap();
    let mut watch = settled(&path, "one");
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "two").unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
    sees(&mut watch, "two");
}

#[test]
fn a_second_write_with_the_same_stamp_is_seen() {
    let dir = Dir::new();
    let path = dir.file("mesh.toml");
    fs::write(&path, "one").unwrap();
    let mut watch = settled(&path, "one");
    fs::write(&path, "two").unwrap();
    sees(&mut watch, "two");
    fs::write(&path, "six").unwrap();
    // As a file system with a coarse clock would have it.
    watch.stamp = Stamp::of(&path).ok();
    sees(&mut watch, "six");
}

#[test]
fn a_file_renamed_over_it_is_seen() {
    let dir = Dir::new();
    let path = dir.file("mesh.toml");
    fs::write(&path, "one").unwrap();
    let mut watch = settled(&path, "one");
    let next = dir.file("next");
    fs::write(&next, "two").unwrap();
    fs::rename(&next, &path).unwrap();
    sees(&mut watch, "two");
}

/// As the kubelet does it: `mesh.toml` → `..data/mesh.toml`, `..data` → a directory, and a new
/// `..data` is renamed over the old one.
#[test]
fn a_config_map_swap_is_seen() {
    let dir = Dir::new();
    let path = dir.file("mesh.toml");
    for (name, text) in [("..1", "one"), ("..2", "two")] {
        fs::create_dir(dir.file(name)).unwrap();
        fs::write(dir.file(name).join("mesh.toml"), text).unwrap();
    }
    symlink("..1", dir.file("..data")).unwrap();
    symlink("..data/mesh.toml", &path).unwrap();
    let mut watch = settled(&path, "one");
    symlink("..2", dir.file("..data_tmp")).unwrap();
    fs::rename(dir.file("..data_tmp"), dir.file("..data")).unwrap();
    fs::remove_dir_all(dir.file("..1")).unwrap();
    sees(&mut watch, "two");
}

#[test]
fn a_file_that_is_still_being_written_is_waited_for() {
    let dir = Dir::new();
    let path = dir.file("mesh.toml");
    fs::write(&path, "one").unwrap();
    let mut watch = settled(&path, "one");
    fs::write(&path, "").unwrap();
    assert_eq!(watch.poll(), None);
    fs::write(&path, "tw").unwrap();
    assert_eq!(watch.poll(), None);
    fs::write(&path, "two").unwrap();
    sees(&mut watch, "two");
}

#[test]
fn what_changed_before_the_first_look_is_seen() {
    let dir = Dir::new();
    let path = dir.file("mesh.toml");
    fs::write(&path, "two").unwrap();
    let mut watch = Watch::new(&path, "one".into()).unwrap();
    sees(&mut watch, "two");
}

#[test]
fn a_touched_file_is_no_change() {
    let dir = Dir::new();
    let path = dir.file("mesh.toml");
    fs::write(&path, "one").unwrap();
    let mut watch = settled(&path, "one");
    fs::write(&path, "one").unwrap();
    for _ in 0..4 {
        assert_eq!(watch.poll(), None);
    }
}

#[test]
fn a_missing_file_is_said_once_and_its_return_is_seen() {
    let dir = Dir::new();
    let path = dir.file("mesh.toml");
    fs::write(&path, "one").unwrap();
    let mut watch = settled(&path, "one");
    let missing = |watch: &mut Watch| {
        fs::remove_file(&path).unwrap();
        assert_eq!(watch.poll(), None);
        assert!(matches!(watch.poll(), Some(Err(why)) if why.contains("No such file")));
        for _ in 0..2 * Watch::REREADS {
            assert_eq!(watch.poll(), None);
        }
    };
    missing(&mut watch);
    // The same text again is not news.
    fs::write(&path, "one").unwrap();
    for _ in 0..4 {
        assert_eq!(watch.poll(), None);
    }
    missing(&mut watch);
    fs::write(&path, "two").unwrap();
    sees(&mut watch, "two");
}

#[test]
fn what_is_no_regular_file_is_not_watched() {
    assert!(Watch::new(Path::new("/dev/null"), String::new()).is_none());
}
