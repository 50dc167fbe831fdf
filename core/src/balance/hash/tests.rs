//! Golden vectors: what all proxies of all versions agree on.

use super::*;

/// The first of those that SipHash's authors published, under their key: this is the hash that it is
/// said to be.
#[test]
#[expect(deprecated, reason = "see `hash`")]
fn it_is_siphash_2_4() {
    let key = |from: u8| u64::from_le_bytes(core::array::from_fn(|nth| from + nth as u8));
    let input: [u8; 15] = core::array::from_fn(|nth| nth as u8);
    let of = |bytes: &[u8]| {
        let mut hasher = core::hash::SipHasher::new_with_keys(key(0), key(8));
        hasher.write(bytes);
        hasher.finish()
    };
    assert_eq!(of(&[]), 0x726f_db47_dd0e_0e31);
    assert_eq!(of(&input), 0xa129_ca61_49be_45e5);
}

#[test]
fn hashes_never_change() {
    let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
    let expected = [
        0xf602_e862_aea0_9892,
        0xb9f5_68e0_8c66_5232,
        0xb4ab_553a_8eb9_4912,
        0xf05e_cceb_18f0_3e5a,
        0x142f_a499_304e_c7c5,
        0xad22_7de3_8af7_b51d,
        0x1807_36f2_7da9_6af1,
        0xc7eb_c4ad_c2ed_df77,
    ];
    let hashes = [
        endpoint_key(b""),
        endpoint_key(b"ada"),
        service_key(b"ada"),
        member_name(addr("10.0.0.1:80"), None),
        member_name(addr("10.0.0.1:4143"), Some(80)),
        member_name(addr("[2001:db8::1]:80"), None),
        service_name("web.example:80"),
        point(1, 2),
    ];
    assert_eq!(hashes, expected);
}

#[test]
fn an_address_has_one_name_however_it_is_written() {
    let name = |text: &str| member_name(text.parse().unwrap(), None);
    assert_eq!(name("10.0.0.1:80"), name("[::ffff:10.0.0.1]:80"));
    assert_ne!(name("10.0.0.1:80"), name("10.0.0.1:81"));
}
