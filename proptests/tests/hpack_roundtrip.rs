//! HPACK against itself, as the fuzz targets do it, with fewer and shrinking bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use selvedge_proptests::hpack::{hpack_decode, hpack_roundtrip};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn what_is_encoded_arrives(script in vec(any::<u8>(), 0..600)) {
        hpack_roundtrip(&script);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(choices in any::<[u8; 6]>(), block in vec(any::<u8>(), 0..300)) {
        hpack_decode(&[&choices[..], &block].concat());
    }
}
