//! An authority that lives in a folder: `ca.crt` and `ca.key`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rcgen::KeyPair;
use zeroize::Zeroizing;

use super::{Authority, write_certificates};

/// The certificate of a folder's authority.
pub(super) const CERTIFICATE: &str = "ca.crt";
/// Its key.
pub(super) const KEY: &str = "ca.key";

impl Authority {
    /// Where the certificate is that [`Authority::load`] reads: its proxies trust all in it.
    pub fn certificate_file(folder: &Path) -> PathBuf {
        folder.join(CERTIFICATE)
    }

    /// Makes a new authority in `folder`, which is made too if it is missing.
    ///
    /// # Errors
    /// A sentence that names the file: one is there already, or cannot be written.
    pub fn init(folder: &Path, trust_domain: &str, now: SystemTime) -> Result<Self, String> {
        let (authority, _, key) =
            Self::generate(trust_domain, now).map_err(|error| error.to_string())?;
        let key = Zeroizing::new(key);
        let (certificate_file, key_file) = (folder.join(CERTIFICATE), folder.join(KEY));
        for file in [&certificate_file, &key_file] {
            // A link that leads nowhere is there too.
            if fs::symlink_metadata(file).is_ok() {
                return Err(format!("{}: is there already, nothing was written", file.display()));
            }
        }
        let failed = |file: &Path, error: io::Error| format!("{}: {error}", file.display());
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)
            .map_err(|error| failed(folder, error))?;
        write_new(&key_file, 0o600, key.as_bytes()).map_err(|error| failed(&key_file, error))?;
        let certificate = write_certificates(authority.anchors());
        write_new(&certificate_file, 0o644, certificate.as_bytes()).map_err(|error| {
            // A key without a certificate is no use, and in the way of the next attempt.
            let _ = fs::remove_file(&key_file);
            failed(&certificate_file, error)
        })?;
        Ok(authority)
    }

    /// Reads the authority of a folder.
    ///
    /// # Errors
    /// A sentence that names the file and what was expected.
    pub fn load(folder: &Path) -> Result<Self, String> {
        let (certificate_file, key_file) = (folder.join(CERTIFICATE), folder.join(KEY));
        let key = read_key(&key_file)
            .map_err(|why| format!("{}: {why}", key_file.display()))
            .and_then(|pem| {
                KeyPair::from_pem(&pem)
                    .map_err(|error| format!("{}: no private key: {error}", key_file.display()))
            })?;
        let located = |why: String| format!("{}: {why}", certificate_file.display());
        let certificate = fs::read_to_string(&certificate_file);
        let certificate = certificate.map_err(|error| located(error.to_string()))?;
        Authority::of_pem(&certificate, key).map_err(|why| located(why.to_string()))
    }
}

/// The text of a key file that nobody but its owner can read.
fn read_key(path: &Path) -> Result<Zeroizing<String>, String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    // Of what was opened, and not of what is there by now.
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("expected a regular file".into());
    }
    let mode = metadata.mode() & 0o7777;
    if mode & !0o600 != 0 {
        return Err(format!(
            "its mode is {mode:04o}, expected 0600 or less: others may have read it (chmod 600)"
        ));
    }
    // At once, so that no half of it stays behind in a buffer that grew.
    let mut text = Zeroizing::new(String::with_capacity(metadata.len() as usize + 1));
    file.read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

/// Writes a file that was not there before. Its mode is never wider than `mode`.
fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}
