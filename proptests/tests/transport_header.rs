//! The transport header, as the fuzz target does it, with fewer and shrinking bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use selvedge_core::tls::transport_header::PROTOCOL;
use selvedge_proptests::transport_header::transport_header;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn what_is_written_is_read(choices in vec(any::<u8>(), 0..300)) {
        transport_header(&[&[255], &choices[..]].concat());
    }

    #[test]
    fn any_message_is_read_or_refused(message in vec(any::<u8>(), 0..60), more in 0_u8..3) {
        let length = message.len() as u32 - u32::from(more).min(message.len() as u32);
        let parts: [&[u8]; 5] = [&[0], PROTOCOL, b"\r\n\r\n", &length.to_be_bytes(), &message];
        transport_header(&parts.concat());
    }
}
