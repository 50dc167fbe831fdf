//! Services by what requests usually call them, and what names of services are hashed with.

use alloc::boxed::Box;
use core::hash::{BuildHasher, Hasher};

use hashbrown::HashTable;

use crate::hpack::hash::hash;

/// The plainest spellings of authorities: lower case, the port as it is configured, or left out if it
/// is 80. What is spelled otherwise has to be normalized first.
///
/// The hash has no key: only the configuration adds names.
#[derive(Debug, Default)]
pub(crate) struct Spellings {
    services: HashTable<(Box<str>, u32)>,
}

impl Spellings {
    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.services.clear();
    }

    /// Adds a service by its normalized name.
    pub(crate) fn add(&mut self, name: &str, service: u32) {
        for spelling in [Some(name), name.strip_suffix(":80")].into_iter().flatten() {
            let entry = (Box::from(spelling), service);
            let hasher = |(name, _): &(Box<str>, u32)| hash(0, name.as_bytes());
            self.services.insert_unique(hash(0, spelling.as_bytes()), entry, hasher);
        }
    }

    /// The service that is spelled so.
    pub(crate) fn get(&self, authority: &[u8]) -> Option<u32> {
        let is_it = |(name, _): &(Box<str>, u32)| name.as_bytes() == authority;
        self.services.find(hash(0, authority), is_it).map(|&(_, service)| service)
    }
}

/// Hashes names of services. Without a key: only the configuration adds names.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ByName;

/// See [`ByName`].
#[derive(Debug)]
pub(crate) struct NameHasher(u64);

impl BuildHasher for ByName {
    type Hasher = NameHasher;
    fn build_hasher(&self) -> NameHasher {
        NameHasher(0)
    }
}

impl Hasher for NameHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash(self.0, bytes);
    }
    /// What the standard library puts behind a string: the same for all.
    #[inline]
    fn write_u8(&mut self, byte: u8) {
        self.0 ^= u64::from(byte);
    }
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::authority::normalize;
    use alloc::string::String;

    #[test]
    fn a_spelling_means_what_it_means_when_it_is_normalized() {
        let names = ["web.example:80", "web.example:8080", "[::1]:80", "10.0.0.1:443"];
        let mut spellings = Spellings::default();
        for (service, name) in names.iter().enumerate() {
            spellings.add(name, service as u32);
        }
        let (mut known, mut normalized) = (0, String::new());
        for spelling in [
            "web.example",
            "web.example:80",
            "web.example:8080",
            "web.example:080",
            "WEB.example",
            "web.example:",
            "web",
            "[::1]",
            "[::1]:80",
            "10.0.0.1",
            "10.0.0.1:443",
            "",
        ] {
            let Some(service) = spellings.get(spelling.as_bytes()) else { continue };
            normalize(spelling.as_bytes(), 80, &mut normalized).unwrap();
            assert_eq!(normalized, names[service as usize]);
            known += 1;
        }
        assert_eq!(known, 6);
    }
}
